"""The sampler of wide networks draws from the right distribution, and a run that was cut off goes on."""

from __future__ import annotations

from functools import cache

import jax
import numpy as np
import pytest
from scipy import stats

from gnuq.posteriors import streamed
from gnuq.posteriors.settings import StreamedHMC
from gnuq.posteriors.step_size import STAGED
from tests.posteriors.distributions import KNOWN, Known, scores


@cache
def draws_of(name: str, chains: int, draws: int) -> tuple[np.ndarray, float]:
    """Draws of a known distribution, shape (chains, draws, d), and the mean acceptance rate."""
    known = KNOWN[name]
    settings = StreamedHMC(chains=chains, together=chains, burn_in=1, draws=draws, seed=3)
    compiled, numbers = streamed.sampler(known.target, settings), np.arange(chains)
    with jax.enable_x64(False):
        # from the distribution itself: no burn-in decides
        start = compiled.start(numbers) * np.float32(known.variance**0.5) + np.float32(known.mean)
        _, _, kept = compiled.draw(start, numbers, np.arange(100, 100 + draws), known.size)
    values, accepted, *_ = kept
    return np.asarray(values).swapaxes(0, 1), float(np.mean(accepted))


def judge(name: str, chains: int, draws: int) -> None:
    values, accepted = draws_of(name, chains, draws)
    assert 0.5 < accepted < 0.9  # so that what is refused matters
    for moment, z in scores(values[:, 50:], KNOWN[name]).items():
        assert stats.kstest(z, stats.t(chains - 1).cdf).pvalue > 1e-4, moment
        assert abs(z).max() < stats.t(chains - 1).isf(1e-5 / len(z)), moment


@pytest.mark.parametrize("name", KNOWN)
def test_moments_are_those_of_the_distribution(name):
    judge(name, chains=64, draws=1_000)
