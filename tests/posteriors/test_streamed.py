"""A run that was cut off goes on, what is kept is what was drawn, and the flow is the prior's."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gnuq.networks import Activated, Prior
from gnuq.posteriors import prior_flow, streamed
from gnuq.posteriors.blocks import Block, log_odds, pooled
from gnuq.posteriors.settings import StreamedHMC
from gnuq.posteriors.step_size import STAGED, DualAveraging, staged
from gnuq.posteriors.summary import summarised
from gnuq.posteriors.whitened import Target
from gnuq.problems import make_grid, make_problem
from tests.posteriors.memory import Memory

PROBLEM = make_problem("rings-4", points=40)
GRID = make_grid(PROBLEM, resolution=4)
ARCHITECTURE = Activated(2, (4, 4), 4)
SETTINGS = StreamedHMC(chains=2, tune=10, burn_in=5, draws=20)


@pytest.fixture(scope="module")
def compiled() -> streamed.Sampler:
    mode = np.zeros(ARCHITECTURE.parameters)
    return streamed.of_network(ARCHITECTURE, PROBLEM, Prior(1.0), mode, GRID.points, SETTINGS)


@pytest.fixture(scope="module")
def whole(compiled) -> tuple[list[Block], float]:
    return streamed.sample(compiled, batch=10)


def assert_same(blocks: list[Block], others: list[Block]) -> None:
    for a, b in zip(blocks, others, strict=True):
        np.testing.assert_array_equal(a.positions, b.positions)
        np.testing.assert_allclose(a.weights.squares, b.weights.squares, rtol=1e-6)
    np.testing.assert_array_equal(log_odds(blocks), log_odds(others))


@pytest.mark.parametrize("fails_after", [0, 20, 50])
def test_a_run_that_was_cut_off_ends_as_one_that_was_not(compiled, whole, fails_after, monkeypatch):
    """In the tuning, in a burn-in and among the draws of the second chain."""
    monkeypatch.setattr(streamed, "SAVING", -1.0)
    kept = Memory(fails_after)
    with pytest.raises(KeyboardInterrupt):
        streamed.sample(compiled, batch=10, store=kept)
    kept.left = None
    blocks, size = streamed.sample(compiled, batch=10, store=kept)
    assert size == whole[1]
    assert_same(blocks, whole[0])


def test_a_batch_is_no_part_of_the_randomness(compiled, whole):
    assert_same(streamed.sample(compiled, batch=20)[0], whole[0])


def test_chains_differ_and_start_dispersed(compiled):
    with jax.enable_x64(False):
        first, second = np.asarray(compiled.start(np.arange(2)))
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.5
    assert 0.7 < first.std() < 1.3


def test_the_summary_is_that_of_all_draws(whole):
    blocks, size = whole
    odds = log_odds(blocks)
    assert odds.shape == (2, 20, 16, 4)
    p = 1 / (1 + np.exp(-odds.astype(np.float64)))
    network = streamed.whitened_network(ARCHITECTURE, Prior(0.25))
    summary = summarised(blocks, network, np.zeros(ARCHITECTURE.parameters), GRID.points.numpy())
    np.testing.assert_allclose(summary.mean_b, p[1].mean(0), atol=1e-3)
    np.testing.assert_allclose(summary.variance_a, p[0].var(0), atol=1e-3)
    mean, variance = pooled(blocks, "predictions")
    np.testing.assert_allclose(mean, p.mean((0, 1)), atol=1e-3)
    np.testing.assert_allclose(variance, p.var((0, 1)), atol=1e-3)
    assert summary.trace == pytest.approx(4 * pooled(blocks, "weights")[1].sum(), rel=1e-5)
    assert {column.shape for column in summary.columns.values()} == {(16, 4)}
    assert summary.report["converged"] is False
    told = streamed.report(blocks, size)
    assert told["divergences"] == 0
    assert len(told["acceptance"]) == len(told["block_seconds"]) == 2


def test_a_block_is_what_was_packed(whole):
    block = whole[0][1]
    again = Block.unpacked(block.packed())
    assert_same([again], [block])
    assert again.done == block.done == STAGED + 5 + 20
    np.testing.assert_array_equal(again.predictions.variance, block.predictions.variance)


def test_bad_settings_are_refused(compiled):
    with pytest.raises(ValueError, match="batch: 15"):
        streamed.sample(compiled, batch=15)
    with pytest.raises(ValueError, match="together: 3"):
        StreamedHMC(chains=4, together=3)
    with pytest.raises(ValueError, match="draws: 0"):
        StreamedHMC(draws=0)
    with pytest.raises(ValueError, match="target_accept"):
        StreamedHMC(target_accept=1.0)
    binary, one = make_problem("xor", points=40), Activated(2, (4,), 1)
    with pytest.raises(ValueError, match="several classes"):
        streamed.of_network(one, binary, Prior(1.0), np.zeros(17), GRID.points, SETTINGS)


def flat_target(dimensions: int) -> Target:
    """The prior alone."""
    origin = np.zeros(dimensions, np.float32)
    return Target(lambda z: jnp.zeros(1, jnp.float32), lambda z: (z,), origin)


def test_without_a_likelihood_the_flow_is_a_rotation():
    """After n steps of ε the pair (z, p) has turned by nε, whatever the step."""
    rng = np.random.default_rng(0)
    z, p = rng.normal(size=(2, 50)).astype(np.float32)
    with jax.enable_x64(False):
        move = prior_flow.trajectory(flat_target(50))
        still = (z, p, jnp.zeros(50, jnp.float32), jnp.zeros(1, jnp.float32))
        after = move(still, jnp.float32(0.3), 7)
    angle = 7 * 0.3
    np.testing.assert_allclose(after[0], np.cos(angle) * z + np.sin(angle) * p, atol=2e-5)
    np.testing.assert_allclose(after[1], np.cos(angle) * p - np.sin(angle) * z, atol=2e-5)


def test_energy_holds_at_a_million_dimensions():
    """Five hundred small steps in float32 change the energy by less than a hundredth of a nat."""
    size = 1_000_000
    rng = np.random.default_rng(1)
    z, p = rng.normal(size=(2, size)).astype(np.float32)
    with jax.enable_x64(False):
        still = (z, p, jnp.zeros(size, jnp.float32), jnp.zeros(1, jnp.float32))
        after = jax.jit(prior_flow.trajectory(flat_target(size)))(still, jnp.float32(0.005), 500)
        change = prior_flow.energy_change(still, after)
    assert abs(float(change)) < 0.05


def test_a_trajectory_that_is_turned_round_comes_back(compiled):
    rng = np.random.default_rng(2)
    z, p = rng.normal(size=(2, ARCHITECTURE.parameters)).astype(np.float32)
    with jax.enable_x64(False):
        target = compiled.target
        move, gradient = prior_flow.trajectory(target), prior_flow._gradient(target)
        start = target.tree(z)
        there = move((start, target.tree(p), *gradient(start)), jnp.float32(0.01), 40)
        turned = (there[0], jax.tree_util.tree_map(lambda v: -v, there[1]), *there[2:])
        back = move(turned, jnp.float32(0.01), 40)
        for leaf, first in zip(
            jax.tree_util.tree_leaves(back[0]), jax.tree_util.tree_leaves(start), strict=True
        ):
            np.testing.assert_allclose(leaf, first, atol=1e-4)
        assert abs(float(prior_flow.energy_change((start, *turned[1:]), back))) < 50


def test_dual_averaging_finds_the_size_that_is_aimed_at():
    """Acceptance exp(−ε²) is 0.7 at ε = 0.597."""
    averaging = DualAveraging(0.7, 0.02)
    for _ in range(400):
        averaging.update(np.exp(-(averaging.size**2)))
    assert averaging.final == pytest.approx((-np.log(0.7)) ** 0.5, rel=0.02)


def test_staged_steps_grow():
    sizes = [staged(index) for index in range(STAGED)]
    assert sizes == sorted(sizes)
    assert (sizes[0], sizes[-1]) == (0.005, 0.02)
