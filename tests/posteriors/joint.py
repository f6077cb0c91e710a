"""A network's prior, data and posterior together: what a sampler must leave as it is.

A network of 21 weights classifies twelve points into three classes. Weights from the prior and
labels from their likelihood have a joint distribution, of which all is known; many such worlds are
carried along at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from scipy import stats

from gnuq.networks import Prior
from gnuq.posteriors import streamed, whitened
from gnuq.posteriors.settings import StreamedHMC
from gnuq.posteriors.whitened import Target

NETWORK = whitened.network_of([(2, 3), (3, 3)], Prior(0.25), "tanh")
INPUTS = np.random.default_rng(0).normal(size=(12, 2)).astype(np.float32)
POINTS = np.float32([[0, 0], [1, -1]])
SETTINGS = StreamedHMC(chains=1, seed=11)
SIZE = 0.15  # accepts some eight tenths


def target(labels: jax.Array) -> Target:
    """The posterior given labels, which may be traced."""
    mode = np.zeros(len(NETWORK.deviations))
    return whitened.posterior(NETWORK, INPUTS, labels, mode, POINTS)


def labels_of(key: jax.Array, z: jax.Array) -> jax.Array:
    """Labels drawn from the likelihood at flat whitened weights."""
    tree = ravel_pytree(NETWORK.origin)[1](z)
    logits = NETWORK.logits(tree, jnp.asarray(INPUTS))
    return jax.random.categorical(key, logits).astype(jnp.int32)


@dataclass(frozen=True)
class Worlds:
    """Weights and labels, one pair a world.

    Attributes:
        z: shape (worlds, P).
        labels: shape (worlds, N).
    """

    z: jax.Array
    labels: jax.Array


def worlds(count: int, seed: int) -> Worlds:
    """Independent draws of the joint distribution."""
    with jax.enable_x64(False):
        of_weights, of_labels = jax.random.split(jax.random.key(seed))
        z = jax.random.normal(of_weights, (count, len(NETWORK.deviations)), jnp.float32)
        labels = jax.jit(jax.vmap(labels_of))(jax.random.split(of_labels, count), z)
        return Worlds(z, labels)


def advanced(labels: jax.Array, z: jax.Array, world: jax.Array, indices: jax.Array) -> tuple:
    """Draws of one world's posterior through the very function that draws.

    Returns:
        The last position, log-odds of all draws at `POINTS` and acceptance rates.
    """
    draw = streamed._drawing(target(labels), SETTINGS)
    positions, _, (log_odds, _, accepted, *_) = draw(z[None], world[None], indices, SIZE)
    return positions[0], log_odds[:, 0], accepted[:, 0]


def geweke(count: int, rounds: int, transitions: int = 2) -> np.ndarray:
    """Geweke's successive-conditional simulator: posterior transitions, then new labels, in turn.

    Args:
        count: worlds, each begun at an independent draw of the joint distribution.
        rounds: of both.
        transitions: in each round.

    Returns:
        The weights after every round, shape (worlds, rounds, P): draws of the prior, if the
        transitions leave the posterior as it is.

    Source:
        Geweke (2004).
    """
    began, numbers = worlds(count, 1), jnp.arange(count)

    def round_of(carry: tuple, turn: jax.Array) -> tuple:
        z, labels = carry
        indices = 1 + turn * transitions + jnp.arange(transitions)
        z, *_ = jax.vmap(advanced, in_axes=(0, 0, 0, None))(labels, z, numbers, indices)
        keys = jax.random.split(jax.random.fold_in(jax.random.key(2), turn), count)
        return (z, jax.vmap(labels_of)(keys, z)), z

    def run(z: jax.Array, labels: jax.Array) -> jax.Array:
        return jax.lax.scan(round_of, (z, labels), jnp.arange(rounds))[1]

    with jax.enable_x64(False):
        return np.asarray(jax.jit(run)(began.z, began.labels)).swapaxes(0, 1)


def ranks(count: int, kept: int, thinning: int = 8, burn_in: int = 100) -> np.ndarray:
    """Simulation-based calibration: the true value's rank among the posterior's draws.

    Args:
        count: worlds.
        kept: draws of each.
        thinning: transitions between two of them.
        burn_in: transitions before the first, from a draw of the prior.

    Returns:
        Shape (worlds, quantities), each uniform on 0 … kept: the log-odds of the classes at
        `POINTS`, which are identified.

    Source:
        Talts et al. (2018).
    """
    truth, numbers = worlds(count, 3), jnp.arange(count)
    indices = jnp.arange(1, 1 + burn_in + thinning * kept)

    def run(z: jax.Array, labels: jax.Array, start: jax.Array) -> tuple:
        of = jax.vmap(lambda flat: target(labels[0]).predict(target(labels[0]).tree(flat))[0])
        found = jax.vmap(advanced, in_axes=(0, 0, 0, None))(labels, start, numbers, indices)
        return of(z), found[1][:, burn_in + thinning - 1 :: thinning], found[2]

    with jax.enable_x64(False):
        true, drawn, _ = jax.jit(run)(truth.z, truth.labels, worlds(count, 4).z)
    below = np.asarray(drawn) < np.asarray(true)[:, None]
    return below.sum(1).reshape(count, -1)


def uniform(ranks: np.ndarray, kept: int, bins: int = 8) -> np.ndarray:
    """p-value of each quantity's ranks under uniformity, by χ² over bins of equal width."""
    counts = [np.bincount(column * bins // (kept + 1), minlength=bins) for column in ranks.T]
    return np.array([stats.chisquare(count).pvalue for count in counts])


def judge_weights(z: np.ndarray) -> None:
    """Refuse weights of many worlds and rounds that are no draws of the prior, N(0, 1)."""
    for power, truth in ((1, 0.0), (2, 1.0), (4, 3.0)):
        by_world = (z**power).mean(1)
        score = (by_world.mean(0) - truth) / (by_world.std(0, ddof=1) / len(z) ** 0.5)
        assert abs(score).max() < stats.norm.isf(1e-5 / len(score)), f"power {power}: {score}"
        norm = (z**power).mean((1, 2)) - truth
        common = norm.mean() / (norm.std(ddof=1) / len(z) ** 0.5)
        assert abs(common) < 4.5, f"power {power}: {common:.1f} standard errors in common"
