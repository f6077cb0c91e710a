"""Every Markov chain sampler of `gnuq.posteriors` behind one face, on distributions that are known.

Each is driven through the very function that draws for the records.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from gnuq.posteriors import hmc, streamed
from gnuq.posteriors.settings import HMC, StreamedHMC
from tests.posteriors.distributions import Known

#: (known, chains, draws) → draws, shape (chains, draws, d), and the mean acceptance rate.
Draw = Callable[[Known, int, int], tuple[np.ndarray, float]]


def starts(known: Known, chains: int) -> np.ndarray:
    """Exact draws: a right kernel leaves them so, and none need be discarded."""
    return known.sample(np.random.default_rng(0), (chains, len(known.mean))).astype(np.float32)


def of_streamed(known: Known, chains: int, draws: int) -> tuple[np.ndarray, float]:
    """`streamed`: the function that draws, at the distribution's step size."""
    settings = StreamedHMC(chains=chains, together=chains, draws=draws, seed=3)
    compiled, indices = streamed.sampler(known.target, settings), np.arange(1, 1 + draws)
    with jax.enable_x64(False):
        _, _, (values, accepted, *_) = compiled.draw(
            starts(known, chains), np.arange(chains), indices, known.size
        )
    return np.asarray(values).swapaxes(0, 1), float(np.mean(accepted))


def of_hmc(known: Known, chains: int, draws: int, sampler: str = "hmc") -> tuple[np.ndarray, float]:
    """`hmc`: one chain as a function of start and key, the step size tuned."""
    settings = HMC(sampler=sampler, chains=chains, tune=200, draws=draws)  # type: ignore[arg-type]
    with jax.enable_x64(False):
        scale = jnp.ones(len(known.mean), jnp.float32)
        run = hmc._chain(lambda x: jnp.sum(known.log_density(x)), scale, settings)
        keys = jax.random.split(jax.random.key(5), chains)
        values, accepted, *_ = jax.jit(jax.vmap(run))(starts(known, chains), keys)
    return np.asarray(values), float(np.mean(accepted))


SAMPLERS: dict[str, Draw] = {
    "streamed": of_streamed,
    "HMC": of_hmc,
    "NUTS": partial(of_hmc, sampler="nuts"),
}
