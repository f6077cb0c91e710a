"""The exact posterior of a linear model with Gaussian noise: what every approximation must hit."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from gnuq.networks import Architecture, Prior
from gnuq.problems import Problem


@dataclass(frozen=True)
class LinearPosterior:
    """N(μ, Σ) over the weights of a linear model, bias last: the order of `module.parameters()`.

    Attributes:
        mean: μ, shape (P,).
        covariance: Σ, shape (P, P).
    """

    mean: Float[Tensor, " parameters"]
    covariance: Float[Tensor, "parameters parameters"]


def conjugate_posterior(
    architecture: Architecture, problem: Problem, prior: Prior
) -> LinearPosterior:
    """Bayesian linear regression: Σ = (ΦᵀΦ/σ² + Λ)⁻¹ and μ = ΣΦᵀy/σ², with Φ = (x, 1).

    Args:
        architecture: no hidden layer, one output.
        problem: a regression problem; its noise σ is known.
        prior: Λ, the prior precisions.

    Raises:
        ValueError: the model is not linear, the task not regression, or the inputs do not fit.

    Source:
        Bishop (2006), Pattern Recognition and Machine Learning, Eq. (3.50) and (3.51), with one
        prior precision per weight.
    """
    if problem.task != "regression":
        raise ValueError(f"problem: {problem.name!r} is {problem.task}; give a regression problem.")
    points, dimensions = problem.inputs.shape
    if architecture != Architecture(dimensions, (), 1):
        raise ValueError(
            f"architecture: {architecture}; only Architecture({dimensions}, (), 1), a linear "
            f"model of {problem.name!r}, has a posterior in closed form."
        )
    design = torch.cat([problem.inputs, torch.ones(points, 1, dtype=torch.float64)], 1)
    precision = design.mT @ design / problem.noise**2 + torch.diag(prior.precisions(architecture))
    covariance = torch.cholesky_inverse(torch.linalg.cholesky(precision))
    return LinearPosterior(covariance @ design.mT @ problem.targets / problem.noise**2, covariance)
