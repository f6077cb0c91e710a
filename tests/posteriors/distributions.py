"""Distributions whose moments are known, as targets of the samplers.

In whitened coordinates each is a standard normal prior times a likelihood, an example a coordinate.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax
import numpy as np
from scipy import stats
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
        sample: (generator, shape) → exact draws, shape (…, d).
        size: a step size at which the samplers accept some seven tenths.
    """

    log_density: Callable[[jax.Array], jax.Array]
    mean: np.ndarray
    variance: np.ndarray
    fourth: np.ndarray
    sample: Callable[[np.random.Generator, tuple[int, int]], np.ndarray]
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
    """Variances between 0.3 and 1 (0.4 if there is one), means between −1 and 1."""
    variance = np.geomspace(0.3, 1.0, dimensions) if dimensions > 1 else np.array([0.4])
    mean = np.linspace(1.0, -1.0, dimensions)
    at, over = np.float32(mean), np.float32(1 / variance)
    sample = lambda rng, shape: mean + variance**0.5 * rng.normal(size=shape)  # noqa: E731
    return Known(lambda x: -over * (x - at) ** 2 / 2, mean, variance, 3 * variance**2, sample, size)


def quartic(size: float) -> Known:
    """exp(−x⁴/4): E[x²] = 2 Γ(¾)/Γ(¼), E[x⁴] = 1."""
    second = np.array([2 * gamma(0.75) / gamma(0.25)])

    def sample(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
        """x⁴/4 has the gamma distribution of shape ¼."""
        return (4 * rng.gamma(0.25, size=shape)) ** 0.25 * rng.choice([-1, 1], size=shape)

    return Known(lambda x: -(x**4) / 4, np.zeros(1), second, np.ones(1), sample, size)


KNOWN = {
    "Gaussian, 1 dimension": gaussian(1, 1.2),
    "Gaussian, 4 dimensions": gaussian(4, 0.9),
    "Gaussian, 1000 dimensions": gaussian(1000, 0.3),
    "exp(-x⁴/4)": quartic(0.9),
}


def scores(draws: np.ndarray, known: Known) -> dict[int, np.ndarray]:
    """First, second and fourth central moment less the true ones, in standard errors, by power.

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
        found[power] = (by_chain.mean(0) - truth) / error
    return found


def judge(draws: np.ndarray, known: Known) -> None:
    """Refuse draws whose moments are further from the true ones than chance brings them.

    With many coordinates the mean score is judged as well, so that a small common bias is seen; but
    not of fourth powers, whose scores are skewed.
    """
    errors = stats.t(len(draws) - 1)
    for power, z in scores(draws, known).items():
        worst, common = abs(z).max(), abs(z.mean()) * len(z) ** 0.5
        assert worst < errors.isf(1e-5 / len(z)), f"power {power}: {worst:.1f} standard errors"
        assert power == 4 or common < 5, f"power {power}: {common:.1f} standard errors in common"
