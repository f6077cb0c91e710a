"""Rules for layers of the transformers package: GPT-2's linear layer, mixtures of experts.

Notation: a_t the layer's input at token t, δ_t the objective's gradient at the layer's output.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from gnuq.gradnorm import verified
from gnuq.gradnorm.factors import Dense, Factor, Outer, Routed, Tokens, widen
from gnuq.gradnorm.rules import (
    Backward,
    embedding,
    embedding_output,
    leading,
    linear,
    linear_output,
    rule,
)


def _transposed_output(module: Any, a: Tensor) -> Tensor:
    return leading(a) @ module.weight + module.bias


@rule("transformers.pytorch_utils.Conv1D", "weight", "bias", output=_transposed_output)
def transposed_linear(module: Any, a: Tensor) -> Backward:
    """y_t = Wᵀ a_t + b, W of shape (inputs, outputs):  ∇W = Σ_t a_t δ_tᵀ,  ∇b = Σ_t δ_t."""
    inputs = Tokens.of(a)

    def backward(delta: Tensor) -> dict[str, Factor]:
        outputs = Tokens.of(delta)
        bias = Dense(outputs) if delta.ndim == 2 else Dense.over(delta)
        return {"weight": Outer(outputs, inputs), "bias": bias}  # on vectors both need ‖δ‖²

    return backward


def _scaled_output(module: Any, ids: Tensor) -> Tensor:
    return embedding_output(module, ids) * module.embed_scale.to(module.weight.dtype)


@rule(
    "transformers.models.gemma3.modeling_gemma3.Gemma3TextScaledWordEmbedding",
    "weight",
    output=_scaled_output,
)
def scaled_embedding(module: Any, ids: Tensor) -> Backward:
    """y_t = s W[id_t]:  row v of ∇W is s Σ_{t: id_t = v} δ_t; the padding row receives nothing."""
    exact = embedding(module, ids)
    return lambda delta: exact(delta * module.embed_scale.to(module.weight.dtype))


rule(
    "transformers.models.falcon.modeling_falcon.FalconLinear",
    "weight",
    "bias",
    output=linear_output,
)(linear)


def experts(module: Any, hidden: Tensor, index: Tensor, weights: Tensor) -> Backward:
    """y_t = Σ_j w_tj D_e g(U_e a_t), e = e_tj:  ∇D_e = Σ δ_t (w_tj h_tj)ᵀ,  ∇U_e = Σ ε_tj a_tᵀ.

    The sums go over the tokens and slots (t, j) that expert e gets, h_tj = g(U_e a_t) is the gate's
    output, and ε_tj = w_tj g′(U_e a_t)ᵀ D_eᵀ δ_t. Both are computed anew, in each expert over the
    tokens that it gets, whichever implementation ran forward.
    """
    _as_assumed(module, hidden, index, weights)
    batch, slots = len(hidden), index.shape[-1]
    index, weights = index.reshape(batch, -1, slots), weights.reshape(batch, -1, slots)
    inputs = Tokens.of(hidden)

    def backward(delta: Tensor) -> dict[str, Factor]:
        gated, before = _recomputed(module, hidden, index, weights, delta)
        count = len(module.down_proj)
        return {
            "gate_up_proj": Routed(index, inputs, Tokens(before.unflatten(0, (batch, -1))), count),
            "down_proj": Routed(
                index, Tokens(gated.unflatten(0, (batch, -1))), Tokens.of(delta), count
            ),
        }

    return backward


def _as_assumed(module: Any, hidden: Tensor, index: Tensor, weights: Tensor) -> None:
    up, down = module.gate_up_proj, module.down_proj
    count, features, width = down.shape
    if up.shape != (count, 2 * width, features) or hidden.shape[-1] != features:
        raise NotImplementedError("its weights have other shapes than its rule assumes")
    if index.is_floating_point() or not index.shape == weights.shape:
        raise NotImplementedError("it must be called with hidden states, expert numbers, weights")
    if up.device != hidden.device:
        raise NotImplementedError("its weights were moved away after the call; keep them in place")


def _recomputed(
    module: Any, hidden: Tensor, index: Tensor, weights: Tensor, delta: Tensor
) -> tuple[Float[Tensor, "pairs width"], Float[Tensor, "pairs twice_width"]]:
    """w_tj h_tj and ε_tj for every pair of token and slot, zero where it leads nowhere."""
    count, features, width = module.down_proj.shape
    a, delta = hidden.reshape(-1, features), delta.reshape(-1, features)
    index, weights = index.flatten(), weights.reshape(-1, 1)
    slots = len(index) // len(a)
    gated = widen(a).new_zeros(len(index), width)
    before = widen(a).new_zeros(len(index), 2 * width)
    used, sizes = index.unique(return_counts=True)
    for expert, pairs in zip(used.tolist(), index.argsort().split(sizes.tolist()), strict=True):
        if not 0 <= expert < count:
            continue
        token, weight = pairs // slots, weights[pairs]
        found = _through(module, expert, a[token], delta[token] * weight)
        gated[pairs], before[pairs] = widen(found[0]) * widen(weight), widen(found[1])
    return gated, before


def _through(module: Any, expert: int, a: Tensor, delta: Tensor) -> tuple[Tensor, Tensor]:
    """One expert's h and ε, given its inputs and the gradients at its outputs."""
    up, down = module.gate_up_proj[expert].detach(), module.down_proj[expert].detach()
    with torch.enable_grad():
        before = F.linear(a.to(up.dtype), up).requires_grad_()
        gated = _gate(module, before)
    (found,) = torch.autograd.grad(gated, before, delta.to(down.dtype) @ down)
    return gated.detach(), found


def _gate(module: Any, before: Tensor) -> Tensor:
    """The class's own gate, or the usual one: activation times the other half."""
    if hasattr(module, "_apply_gate"):
        gated: Tensor = module._apply_gate(before)
        return gated
    gate, up = before.chunk(2, dim=-1)
    return module.act_fn(gate) * up


for name in verified.EXPERTS:
    rule(verified.full_name(name), "gate_up_proj", "down_proj", arguments=3)(experts)
