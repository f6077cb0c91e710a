"""The posterior of a softmax Gaussian process: what the Bayesian network becomes at infinite width.

Each class has a latent function with one kernel. The latent values at the N training points are
sampled in whitened coordinates, f = L z with K = L Lᵀ, by the sampler of the networks; at other
points they are Gaussian given those.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from gnuq.posteriors import streamed
from gnuq.posteriors.settings import StreamedHMC
from gnuq.posteriors.step_size import STAGE_STEPS, STAGED, staged
from gnuq.posteriors.whitened import Target

#: Added to the kernel's diagonal, relative to its mean.
JITTER = 1e-6


@dataclass(frozen=True)
class ProcessDraws:
    """Draws of the class probabilities away from the training points.

    Attributes:
        probabilities: shape (chains, draws, grid, classes), float32; each point's draws are right
            by themselves and with the training points', not jointly with other points'.
        step_size: of the sampler.
    """

    probabilities: Float[np.ndarray, "chains draws grid classes"]
    step_size: float


def sample_process(
    kernel: Float[np.ndarray, "m m"],
    targets: Int[np.ndarray, " n"],
    classes: int,
    settings: StreamedHMC,
) -> ProcessDraws:
    """Sample the posterior.

    Args:
        kernel: of the training points, first, and of the points of the grid.
        targets: class indices of the training points.
        classes: how many.
        settings: of the sampler.

    Raises:
        ValueError: no grid points.
    """
    count = len(targets)
    if len(kernel) <= count:
        raise ValueError(f"kernel: {len(kernel)} points, of which {count} are training points.")
    jitter = JITTER * np.trace(kernel[:count, :count]) / count
    lower = np.linalg.cholesky(kernel[:count, :count] + jitter * np.eye(count))
    across = np.linalg.solve(lower, kernel[:count, count:])
    spread = np.sqrt(np.maximum(kernel.diagonal()[count:] - np.square(across).sum(0), 0))
    z, size = _latent(lower, targets, classes, settings)
    rng = np.random.default_rng(settings.seed)
    latent = np.einsum("ng,cdnk->cdgk", across, z, optimize=True)
    latent += spread[:, None] * rng.normal(size=latent.shape)
    latent -= latent.max(-1, keepdims=True)
    odds = np.exp(latent)
    return ProcessDraws((odds / odds.sum(-1, keepdims=True)).astype(np.float32), size)


def _latent(
    lower: np.ndarray, targets: np.ndarray, classes: int, settings: StreamedHMC
) -> tuple[np.ndarray, float]:
    """Whitened latent values, shape (chains, draws, N, classes), and the step size."""
    with jax.enable_x64(False):
        compiled = streamed.sampler(process_target(lower, targets, classes), settings)
        size, draws = compiled.tuned(), []
        for chains in compiled.blocks():
            positions = compiled.start(chains)
            for index in range(STAGED + settings.burn_in):
                small = index < STAGED
                now = min(staged(index), size) if small else size
                fixed = STAGE_STEPS if small else 0
                positions, _ = compiled.move(positions, chains, index + 1, now, fixed)
            first = STAGED + settings.burn_in + 1
            indices = np.arange(first, first + settings.draws)
            _, _, (z, *_) = compiled.draw(positions, chains, indices, size)
            draws.append(np.asarray(z).swapaxes(0, 1))
    return np.concatenate(draws).astype(np.float64), size


def process_target(lower: np.ndarray, targets: np.ndarray, classes: int) -> Target:
    """The latent values' posterior, as the sampler takes it.

    Args:
        lower: L, the kernel's Cholesky factor, shape (N, N).
        targets: class indices, shape (N,).
        classes: how many.
    """
    factor, chosen = jnp.asarray(lower, jnp.float32), jnp.asarray(targets, jnp.int32)
    own = jax.nn.one_hot(chosen, classes, dtype=jnp.float32)

    def log_likelihoods(z: jax.Array) -> jax.Array:
        latent = factor @ z
        return (latent * own).sum(1) - jax.nn.logsumexp(latent, axis=1)

    origin = np.zeros((len(lower), classes), np.float32)
    return Target(log_likelihoods, lambda z: (z,), origin)
