"""What a pass returns: squared norms by parameter, or all gradients in factored form."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from gnuq.gradnorm.factors import Factor, cross, total_norm


@dataclass(frozen=True)
class GradientNorms:
    """Squared gradient norms of one batch.

    Attributes:
        values: the objective itself, shape (batch,) or (batch, K).
        by_parameter: ‖∂s_b/∂θ_j‖² for each parameter tensor j that the forward pass used, by
            name, each shaped like `values`. Unit: the objective's unit squared, per parameter
            unit squared. At least float32.
    """

    values: Float[Tensor, " batch *objectives"]
    by_parameter: dict[str, Float[Tensor, " batch *objectives"]]

    @property
    def total(self) -> Float[Tensor, " batch *objectives"]:
        """‖∇_θ s_b‖² over all parameters, shaped like `values`."""
        return torch.stack(list(self.by_parameter.values())).sum(0)

    def by_group(self, group: Callable[[str], str]) -> dict[str, Tensor]:
        """Sums over groups of parameters, which `group` names; together they make the total."""
        sums: dict[str, Tensor] = {}
        for name, norm in self.by_parameter.items():
            key = group(name)
            sums[key] = sums[key] + norm if key in sums else norm
        return sums

    def by_module(self) -> dict[str, Tensor]:
        """Sums over the modules that own the parameters, by module name."""
        return self.by_group(lambda name: name.rpartition(".")[0])


@dataclass(frozen=True)
class GradientFactors:
    """All per-example gradients of one batch, in factored form: for inner products.

    Attributes:
        values: the objective, shape (batch,) or (batch, K).
        factors: for each objective k, each parameter's gradient as a list of factors (one for
            each use of the parameter); a parameter without influence is absent.
        sizes: number of entries of every parameter tensor of the model, in its order.
    """

    values: Float[Tensor, " batch *objectives"]
    factors: list[dict[str, list[Factor]]]
    sizes: dict[str, int]

    def kernel(
        self, other: GradientFactors, scale: Mapping[str, float] | None = None
    ) -> Float[Tensor, "rows columns"]:
        """K[(b, k), (c, l)] = ⟨∇s_bk, ∇s'_cl⟩, the gradient (neural tangent) kernel.

        Args:
            other: factors of another batch through the same model, or this very object.
            scale: weight of each parameter tensor in the inner product, by name (a prior's
                variances, for instance); all 1 if omitted.

        Returns:
            Shape (batch·K, batch'·K'), examples slowest.

        Raises:
            ValueError: `other` is of another model, or `scale` lacks a parameter.
        """
        if self.sizes != other.sizes:
            raise ValueError("other: its factors are of a model with other parameters.")
        weight = self._weights(scale)
        blank = self.values.new_zeros(len(self.values), len(other.values))
        blocks = [
            torch.stack([_block(mine, theirs, weight, blank) for theirs in other.factors], -1)
            for mine in self.factors
        ]
        return torch.stack(blocks, 1).flatten(0, 1).flatten(1)  # (batch, K), (batch', K')

    def squared_norms(
        self, scale: Mapping[str, float] | None = None
    ) -> Float[Tensor, " batch *objectives"]:
        """The kernel's diagonal, Σ_j scale_j ‖∂s_b/∂θ_j‖², shaped like `values`."""
        weight = self._weights(scale)
        total = torch.zeros_like(self.values)
        for name, norm in self.squared_norms_by_parameter().items():
            total = total + weight[name] * norm
        return total

    def squared_norms_by_parameter(self) -> dict[str, Float[Tensor, " batch *objectives"]]:
        """‖∂s_b/∂θ_j‖² of every parameter tensor j that has influence, shaped like `values`."""
        names = dict.fromkeys(name for one in self.factors for name in one)
        blank = self.values.new_zeros(len(self.values))
        columns = {
            name: [total_norm(one[name]) if name in one else blank for one in self.factors]
            for name in names
        }
        return {n: torch.stack(c, 1).reshape(self.values.shape) for n, c in columns.items()}

    def jacobian(self) -> Float[Tensor, "rows parameters"]:
        """The gradients multiplied out, for small models only.

        Returns:
            Shape (batch·K, P), columns in the order of `model.parameters()`.
        """
        return torch.stack([self._dense(one) for one in self.factors], 1).flatten(0, 1)

    def _dense(self, one: dict[str, list[Factor]]) -> Tensor:
        columns = [
            torch.stack([f.dense() for f in one[name]]).sum(0)
            if name in one
            else self.values.new_zeros(len(self.values), size)
            for name, size in self.sizes.items()
        ]
        return torch.cat(columns, 1)

    def _weights(self, scale: Mapping[str, float] | None) -> Mapping[str, float]:
        if scale is None:
            return dict.fromkeys(self.sizes, 1.0)
        if missing := [name for name in self.sizes if name not in scale]:
            raise ValueError(f"scale: it lacks {', '.join(missing)}; name every parameter.")
        return scale


def _block(
    mine: dict[str, list[Factor]],
    theirs: dict[str, list[Factor]],
    weight: Mapping[str, float],
    blank: Tensor,
) -> Tensor:
    """The kernel of one objective against another: the sum over pairs of uses."""
    terms = [
        weight[name] * cross(f, g)
        for name in mine
        if name in theirs
        for f in mine[name]
        for g in theirs[name]
    ]
    return torch.stack(terms).sum(0) if terms else blank
