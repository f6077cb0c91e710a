"""Distributions whose moments are known, as targets of the samplers.

In whitened coordinates each is a standard normal prior times a likelihood, one example a coordinate.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import gamma

from gnuq.posteriors.whitened import Target


@dataclass(frozen=True)
class Known:
    """A distribution of independent coordinates.

    Attributes:
        log_density: position (d,) → unnormalised log-density of every coordinate.
        mean: of every coordinate.
        variance: of every coordinate.
        fourth: E[(x − mean)⁴] of every coordinate.
        size: a step size at which the samplers accept some seven tenths.
    """

    log_density: Callable[[jax.Array], jax.Array]
    mean: np.ndarray
    variance: np.ndarray
    fourth: np.ndarray
    size: float

    @property
    def target(self) -> Target:
        """The same with the standard normal split off."""
        return Target(
            log_likelihoods=lambda x: self.log_density(x) + x**2 / 2,
            predict=lambda x: (x,),
            origin=np.zeros(len(self.mean), np.float32),
        )


def gaussian(dimensions: int, size: float) -> Known:
    """Variances between 1/20 and 1, means between −1 and 1."""
    variance = np.geomspace(0.05, 1.0, dimensions)
    mean = np.linspace(1.0, -1.0, dimensions)
    at, over = np.float32(mean), np.float32(1 / variance)
    return Known(lambda x: -over * (x - at) ** 2 / 2, mean, variance, 3 * variance**2, size)


def quartic(size: float) -> Known:
    """exp(−x⁴/4): E[x²] = 2 Γ(¾)/Γ(¼), E[x⁴] = 1."""
    second = np.array([2 * gamma(0.75) / gamma(0.25)])
    return Known(lambda x: -(x**4) / 4, np.zeros(1), second, np.ones(1), size)


KNOWN = {
    "Gaussian, 1 dimension": gaussian(1, 0.38),
    "Gaussian, 4 dimensions": gaussian(4, 0.4),
    "Gaussian, 1000 dimensions": gaussian(1000, 0.15),
    "exp(-x⁴/4)": quartic(1.0),
}


def scores(draws: np.ndarray, known: Known) -> dict[str, np.ndarray]:
    """Mean, variance and fourth moment of draws less the true ones, in standard errors.

    Args:
        draws: shape (chains, draws, d); the errors are those between chains.
        known: what was sampled.
    """
    centred = draws.astype(np.float64) - known.mean
    truths = {1: np.zeros_like(known.mean), 2: known.variance, 4: known.fourth}
    found = {}
    for power, truth in truths.items():
        by_chain = (centred**power).mean(1)
        error = by_chain.std(0, ddof=1) / len(by_chain) ** 0.5
        found[f"power {power}"] = (by_chain.mean(0) - truth) / error
    return found
