"""No sampler uses a random number twice."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from gnuq.networks import Activated, Architecture, Prior
from gnuq.posteriors import hmc, streamed
from gnuq.posteriors.settings import HMC, StreamedHMC
from gnuq.problems import make_grid, make_problem
from tests.posteriors.key_audit import watched

PROBLEM = make_problem("rings-4", points=20)
POINTS = make_grid(PROBLEM, resolution=3).points


@pytest.mark.parametrize("together", [1, pytest.param(2, marks=pytest.mark.weekly)])
def test_streamed(together):
    """Tuning, burn-in and draws of two chains, one after the other and together."""
    architecture = Activated(2, (3,), 4)
    settings = StreamedHMC(chains=2, tune=3, burn_in=2, draws=4, together=together)
    with watched() as uses:
        compiled = streamed.of_network(
            architecture, PROBLEM, Prior(1.0), np.zeros(architecture.parameters), POINTS, settings
        )
        streamed.sample(compiled, batch=2)
    assert not uses.twice
    transitions = 30 + 3 + 30 + 2 + 4  # staged and tuned; staged, burnt in and drawn
    assert (
        len(uses.drawn) == 2 * (1 + 1 + 2 * transitions) + (2 if together == 1 else 1) * transitions
    )


@pytest.mark.parametrize("sampler", ["hmc", "nuts"])
def test_validation(sampler):
    architecture = Architecture(2, (3,), 4)
    with watched() as uses:
        settings = HMC(sampler=sampler, chains=2, tune=3, draws=4)
        hmc.sample_posterior(architecture, PROBLEM, Prior(1.0), settings)
    assert not uses.twice
    assert len(uses.drawn) > 2 * (3 + 4)


def test_a_fold_is_a_split_and_the_audit_knows():
    """What this is about: with these counters `fold_in(key, 1)` is `split(key)[1]`."""
    key = jax.random.key(0)
    assert jax.random.fold_in(key, 1) == jax.random.split(key)[1]
    with watched() as uses:
        jax.random.uniform(jax.random.fold_in(key, 1))
        jax.random.uniform(jax.random.split(key)[1])
    assert uses.twice == ["2 draws from one key"]
    with watched() as uses:
        jax.random.normal(key, (3,))
        jax.random.uniform(jax.random.fold_in(key, 2))
    assert uses.twice == ["child 2 of a key from which 3 are drawn"]
    with watched() as uses:
        jax.random.normal(key, (2,))
        jax.random.uniform(jax.random.fold_in(key, 2))
    assert not uses.twice
