"""The sampler leaves a network's joint distribution of weights and labels as it is."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from tests.posteriors import joint


def test_the_size_is_one_at_which_acceptance_matters():
    begun = joint.worlds(32, 9)
    with jax.enable_x64(False):
        run = jax.jit(jax.vmap(joint.advanced, in_axes=(0, 0, 0, None)))
        accepted = run(begun.labels, begun.z, jnp.arange(32), jnp.arange(1, 51))[2]
    assert 0.5 < float(accepted.mean()) < 0.95


def test_geweke_in_small():
    joint.judge_weights(joint.geweke(256, 40))


def test_calibration_in_small():
    assert joint.uniform(joint.ranks(200, 15), 15).min() > 1e-4


@pytest.mark.weekly
def test_geweke():
    joint.judge_weights(joint.geweke(2_000, 1_000))


@pytest.mark.weekly
def test_calibration():
    assert joint.uniform(joint.ranks(4_000, 63), 63, bins=16).min() > 1e-4
