"""Convergence, judged on the predictions: weights of a network are not identified."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import xarray as xr
from jaxtyping import Float

with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)  # ArviZ 0.23 announces ArviZ 1 on import
    import arviz as az

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
