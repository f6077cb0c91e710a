"""The sampler leaves a network's joint distribution of weights and labels as it is."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from tests.posteriors import joint


def judge_weights(z: np.ndarray) -> None:
    """Weights of many worlds and rounds are draws of the prior: N(0, 1)."""
    for power, truth in ((1, 0.0), (2, 1.0), (4, 3.0)):
        by_world = (z**power).mean(1)
        score = (by_world.mean(0) - truth) / (by_world.std(0, ddof=1) / len(z) ** 0.5)
        assert abs(score).max() < stats.norm.isf(1e-5 / len(score)), power


def test_the_size_is_one_at_which_acceptance_matters():
    begun = joint.worlds(32, 9)
    with jax.enable_x64(False):
        run = jax.jit(jax.vmap(joint.advanced, in_axes=(0, 0, 0, None)))
        accepted = run(begun.labels, begun.z, jnp.arange(32), jnp.arange(1, 51))[2]
    assert 0.5 < float(accepted.mean()) < 0.95


def test_geweke_in_small():
    judge_weights(joint.geweke(256, 40))


def test_calibration_in_small():
    assert joint.uniform(joint.ranks(200, 15), 15).min() > 1e-4


@pytest.mark.weekly
def test_geweke():
    judge_weights(joint.geweke(2_000, 1_000))


@pytest.mark.weekly
def test_calibration():
    assert joint.uniform(joint.ranks(4_000, 63), 63, bins=16).min() > 1e-4
