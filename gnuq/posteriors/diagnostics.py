"""Convergence, judged on the predictions: weights of a network are not identified."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float

with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)  # ArviZ 0.23 announces ArviZ 1 on import
    import arviz as az

ARVIZ_1 = int(az.__version__.partition(".")[0]) >= 1
MAX_R_HAT = 1.01
MIN_EFFECTIVE_SAMPLES = 400


@dataclass(frozen=True)
class Convergence:
    """Rank-normalised split-r̂ and bulk effective sample size of every prediction.

    Attributes:
        r_hat: shape (grid, …).
        effective_samples: shape (grid, …).
    """

    r_hat: Float[np.ndarray, "*points"]
    effective_samples: Float[np.ndarray, "*points"]

    @property
    def reached(self) -> bool:
        """Whether r̂ < 1.01 and ESS > 400 hold at every point (the book's rule)."""
        worst = self.effective_samples.min() > MIN_EFFECTIVE_SAMPLES
        return bool(self.r_hat.max() < MAX_R_HAT and worst)


def convergence(predictions: Float[np.ndarray, " chains draws *points"]) -> Convergence:
    """r̂ and bulk ESS of each prediction, by ArviZ.

    Args:
        predictions: shape (chains, draws, …), at least 2 chains and 8 draws.

    Raises:
        ValueError: too few chains or draws, or predictions that are not finite.
    """
    chains, draws, *points = predictions.shape
    if chains < 2 or draws < 8:
        raise ValueError(f"predictions: {chains} chains × {draws} draws; give 2 × 8 at least.")
    if not np.isfinite(predictions).all():
        raise ValueError("predictions: they contain NaN or infinity; the sampler has diverged.")
    flat = predictions.reshape(chains, draws, -1).astype(np.float64)
    data = xr.Dataset({"p": (("chain", "draw", "point"), flat)})
    r_hat = az.rhat(data)["p"].to_numpy()
    effective = az.ess(data, method="bulk")["p"].to_numpy()
    return Convergence(r_hat.reshape(points), effective.reshape(points))


def container(predictions: Float[np.ndarray, " chains draws *points"]) -> Any:
    """The predictions as ArviZ keeps draws, for any of its summaries and plots.

    Args:
        predictions: shape (chains, draws, …).

    Returns:
        An `InferenceData` under ArviZ 0.23, a `DataTree` under ArviZ 1; the variable is `p`.
    """
    posterior = {"p": predictions}
    if ARVIZ_1:
        return az.from_dict({"posterior": posterior})
    return az.from_dict(posterior=posterior)


def plot_ranks(predictions: Float[np.ndarray, "chains draws points"]) -> Any:
    """ArviZ's rank plot, one panel a prediction: flat for every chain if the chains agree.

    Args:
        predictions: shape (chains, draws, points); give a handful of points.

    Returns:
        What `arviz.plot_rank` returns: matplotlib axes under 0.23, a plotly collection under 1.

    Raises:
        ValueError: more than 16 points, which no page could show.
    """
    if predictions.shape[2] > 16:
        raise ValueError(f"predictions: {predictions.shape[2]} points; choose 16 at most.")
    backend = "plotly" if ARVIZ_1 else "matplotlib"  # the one that each line brings or that we have
    return az.plot_rank(container(predictions), backend=backend)


@dataclass(frozen=True)
class MonteCarlo:
    """Moments of every prediction with their Monte Carlo standard errors.

    Attributes:
        mean: shape (grid, …).
        variance: shape (grid, …).
        mean_error: standard error of the mean, √(v / ESS).
        variance_error: standard error of the variance, by the ESS of the squared deviations.
        effective_samples: of the mean.
    """

    mean: Float[np.ndarray, "*points"]
    variance: Float[np.ndarray, "*points"]
    mean_error: Float[np.ndarray, "*points"]
    variance_error: Float[np.ndarray, "*points"]
    effective_samples: Float[np.ndarray, "*points"]


def monte_carlo(predictions: Float[np.ndarray, " chains draws *points"]) -> MonteCarlo:
    """Mean and variance over all chains, and how far chance may have moved them.

    Args:
        predictions: shape (chains, draws, …), at least 2 chains and 8 draws.
    """
    values = predictions.astype(np.float64)
    mean, variance = values.mean((0, 1)), values.var((0, 1))
    squares = (values - mean) ** 2
    of_mean, of_squares = _mean_samples(values), _mean_samples(squares)
    return MonteCarlo(
        mean=mean,
        variance=variance,
        mean_error=np.sqrt(variance / of_mean),
        variance_error=np.sqrt(squares.var((0, 1)) / of_squares),
        effective_samples=of_mean,
    )


def _mean_samples(values: Float[np.ndarray, " chains draws *points"]) -> np.ndarray:
    """Effective sample size of the mean of each column."""
    chains, draws, *points = values.shape
    data = xr.Dataset({"p": (("chain", "draw", "point"), values.reshape(chains, draws, -1))})
    found: np.ndarray = az.ess(data, method="mean")["p"].to_numpy()
    return found.reshape(points)
