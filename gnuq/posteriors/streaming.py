"""Hamiltonian Monte Carlo for networks of any width: predictions are kept, weights are not.

The kernel is that of `gnuq.posteriors.hmc`, on PyMC's log-density. Of every draw three things
remain: the log-odds of each class at each grid point (16 bits, for r̂ and the effective sample
size); running moments of the weights, whose variances are the diagonal of Σ; and gᵀθ, the draw
along each prediction's gradient at the mode, whose variance over the draws is gᵀΣg of Eq. (3),
with no covariance matrix formed. gᵀθ is a Jacobian-vector product, two forward passes.

A draw's random numbers hang on its index alone, so that a chain that was cut off goes on as if it
had not been.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from blackjax.adaptation.step_size import dual_averaging_adaptation
from blackjax.mcmc import dynamic_hmc
from jaxtyping import Float
from torch import Tensor

from gnuq.networks import Activated, Prior
from gnuq.posteriors.chains import Chain, Store
from gnuq.posteriors.hmc import _log_density, _single_precision, _transition
from gnuq.posteriors.settings import HMC
from gnuq.posteriors.transitions import bayesian_network, drawing, predictor, tuning
from gnuq.problems import Problem


@dataclass(frozen=True)
class Sampler:
    """One posterior's compiled transitions.

    Attributes:
        tune: (position, adaptation, keys) → the same after a batch of tuning.
        draw: (position, adaptation, keys) → position and what is kept of a batch of draws.
        scale: the prior's standard deviations.
        settings: of the sampler.
    """

    tune: Callable
    draw: Callable
    scale: jax.Array
    settings: HMC

    def start(self, chain: int) -> Chain:
        """A chain at its own draw from the prior."""
        begin, _, _ = dual_averaging_adaptation(self.settings.target_accept)
        with jax.enable_x64(False):
            key = jax.random.fold_in(self._key(chain), 2**31 - 1)
            position = self.scale * jax.random.normal(key, self.scale.shape)
            return Chain(np.asarray(position), np.asarray(begin(0.01), np.float32))

    def advance(self, chain: Chain, number: int, batch: int) -> None:
        """One batch further: of tuning, or, once tuned, of draws."""
        began = time.perf_counter()
        untuned = chain.done < self.settings.tune
        with jax.enable_x64(False):  # holds for one thread only
            indices = jnp.arange(chain.done, chain.done + batch)
            keys = jax.vmap(lambda i: jax.random.fold_in(self._key(number), i))(indices)
            run = self.tune if untuned else self.draw
            found = jax.device_get(run(chain.position, chain.adaptation, keys))
        if untuned:
            chain.position, chain.adaptation = found
        else:
            chain.keep(batch, *found)
        chain.done += batch
        chain.seconds += time.perf_counter() - began

    def _key(self, chain: int) -> jax.Array:
        return jax.random.fold_in(jax.random.key(self.settings.seed), chain)


def sampler(
    architecture: Activated,
    problem: Problem,
    prior: Prior,
    mode: Float[np.ndarray, " parameters"],
    points: Float[Tensor, "grid d"],
    settings: HMC,
) -> Sampler:
    """Compile the transitions of one posterior.

    Args:
        architecture: the network.
        problem: one of several classes.
        prior: over the weights.
        mode: θ*, where the gradients of gᵀθ are taken.
        points: where predictions are kept.
        settings: of the sampler; `sampler="hmc"`.

    Raises:
        ValueError: another task, another sampler, or an architecture that does not suit.
    """
    architecture.must_suit(problem)
    if problem.task != "multiclass" or settings.sampler != "hmc":
        raise ValueError("problem, settings: streaming needs several classes and sampler='hmc'.")
    with _single_precision():
        density = _log_density(bayesian_network(architecture, problem, prior))
        scale = jnp.asarray(prior.precisions(architecture).numpy() ** -0.5, jnp.float32)
        step = _transition(density, scale**2, settings)
        begin = partial(dynamic_hmc.init, logdensity_fn=density)
        predict = predictor(architecture, jnp.asarray(mode, jnp.float32), points)
        tune = jax.jit(tuning(begin, step, settings))
        draw = jax.jit(drawing(begin, step, predict, settings))
    return Sampler(tune, draw, scale, settings)


def sample(
    compiled: Sampler, *, batch: int, store: Store | None = None, workers: int = 2
) -> list[Chain]:
    """Run all chains to their end, from where `store` says that they stand.

    Args:
        compiled: what `sampler` returns.
        batch: transitions between two savings; it divides both tuning and draws.
        store: where states are kept; None keeps none.
        workers: chains that run at once.

    Raises:
        ValueError: a batch that does not divide.
    """
    settings = compiled.settings
    if settings.tune % batch or settings.draws % batch:
        raise ValueError(f"batch: {batch} divides not both {settings.tune} and {settings.draws}.")

    def run(number: int) -> Chain:
        kept = store.load(f"chain-{number}") if store is not None else None
        chain = Chain.unpacked(kept) if kept else compiled.start(number)
        while chain.done < settings.tune + settings.draws:
            compiled.advance(chain, number, batch)
            if store is not None:
                store.save(f"chain-{number}", chain.packed())
        return chain

    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(run, range(settings.chains)))


def report(chains: list[Chain], compiled: Sampler) -> dict[str, Any]:
    """What the sampler says about finished chains, as JSON-able values."""
    _, _, finish = dual_averaging_adaptation(compiled.settings.target_accept)
    kind = type(dual_averaging_adaptation(0.8)[0](0.01))
    steps = np.stack([np.concatenate(chain.steps) for chain in chains])
    return {
        "divergences": int(sum(np.concatenate(chain.divergent).sum() for chain in chains)),
        "acceptance": [round(float(np.concatenate(c.accepted).mean()), 3) for c in chains],
        "step_size": [round(float(finish(kind(*c.adaptation))), 5) for c in chains],
        "leapfrog_steps": round(float(steps.mean()), 1),
        "chain_seconds": [round(chain.seconds, 1) for chain in chains],
    }
