"""Rules for recurrent layers: every weight is a linear map that each step passes through.

Notation: x_t a layer's input at step t, h_t its hidden state; ε_t and η_t the gradients at
U x_t + b and at W h_{t−1} + c, which the layer's gates read. The recurrence is run anew, in plain
steps, and differentiated at these places: no kernel of a whole sequence tells them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from gnuq.gradnorm.factors import Dense, Factor, Outer, Tokens, widen
from gnuq.gradnorm.rules import Backward, rule

#: Layers beyond these go through the fallback.
MOST_LAYERS = 32
NAMES = tuple(
    f"{kind}_l{layer}{direction}"
    for layer in range(MOST_LAYERS)
    for direction in ("", "_reverse")
    for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
)

#: One step: from U x + b, W h + c and the state to the hidden state and the cell's (or itself).
Step = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class _Product:
    """One linear map of one layer and direction.

    Attributes:
        weight: the weight's name.
        bias: its bias's name, None without one.
        inputs: what it multiplied, shape (batch, steps, inputs).
        probe: zeros that were added to its results, shape (batch, steps, outputs).
    """

    weight: str
    bias: str | None
    inputs: Tensor
    probe: Tensor


@rule(nn.LSTM, *NAMES, arguments=3, whole=True)
@rule(nn.GRU, *NAMES, arguments=2, whole=True)
@rule(nn.RNN, *NAMES, arguments=2, whole=True)
def recurrent(module: nn.RNNBase, x: Tensor, *states: Tensor, batch: int) -> Backward:
    """h_t = g(U x_t + b, W h_{t−1} + c):  ∇U = Σ_t ε_t x_tᵀ,  ∇W = Σ_t η_t h_{t−1}ᵀ.

    ∇b = Σ_t ε_t and ∇c = Σ_t η_t. In an LSTM with projections also h_t = V m_t, so that
    ∇V = Σ_t δ_t m_tᵀ, δ_t the gradient at h_t.
    """
    if x.ndim != 3:
        raise NotImplementedError(
            "its input is packed or has no batch dimension; give it padded sequences"
        )
    rows = x.shape[0 if module.batch_first else 1]
    if rows != batch:
        raise NotImplementedError(
            f"it computes on {rows} rows where there are {batch} examples; set batch_first=True, "
            "or give every example a row of its own"
        )
    with torch.enable_grad():
        outputs, products = _run(module, x, states)

    def backward(deltas: Mapping[int, Tensor]) -> dict[str, Factor]:
        reached = [outputs[i] for i in deltas]
        probes = [product.probe for product in products]
        towards = [delta.to(y.dtype) for y, delta in zip(reached, deltas.values(), strict=True)]
        found = torch.autograd.grad(
            reached, probes, towards, retain_graph=True, materialize_grads=True
        )
        return dict(_gradients(products, found))

    return backward


def _gradients(products: list[_Product], found: tuple[Tensor, ...]) -> Iterator[tuple[str, Factor]]:
    for product, delta in zip(products, found, strict=True):
        yield product.weight, Outer(Tokens.of(product.inputs), Tokens.of(delta))
        if product.bias is not None:
            yield product.bias, Dense.over(delta)


def _run(
    module: nn.RNNBase, x: Tensor, states: tuple[Tensor, ...]
) -> tuple[list[Tensor], list[_Product]]:
    """The layer's outputs as it returns them, flattened, and all products on the way."""
    sequence = widen(x if module.batch_first else x.transpose(0, 1))
    products: list[_Product] = []
    last: list[tuple[Tensor, Tensor]] = []
    for layer in range(module.num_layers):
        both = []
        for direction in ("", "_reverse") if module.bidirectional else ("",):
            at = [widen(state[len(last)]) for state in states]
            hidden, end = _one(module, f"_l{layer}{direction}", sequence, at, products)
            both.append(hidden)
            last.append(end)
        sequence = torch.cat(both, -1)
    outputs = sequence if module.batch_first else sequence.transpose(0, 1)
    ends = [torch.stack(column) for column in zip(*last, strict=True)]
    return [outputs, *ends[: 2 if module.mode == "LSTM" else 1]], products


def _one(
    module: nn.RNNBase, suffix: str, x: Tensor, states: list[Tensor], products: list[_Product]
) -> tuple[Float[Tensor, "batch steps features"], tuple[Tensor, Tensor]]:
    """One layer in one direction: its hidden states, and the last hidden and cell state."""
    weights = _weights(module, suffix)
    start = _start(module, x, weights["weight_hh"].shape[1], states)
    given = F.linear(x, weights["weight_ih"], weights.get("bias_ih"))
    probes = {
        "ih": torch.zeros_like(given, requires_grad=True),
        "hh": torch.zeros_like(given, requires_grad=True),
        "hr": x.new_zeros(*x.shape[:2], start[0].shape[-1]).requires_grad_(),
    }
    steps = range(x.shape[1])[:: -1 if suffix.endswith("_reverse") else 1]
    (before, inner, after), end = _through(_step_of(module), weights, given, probes, start, steps)
    for kind, inputs in (("ih", x), ("hh", before), ("hr", inner)):
        if f"weight_{kind}" in weights:
            bias = f"bias_{kind}{suffix}" if f"bias_{kind}" in weights else None
            name = f"weight_{kind}{suffix}"
            products.append(_Product(name, bias, inputs.detach(), probes[kind]))
    return after, end


def _through(
    step: Step,
    weights: dict[str, Tensor],
    given: Tensor,
    probes: dict[str, Tensor],
    state: tuple[Tensor, Tensor],
    steps: range,
) -> tuple[list[Tensor], tuple[Tensor, Tensor]]:
    """The hidden states before each step, before and after their projection; the last state."""
    trace, (hidden, cell) = {}, state
    for t in steps:
        before = hidden
        recurrent = F.linear(before, weights["weight_hh"], weights.get("bias_hh"))
        arriving = given[:, t] + probes["ih"][:, t], recurrent + probes["hh"][:, t]
        inner, cell = step(*arriving, before, cell)
        hidden = inner
        if "weight_hr" in weights:
            hidden = F.linear(inner, weights["weight_hr"]) + probes["hr"][:, t]
        trace[t] = before, inner, hidden
    columns = zip(*(trace[t] for t in sorted(steps)), strict=True)
    return [torch.stack(column, 1) for column in columns], (hidden, cell)


def _start(
    module: nn.RNNBase, x: Tensor, width: int, states: list[Tensor]
) -> tuple[Tensor, Tensor]:
    """The hidden state and the cell's before the first step; zeros unless they were given."""
    if states:
        return states[0], states[-1]
    return x.new_zeros(len(x), width), x.new_zeros(len(x), module.hidden_size)


def _weights(module: nn.RNNBase, suffix: str) -> dict[str, Tensor]:
    kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
    found = {kind: module._parameters.get(kind + suffix) for kind in kinds}
    return {kind: widen(weight.detach()) for kind, weight in found.items() if weight is not None}


def _step_of(module: Any) -> Step:
    """The recurrence of the module's kind."""
    if module.mode == "LSTM":
        return _lstm
    if module.mode == "GRU":
        return _gru
    activation = torch.tanh if module.mode == "RNN_TANH" else torch.relu

    def plain(inputs: Tensor, recurrent: Tensor, _: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        return activation(inputs + recurrent), cell

    return plain


def _lstm(inputs: Tensor, recurrent: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """c′ = σ(f) c + σ(i) tanh(g),  h′ = σ(o) tanh(c′)."""
    i, f, g, o = (inputs + recurrent).chunk(4, -1)
    cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
    return o.sigmoid() * cell.tanh(), cell


def _gru(inputs: Tensor, recurrent: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """h′ = (1 − σ(z)) n + σ(z) h,  n = tanh(n_x + σ(r) n_h)."""
    (r, z, n), (r_h, z_h, n_h) = inputs.chunk(3, -1), recurrent.chunk(3, -1)
    update = (z + z_h).sigmoid()
    new = (n + (r + r_h).sigmoid() * n_h).tanh()
    return (1 - update) * new + update * hidden, cell
