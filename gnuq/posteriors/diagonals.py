"""Gradients weighted parameter by parameter, Σ_i d_i g_i², at any width.

For one linear layer an example's gradient is δaᵀ, and the weights d have the layer's shape D, so

    Σ_ij D_ij (δ_i a_j)² = (δ²)ᵀ D (a²),

a bilinear form: the P gradients of an example are never multiplied out. It serves the diagonal of
Eqs. (5)–(7) on networks of a million parameters.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from gnuq.gradnorm import GradientFactors
from gnuq.gradnorm.shapes import Factor, Outer


def diagonal_form(
    gradients: GradientFactors, diagonal: Float[Tensor, " parameters"]
) -> Float[Tensor, " batch *objectives"]:
    """Σ_i d_i g_i² for every example and objective.

    Args:
        gradients: of a model that uses each parameter once, one vector an example.
        diagonal: d, in the order of `model.parameters()`.

    Returns:
        Shaped like `gradients.values`.

    Raises:
        ValueError: the diagonal has another length than the model.
    """
    if len(diagonal) != sum(gradients.sizes.values()):
        total = sum(gradients.sizes.values())
        raise ValueError(f"diagonal: {len(diagonal)} entries for {total} parameters.")
    pieces = dict(zip(gradients.sizes, diagonal.split(list(gradients.sizes.values())), strict=True))
    columns = [
        torch.stack([_weighted(uses[0], pieces[name]) for name, uses in one.items()]).sum(0)
        for one in gradients.factors
    ]
    return torch.stack(columns, 1).reshape(gradients.values.shape)


def _weighted(factor: Factor, weights: Float[Tensor, " entries"]) -> Float[Tensor, " batch"]:
    if isinstance(factor, Outer) and factor.tokens == 1:
        a, delta = factor.inputs.values[:, 0].square(), factor.outputs.values[:, 0].square()
        return torch.linalg.vecdot(delta @ weights.reshape(delta.shape[1], a.shape[1]), a)
    return factor.dense().square() @ weights
