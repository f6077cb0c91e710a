"""Per-example gradients kept as factors, and their inner products without ever multiplying out.

The gradient of example b with respect to one parameter is a sum over that example's tokens t
(positions, pixels; one token for a plain vector). Three shapes cover every layer kind:

    Outer   Σ_t δ_t a_tᵀ                a linear map: inputs a, output gradients δ
    Rows    Σ_t e[id_t] δ_tᵀ            a table look-up: row id_t receives δ_t
    Dense   the gradient itself          biases, norm layers, and the generic fallback

An inner product of two gradients needs only a matrix over pairs of tokens, M[t, s]:

    Outer·Outer  ⟨a_t, a_s⟩ ⟨δ_t, δ_s⟩      Rows·Rows  [id_t = id_s] ⟨δ_t, δ_s⟩
    Rows·Outer   ⟨δ_t, a_s⟩ ε_s[id_t]       (ε: the output gradients of the outer factor)
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor


def widen(x: Tensor) -> Tensor:
    """`x` in float32 if it is a half-precision tensor, whose squares would underflow."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


@dataclass(frozen=True)
class Tokens:
    """One vector a token, shape (batch, tokens, features), with a cached Gram matrix."""

    values: Float[Tensor, "batch tokens features"]

    @classmethod
    def of(cls, x: Float[Tensor, " batch *positions features"]) -> Tokens:
        """All dimensions between the first and the last become one of tokens."""
        return cls(widen(x).reshape(x.shape[0], -1, x.shape[-1]))

    @cached_property
    def gram(self) -> Float[Tensor, "batch tokens tokens"]:
        """⟨x_t, x_s⟩ for every pair of tokens of an example."""
        if self.values.shape[1] == 1:  # one pass over the memory, where a product takes two
            return torch.linalg.vector_norm(self.values, dim=-1).square()[..., None]
        return self.values @ self.values.mT

    def against(self, other: Tokens) -> Float[Tensor, "batch tokens others"]:
        """⟨x_t, y_s⟩ for every pair of tokens of an example."""
        if other is self:
            return self.gram
        if self.values.shape[1] == other.values.shape[1] == 1:
            return torch.linalg.vecdot(self.values, other.values)[..., None]
        return self.values @ other.values.mT

    def flat(self) -> Tokens:
        """All tokens of all examples as those of one example."""
        return Tokens(self.values.reshape(1, -1, self.values.shape[-1]))


@dataclass(frozen=True)
class Outer:
    """Σ_t δ_t a_tᵀ, a gradient of shape (outputs, inputs)."""

    inputs: Tokens
    outputs: Tokens

    @property
    def tokens(self) -> int:
        """Tokens per example."""
        return self.inputs.values.shape[1]

    def flat(self) -> Outer:
        """The tokens of all examples as those of one."""
        return Outer(self.inputs.flat(), self.outputs.flat())

    def dense(self) -> Float[Tensor, "batch parameters"]:
        """The gradient multiplied out, row-major."""
        return (self.outputs.values.mT @ self.inputs.values).flatten(1)


@dataclass(frozen=True)
class Rows:
    """Σ_t e[id_t] δ_tᵀ, a gradient of shape (rows, features)."""

    ids: Int[Tensor, "batch tokens"]
    outputs: Tokens
    rows: int

    @property
    def tokens(self) -> int:
        """Tokens per example."""
        return self.ids.shape[1]

    def flat(self) -> Rows:
        """The tokens of all examples as those of one."""
        return Rows(self.ids.reshape(1, -1), self.outputs.flat(), self.rows)

    def dense(self) -> Float[Tensor, "batch parameters"]:
        """The gradient multiplied out, row-major."""
        values = self.outputs.values
        table = values.new_zeros(values.shape[0], self.rows, values.shape[-1])
        index = self.ids[..., None].expand_as(values)
        return table.scatter_add_(1, index, values).flatten(1)


@dataclass(frozen=True)
class Dense:
    """The gradient itself, flattened, as the one token that is left of the sum.

    Attributes:
        gradient: shape (batch, 1, parameters).
        parts: what each token added to it, shape (batch, tokens, parameters), if the rule knows.
    """

    gradient: Tokens
    parts: Tensor | None = None

    @classmethod
    def of(cls, gradient: Float[Tensor, " batch *shape"]) -> Dense:
        """Flatten everything but the batch."""
        return cls(Tokens(widen(gradient).flatten(1)[:, None]))

    @classmethod
    def over(cls, parts: Float[Tensor, " batch *positions_and_shape"], kept: int = 1) -> Dense:
        """Sum over the positions, every dimension between the first and the last `kept`."""
        spread = widen(parts).reshape(parts.shape[0], -1, parts.shape[-kept:].numel())
        return cls(Tokens(spread.sum(1, keepdim=True)), spread)

    @property
    def tokens(self) -> int:
        """One: the sum over tokens has been taken."""
        return 1

    def flat(self) -> Dense:
        """The gradients of all examples as tokens of one."""
        return Dense(self.gradient.flat())

    def dense(self) -> Float[Tensor, "batch parameters"]:
        """The gradient."""
        return self.gradient.values[:, 0]


Factor = Outer | Rows | Dense


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
    if _multiplying_out_is_cheaper(f, g) or not _factored_together(f, g):
        return torch.linalg.vecdot(f.dense(), g.dense())
    return _pairs(f, g).sum((1, 2))


def shares(uses: list[Factor]) -> list[Float[Tensor, "batch tokens"]]:
    """How much each token of each use adds to `total_norm`; together they make it.

    The share of token t is its own gradient's inner product with the whole gradient. A use whose
    tokens cannot be told apart counts as one token.
    """
    whole = torch.stack([f.dense() for f in uses]).sum(0)
    return [_against_whole(f, whole) for f in uses]


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
        case Dense():
            parts = f.gradient.values if f.parts is None else f.parts
            return (parts @ whole[..., None])[..., 0]


def cross(f: Factor, g: Factor) -> Float[Tensor, "batch other"]:
    """⟨F_b, G_c⟩ for every example b of one batch and c of another."""
    if not _factored_together(f, g):
        return f.dense() @ g.dense().mT
    pairs = _pairs(f.flat(), g.flat())[0]
    return pairs.reshape(-1, f.tokens, pairs.shape[1] // g.tokens, g.tokens).sum((1, 3))


def _factored_together(f: Factor, g: Factor) -> bool:
    """Whether `_pairs` knows the two shapes; a dense gradient must be met by a dense one."""
    return isinstance(f, Dense) == isinstance(g, Dense)


def _multiplying_out_is_cheaper(f: Factor, g: Factor) -> bool:
    """For long sequences the product (outputs × inputs) is smaller than the pairs of tokens."""
    if not (isinstance(f, Outer) and isinstance(g, Outer)):
        return False
    inputs, outputs = f.inputs.values.shape[-1], f.outputs.values.shape[-1]
    gram = f.tokens * g.tokens * (inputs + outputs)
    return f.tokens > 1 and gram > (f.tokens + g.tokens) * inputs * outputs / 2


def _pairs(f: Factor, g: Factor) -> Float[Tensor, "batch tokens others"]:
    """M[t, s], the contribution of token t of `f` and token s of `g` to the inner product."""
    match f, g:
        case Outer(), Outer():
            return f.inputs.against(g.inputs) * f.outputs.against(g.outputs)
        case Dense(), Dense():
            return f.gradient.against(g.gradient)
        case Rows(), Rows():
            return (f.ids[:, :, None] == g.ids[:, None, :]) * f.outputs.against(g.outputs)
        case Rows(), Outer():
            index = f.ids[:, None, :].expand(-1, g.tokens, -1)
            return f.outputs.against(g.inputs) * g.outputs.values.gather(2, index).mT
        case Outer(), Rows():
            return _pairs(g, f).mT
    raise TypeError(f"no factored product of {type(f).__name__} and {type(g).__name__}.")
