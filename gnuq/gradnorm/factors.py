"""Inner products of per-example gradients, without ever multiplying the gradients out.

An inner product of two gradients (their shapes: `gnuq.gradnorm.shapes`) needs only a matrix over
pairs of tokens, M[t, s]:

    Outer·Outer    ⟨a_t, a_s⟩ ⟨δ_t, δ_s⟩       Rows·Rows  [id_t = id_s] ⟨δ_t, δ_s⟩
    Rows·Outer     ⟨δ_t, a_s⟩ ε_s[id_t]        (ε: the output gradients of the outer factor)
    Routed·Routed  [expert_t = expert_s] ⟨a_t, a_s⟩ ⟨δ_t, δ_s⟩, summed over the slots
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from gnuq.gradnorm.shapes import Dense, Factor, Outer, Routed, Rows, Tokens, widen

__all__ = [
    "Dense",
    "Factor",
    "Outer",
    "Routed",
    "Rows",
    "Tokens",
    "cross",
    "inner",
    "shares",
    "squared_norm",
    "total_norm",
    "widen",
]


def squared_norm(factor: Factor) -> Float[Tensor, " batch"]:
    """‖G_b‖² for every example."""
    return inner(factor, factor)


def total_norm(uses: list[Factor]) -> Float[Tensor, " batch"]:
    """‖Σ_u G_u‖² of one parameter's gradient over its uses u, cross terms included."""
    total = torch.stack([squared_norm(f) for f in uses]).sum(0)
    for i, f in enumerate(uses):
        for g in uses[:i]:
            total = total + 2 * inner(f, g)
    return total


def inner(f: Factor, g: Factor) -> Float[Tensor, " batch"]:
    """⟨F_b, G_b⟩ for every example b, two gradients of the same parameter."""
    factored = _factored_together(f, g)
    if factored and not _multiplying_out_is_cheaper(f, g):
        return _summed_pairs(f, g)
    if factored and isinstance(f, Routed) and isinstance(g, Routed):
        return _expert_by_expert(f, g)
    return torch.linalg.vecdot(f.dense(), g.dense())


def _expert_by_expert(f: Routed, g: Routed) -> Float[Tensor, " batch"]:
    """The sum over experts: no more than one expert's gradient is ever multiplied out."""
    total = f.inputs.values.new_zeros(len(f.experts))
    for expert in set(f.used).intersection(g.used):
        part = f.part(expert)
        total = total + inner(part, part if g is f else g.part(expert))
    return total


def shares(uses: list[Factor]) -> list[Float[Tensor, " batch *positions"]]:
    """How much each token of each use adds to `total_norm`; together they make it.

    The share of token t is its own gradient's inner product with the whole gradient. A use whose
    tokens cannot be told apart counts as one token; one with several dimensions of positions
    (tokens and heads, say) keeps them.
    """
    routed = [f for f in uses if isinstance(f, Routed)]
    if len(routed) == len(uses) and len({f.count for f in routed}) == 1:
        return [_against_parts(f, lambda expert: _whole_part(routed, expert)) for f in routed]
    whole = torch.stack([f.dense() for f in uses]).sum(0)
    return [_against_whole(f, whole) for f in uses]


def _whole_part(uses: list[Routed], expert: int) -> Float[Tensor, "batch parameters"]:
    """One expert's gradient, multiplied out and summed over the uses."""
    return torch.stack([f.part(expert).dense() for f in uses if expert in f.used]).sum(0)


def _against_parts(f: Routed, whole: Callable[[int], Tensor]) -> Float[Tensor, "batch tokens"]:
    """The shares of a routed factor's tokens, given the whole gradient of each expert."""
    found = f.inputs.values.new_zeros(len(f.experts), f.experts[0].numel())
    for expert in f.used:
        pairs, _ = f.sent(expert)
        found.scatter_add_(1, pairs, _against_whole(f.part(expert), whole(expert)))
    return found.reshape(f.experts.shape).sum(2)


def _against_whole(f: Factor, whole: Float[Tensor, "batch parameters"]) -> Tensor:
    batch = whole.shape[0]
    match f:
        case Outer():
            a, delta = f.inputs.values, f.outputs.values
            matrix = whole.reshape(batch, delta.shape[-1], a.shape[-1])
            return torch.linalg.vecdot(delta @ matrix, a)
        case Rows():
            table = whole.reshape(batch, f.rows, -1)
            index = f.ids[..., None].expand(-1, -1, table.shape[-1])
            return torch.linalg.vecdot(table.gather(1, index), f.outputs.values)
        case Routed():
            table = whole.reshape(batch, f.count, -1)
            return _against_parts(f, lambda expert: table[:, expert])
        case Dense():
            parts = f.gradient.values if f.parts is None else f.parts
            return torch.einsum("b...p,bp->b...", parts, whole)


def cross(f: Factor, g: Factor) -> Float[Tensor, "batch other"]:
    """⟨F_b, G_c⟩ for every example b of one batch and c of another."""
    if not _factored_together(f, g):
        return f.dense() @ g.dense().mT
    pairs = _pairs(f.flat(), g.flat())[0]
    return pairs.reshape(-1, f.tokens, pairs.shape[1] // g.tokens, g.tokens).sum((1, 3))


def _factored_together(f: Factor, g: Factor) -> bool:
    """Whether `_pairs` knows the two shapes; a dense gradient must be met by a dense one."""
    if isinstance(f, Routed) and isinstance(g, Routed):
        return f.count == g.count  # grouped convolutions may share a weight in other groups
    alone = Dense | Routed
    return type(f) is type(g) or not (isinstance(f, alone) or isinstance(g, alone))


def _multiplying_out_is_cheaper(f: Factor, g: Factor) -> bool:
    """For long sequences the product (outputs × inputs) is smaller than the pairs of tokens."""
    if not isinstance(f, Outer | Routed) or not isinstance(g, Outer | Routed):
        return False
    inputs, outputs = f.inputs.values.shape[-1], f.outputs.values.shape[-1]
    mine, theirs = _terms(f), _terms(g)
    gram = mine * theirs * (inputs + outputs)
    return mine > 1 and gram > (mine + theirs) * inputs * outputs / 2


def _terms(f: Outer | Routed) -> int:
    """How many outer products an example's gradient is the sum of."""
    return f.tokens if isinstance(f, Outer) else f.tokens * f.experts.shape[2]


def _pairs(f: Factor, g: Factor) -> Float[Tensor, "batch tokens others"]:
    """M[t, s], the contribution of token t of `f` and token s of `g` to the inner product."""
    match f, g:
        case Outer(), Outer():
            return f.inputs.against(g.inputs) * f.outputs.against(g.outputs)
        case Dense(), Dense():
            return f.gradient.against(g.gradient)
        case Rows(), Rows():
            return (f.ids[:, :, None] == g.ids[:, None, :]) * f.outputs.against(g.outputs)
        case Routed(), Routed():
            return _routed_pairs(f, g)
        case Rows(), Outer():
            index = f.ids[:, None, :].expand(-1, g.tokens, -1)
            return f.outputs.against(g.inputs) * g.outputs.values.gather(2, index).mT
        case Outer(), Rows():
            return _pairs(g, f).mT
    raise TypeError(f"no factored product of {type(f).__name__} and {type(g).__name__}.")


def _summed_pairs(f: Factor, g: Factor) -> Float[Tensor, " batch"]:
    """Σ_t Σ_s M[t, s], for two outer products without M."""
    if isinstance(f, Outer) and isinstance(g, Outer):
        a, delta = f.inputs.against(g.inputs), f.outputs.against(g.outputs)
        return torch.linalg.vecdot(a.flatten(1), delta.flatten(1))
    return _pairs(f, g).sum((1, 2))


def _routed_pairs(f: Routed, g: Routed) -> Float[Tensor, "batch tokens others"]:
    """Both sides' inner products, summed over the slots that went to the same expert."""

    def by_slot(x: Tokens, y: Tokens) -> Float[Tensor, "batch tokens mine others theirs"]:
        found = x.against(y)
        mine, theirs = found.shape[1] // f.tokens, found.shape[2] // g.tokens
        return found.reshape(-1, f.tokens, mine, g.tokens, theirs)

    known = (f.experts >= 0) & (f.experts < f.count)
    met = (f.experts[..., None, None] == g.experts[:, None, None]) & known[..., None, None]
    return (by_slot(f.inputs, g.inputs) * by_slot(f.outputs, g.outputs) * met).sum((2, 4))
