"""A rule for experts that get their tokens sorted: all tokens of the first, all of the second, …

Notation: a_te what expert e gets of token t, zero if the token is not sent there; δ_te the
objective's gradient at what the expert returns for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from gnuq.gradnorm.factors import Factor, Routed, Tokens, widen
from gnuq.gradnorm.rules import Backward, rule


@rule(
    "transformers.models.llama4.modeling_llama4.Llama4TextExperts",
    "gate_up_proj",
    "down_proj",
    whole=True,
)
def sorted_experts(module: Any, x: Tensor, *, batch: int) -> Backward:
    """y_te = D_eᵀ g(U_eᵀ a_te):  ∇D_e = Σ_t g(U_eᵀ a_te) δ_teᵀ,  ∇U_e = Σ_t a_te ε_teᵀ.

    ε_te = g′(U_eᵀ a_te)ᵀ D_e δ_te, g the gate: the activated half times the other. Both weights are
    stored transposed, (experts, inputs, outputs).
    """
    up, down = widen(module.gate_up_proj.detach()), widen(module.down_proj.detach())
    count = len(up)
    if up.shape[-1] != 2 * down.shape[1] or len(x) % (count * batch):
        raise NotImplementedError("its weights or inputs have other shapes than its rule assumes")
    a = widen(x).view(count, -1, x.shape[-1])
    with torch.enable_grad():
        before = torch.bmm(a, up).requires_grad_()
        gate, other = before.chunk(2, -1)
        gated = other * module.act_fn(gate)

    def backward(deltas: Mapping[int, Tensor]) -> dict[str, Factor]:
        delta = widen(deltas[0]).view(count, -1, x.shape[-1])
        (inner,) = torch.autograd.grad(gated, before, delta @ down.mT, retain_graph=True)
        index = torch.arange(count, device=x.device).repeat(batch, a.shape[1] // batch, 1)

        def by_example(values: Float[Tensor, "experts rows features"]) -> Tokens:
            tokens = values.detach().unflatten(1, (batch, -1)).permute(1, 2, 0, 3)
            return Tokens(tokens.flatten(1, 2))

        return {
            "gate_up_proj": Routed(index, by_example(inner), by_example(a), count),
            "down_proj": Routed(index, by_example(delta), by_example(gated), count),
        }

    return backward
