"""Eq. (1) and (2): total uncertainty and its two parts, from posterior draws."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from gnuq.estimators.delta import check_probabilities


@dataclass(frozen=True)
class Decomposition:
    """Total uncertainty and its two parts; `total = aleatoric + epistemic` holds exactly."""

    total: Tensor
    aleatoric: Tensor
    epistemic: Tensor


def entropy_decomposition(
    probabilities: Float[Tensor, "draws *batch classes"],
) -> Decomposition:
    """Eq. (1), §2.2: H[E p] = E H[p] + I(y; θ), from posterior draws.

    Args:
        probabilities: class probabilities of every draw, summing to one over the last dimension.

    Returns:
        Entropies in nats, shape (*batch,); the epistemic part is the mutual information.

    Raises:
        ValueError: values that are not probabilities, or fewer than two draws.
    """
    _check_draws(probabilities)
    if probabilities.ndim < 2:
        raise ValueError(
            "probabilities: give draws along the first, classes along the last dimension."
        )
    if not torch.allclose(probabilities.sum(-1), probabilities.new_ones(()), atol=1e-4):
        raise ValueError("probabilities: they do not sum to one over the last dimension.")
    total = torch.special.entr(probabilities.mean(0)).sum(-1)
    aleatoric = torch.special.entr(probabilities).sum(-1).mean(0)
    return Decomposition(total, aleatoric, total - aleatoric)


def label_wise_decomposition(probabilities: Float[Tensor, " draws *batch"]) -> Decomposition:
    """Eq. (2), §2.2: p̄(1 − p̄) = E[p(1 − p)] + Var[p], for every class by itself.

    Args:
        probabilities: probability of one class, or of each class, for every posterior draw.

    Returns:
        Bernoulli variances, shape (*batch,); the epistemic part is the variance over the draws
        (divided by their number, so that the sum is exact).

    Raises:
        ValueError: values that are not probabilities, or fewer than two draws.
    """
    _check_draws(probabilities)
    mean = probabilities.mean(0)
    epistemic = probabilities.var(0, correction=0)
    return Decomposition(mean * (1 - mean), mean * (1 - mean) - epistemic, epistemic)


def _check_draws(probabilities: Tensor) -> None:
    check_probabilities(probabilities)
    if probabilities.shape[0] < 2:
        raise ValueError("probabilities: give at least two posterior draws along dimension 0.")
