"""The shapes in which a per-example gradient is kept, none of them multiplied out.

The gradient of example b with respect to one parameter is a sum over that example's tokens t
(positions, pixels; one token for a plain vector). Four shapes cover every layer kind:

    Outer   Σ_t δ_t a_tᵀ                a linear map: inputs a, output gradients δ
    Rows    Σ_t e[id_t] δ_tᵀ            a table look-up: row id_t receives δ_t
    Routed  Σ_t e[expert_t] ⊗ δ_t a_tᵀ  a stack of linear maps, each token through some of them
    Dense   the gradient itself          biases, norm layers, and the generic fallback
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def widen(x: Tensor) -> Tensor:
    """`x` in float32 if it is a half-precision tensor, whose squares would underflow."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def widest(x: Tensor) -> Tensor:
    """`x` in float64; in float32 on Apple's GPUs, which have no wider type."""
    return x.float() if x.device.type == "mps" else x.double()


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
        parts: what each position added to it, shape (batch, *positions, parameters), if the rule
            knows.
    """

    gradient: Tokens
    parts: Tensor | None = None

    @classmethod
    def of(cls, gradient: Float[Tensor, " batch *shape"]) -> Dense:
        """Flatten everything but the batch; a scalar parameter has one entry."""
        return cls(Tokens(widen(gradient).reshape(len(gradient), 1, -1)))

    @classmethod
    def over(cls, parts: Float[Tensor, " batch *positions_and_shape"], kept: int = 1) -> Dense:
        """Sum over the positions, every dimension between the first and the last `kept`."""
        spread = widen(parts).flatten(-kept) if kept > 1 else widen(parts)
        middle = tuple(range(1, spread.ndim - 1))
        summed = spread.sum(middle) if middle else spread
        return cls(Tokens(summed[:, None]), spread)

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


@dataclass(frozen=True)
class Routed:
    """Σ_{t,j} e[expert_tj] ⊗ δ_tj a_tjᵀ, a gradient of shape (experts, outputs, inputs).

    Attributes:
        experts: where slot j of token t goes; a number that is no expert's leads nowhere.
        inputs: a vector for every slot of every token, slots fastest; or one for every token,
            which all its slots share.
        outputs: likewise.
        count: how many experts there are.
    """

    experts: Int[Tensor, "batch tokens slots"]
    inputs: Tokens
    outputs: Tokens
    count: int

    @property
    def tokens(self) -> int:
        """Tokens per example."""
        return self.experts.shape[1]

    def flat(self) -> Routed:
        """The tokens of all examples as those of one."""
        experts = self.experts.reshape(1, -1, self.experts.shape[2])
        return Routed(experts, self.inputs.flat(), self.outputs.flat(), self.count)

    def dense(self) -> Float[Tensor, "batch parameters"]:
        """The gradient multiplied out, row-major."""
        a, delta = self.inputs.values, self.outputs.values
        stack = a.new_zeros(len(a), self.count, delta.shape[-1], a.shape[-1])
        for expert in self.used:
            stack[:, expert] = self.part(expert).dense().view_as(stack[:, expert])
        return stack.flatten(1)

    @cached_property
    def used(self) -> list[int]:
        """The experts that some token of some example goes to."""
        return [expert for expert, load in enumerate(self._loads) if load]

    def part(self, expert: int) -> Outer:
        """One expert's own sum, over the pairs of `sent`."""
        pairs, kept = self.sent(expert)
        return Outer(self._taken(self.inputs, pairs, kept), self._taken(self.outputs, pairs, kept))

    def sent(self, expert: int) -> tuple[Int[Tensor, "batch pairs"], Bool[Tensor, "batch pairs"]]:
        """Which pairs of token and slot go to an expert, counted slots fastest.

        Examples that send fewer than another are filled up; the second tensor says which count.
        """
        order, starts, sizes = self._sorted
        rank = torch.arange(self._loads[expert], device=order.device)
        last = order.shape[1] - 1
        pairs = order.gather(1, (starts[:, expert, None] + rank).clamp(max=last))
        return pairs, rank < sizes[:, expert, None]

    def _taken(self, side: Tokens, pairs: Tensor, kept: Tensor) -> Tokens:
        shared = self.experts[0].numel() // side.values.shape[1]
        index = (pairs // shared)[..., None].expand(-1, -1, side.values.shape[-1])
        return Tokens(side.values.gather(1, index) * kept[..., None])

    @cached_property
    def _sorted(self) -> tuple[Tensor, Tensor, Tensor]:
        """All pairs by expert; where each expert's begin; how many each has."""
        flat = self.experts.flatten(1)
        flat = flat.where((flat >= 0) & (flat < self.count), self.count)
        sizes = flat.new_zeros(len(flat), self.count + 1)
        sizes.scatter_add_(1, flat, torch.ones_like(flat))
        return flat.argsort(dim=1, stable=True), sizes.cumsum(1) - sizes, sizes

    @cached_property
    def _loads(self) -> list[int]:
        loads: list[int] = self._sorted[2][:, : self.count].amax(0).tolist()
        return loads


Factor = Outer | Rows | Routed | Dense
