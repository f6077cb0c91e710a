"""Proxy covariances (§3.1, Appendix A): a Fisher matrix from data that are not the training data.

The Fisher matrix of a set of examples is F = Σ_i s_i s_iᵀ, one score s = ∇_θ log p(y | x; θ*) per
label counted:

    observed    y is the label of example i: the *empirical* Fisher
    predicted   the average over y ~ p(· | x_i; θ*), rows √p_y ∇ log p_y: the *true* Fisher, which
                for a logit or softmax likelihood is the generalised Gauss–Newton matrix

and the proxy covariance is (F + λI)⁻¹, or diag(F + λI)⁻¹. With `reduction="mean"` F is divided by
the number of examples, so that λ weighs that many times more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import torch
from jaxtyping import Bool
from torch import Tensor
from torch.nn import functional as F

from gnuq.gradnorm import GradientFactors, gradient_factors
from gnuq.networks import MapFit, Prior
from gnuq.posteriors.laplace import DiagonalLaplace, DualLaplace
from gnuq.problems import Problem

Labels = Literal["observed", "predicted"]
Reduction = Literal["sum", "mean"]


def subset(problem: Problem, chosen: Bool[Tensor, " points"]) -> Problem:
    """The chosen training points of a problem: what a proxy corpus holds.

    Raises:
        ValueError: no point is chosen, or the mask is of another length.
    """
    if chosen.dtype != torch.bool or chosen.shape != problem.targets.shape:
        raise ValueError(f"chosen: give one truth value for each of {len(problem.targets)} points.")
    if not bool(chosen.any()):
        raise ValueError("chosen: it picks no point; a proxy needs at least one.")
    return replace(problem, inputs=problem.inputs[chosen], targets=problem.targets[chosen])


def full_fisher(
    fit: MapFit,
    proxy: Problem,
    prior: Prior,
    *,
    labels: Labels = "observed",
    reduction: Reduction = "sum",
) -> DualLaplace:
    """(F + λI)⁻¹ with the full Fisher matrix of the proxy data, in the dual form.

    Args:
        fit: the network at the mode, trained on data of its own.
        proxy: the data that the Fisher matrix sees; a classification problem.
        prior: its precision is λ.
        labels: which labels the scores are taken at.
        reduction: whether scores are summed over the proxy data, or averaged.

    Raises:
        ValueError: a regression problem, or an unknown `labels` or `reduction`.

    Source:
        Appendix A, "the Laplace approximation using" either proxy Hessian; A.1 uses "the model's
        own predictive distribution", which is `labels="predicted"`.
    """
    variances = prior.variances(fit.network)
    rows = scores(fit, proxy, labels, reduction)
    kernel = rows.kernel(rows, variances)
    identity = torch.eye(len(kernel), dtype=kernel.dtype)
    cholesky = torch.linalg.cholesky(identity + (kernel + kernel.mT) / 2)
    return DualLaplace(fit.network, variances, rows, cholesky)


def diagonal_fisher(
    fit: MapFit,
    proxy: Problem,
    prior: Prior,
    *,
    labels: Labels = "observed",
    reduction: Reduction = "sum",
) -> DiagonalLaplace:
    """The same with the Fisher matrix's diagonal: d̂_j = 1 / (F_jj + λ), the D̂ of Eq. (5)."""
    rows = scores(fit, proxy, labels, reduction).jacobian()
    precision = prior.precisions_of(fit.network) + rows.square().sum(0)
    return DiagonalLaplace(fit.network, 1 / precision)


def scores(fit: MapFit, proxy: Problem, labels: Labels, reduction: Reduction) -> GradientFactors:
    """The rows U of a Fisher matrix, F = UᵀU, as gradients in factored form.

    Args and errors as for `full_fisher`.

    Returns:
        One row per example (observed labels), or one per example and class (predicted).
    """
    if proxy.task == "regression":
        raise ValueError(f"proxy: {proxy.name!r} is a regression; a proxy needs class labels.")
    if reduction not in ("sum", "mean"):
        raise ValueError(f"reduction: {reduction!r} is neither 'sum' nor 'mean'.")
    weight = 1.0 if reduction == "sum" else len(proxy.targets) ** -0.5
    return gradient_factors(fit.network, proxy.inputs, _log_likelihood(proxy, labels, weight))


def _log_likelihood(proxy: Problem, labels: Labels, weight: float) -> Callable[[Tensor], Tensor]:
    """Outputs to the log-probabilities whose gradients are the rows, in nats, times `weight`."""

    def objective(outputs: Tensor) -> Tensor:
        # The two classes' logits are −f and f, halved since only their difference counts.
        logits = torch.cat([-outputs, outputs], 1) / 2 if proxy.task == "binary" else outputs
        logs = weight * F.log_softmax(logits, 1)
        if labels == "predicted":
            return logs * logits.detach().softmax(1).sqrt()
        return logs.gather(1, proxy.targets[:, None])[:, 0]

    if labels not in ("observed", "predicted"):
        raise ValueError(f"labels: {labels!r} is neither 'observed' nor 'predicted'.")
    return objective
