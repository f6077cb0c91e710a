"""The linear-Gaussian problem, where every answer is known: HMC, Laplace and the delta method."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

from gnuq import protocol
from gnuq.estimators import delta_variance
from gnuq.gradnorm import gradient_factors
from gnuq.networks import fit_map
from gnuq.posteriors import laplace
from gnuq.posteriors.conjugate import conjugate_posterior
from gnuq.protocol import Experiment


def agreement(experiments: list[Experiment], *, stride: int = 20) -> pd.DataFrame:
    """The worst deviations from the exact posterior along the line, sampled anew.

    Args:
        experiments: regression problems fitted by a linear model.
        stride: use every `stride`-th position of the grid.

    Returns:
        One row per problem and data seed. For HMC the largest deviation of mean and variance in
        Monte Carlo standard errors, √(v / ESS) and v √(2 / ESS), the latter with the ESS of the
        squared deviations; for the mode, Laplace and the delta method the largest relative
        error, the mode's in posterior standard deviations.
    """
    rows = {(e.problem_name, e.seed): _deviations(e, stride) for e in experiments}
    return pd.DataFrame(rows).T.rename_axis(["problem", "data seed"])


def _deviations(experiment: Experiment, stride: int) -> dict[str, float]:
    problem, prior, points = experiment.problem, experiment.prior, experiment.grid.points[::stride]
    exact = conjugate_posterior(experiment.architecture, problem, prior)
    design = torch.cat([points, torch.ones_like(points)], 1)
    mean, variance = design @ exact.mean, ((design @ exact.covariance) * design).sum(1)
    fit = fit_map(experiment.architecture, problem, prior)
    curved = laplace.full_laplace(fit, problem, prior).variance(points, lambda f: f[:, 0])
    jacobian = gradient_factors(fit.network, points, lambda f: f[:, 0]).jacobian()
    delta = delta_variance(jacobian, exact.covariance)
    off = (fit.network(points)[:, 0] - mean).abs() / variance.sqrt()
    return _sampled(experiment, points, mean.numpy(), variance.numpy()) | {
        "mode": float(off.max()),
        "Laplace": float((curved / variance - 1).abs().max()),
        "delta method": float((delta / variance - 1).abs().max()),
    }


def _sampled(
    experiment: Experiment, points: torch.Tensor, mean: np.ndarray, variance: np.ndarray
) -> dict[str, float]:
    """HMC's deviations in Monte Carlo standard errors."""
    from gnuq.posteriors import diagnostics, hmc  # PyMC and JAX: seconds to import

    architecture, problem = experiment.architecture, experiment.problem
    draws = hmc.sample_posterior(architecture, problem, experiment.prior, protocol.SAMPLER)
    found = hmc.posterior_predictions(draws, architecture, problem, points)[..., 0]
    pooled = found.astype(np.float64).reshape(-1, len(points))
    effective = diagnostics.convergence(found).effective_samples
    squares = diagnostics.convergence((found - mean) ** 2).effective_samples
    off_mean = np.abs(pooled.mean(0) - mean) / np.sqrt(variance / effective)
    spread = ((pooled - mean) ** 2).mean(0)
    off_variance = np.abs(spread / variance - 1) / np.sqrt(2 / squares)
    return {"HMC, mean": float(off_mean.max()), "HMC, variance": float(off_variance.max())}
