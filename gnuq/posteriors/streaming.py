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
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import pymc as pm
import pytensor.tensor as pt
from blackjax.adaptation.step_size import dual_averaging_adaptation
from blackjax.mcmc import dynamic_hmc
from jaxtyping import Float
from pymc.sampling.jax import get_jaxified_graph
from torch import Tensor

from gnuq.networks import Activated, Prior
from gnuq.posteriors.hmc import _log_density, _single_precision, _transition
from gnuq.posteriors.moments import Moments, pooled
from gnuq.posteriors.settings import HMC
from gnuq.problems import Problem

__all__ = ["Chain", "Sampler", "Store", "pooled", "report", "sample", "sampler"]

ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "tanh": pt.tanh,
    "relu": lambda x: pt.maximum(x, 0),
    "gelu": lambda x: x * (1 + pt.erf(x / np.sqrt(2).astype(np.float32))) / 2,
}


class Store(Protocol):
    """Where chains' states are kept: `gnuq.artefacts.Checkpoints`, or a dictionary's like."""

    def save(self, key: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Replace a chain's state."""

    def load(self, key: str) -> dict[str, np.ndarray] | None:
        """A chain's state, or None."""


@dataclass
class Chain:
    """What is left of one chain.

    Attributes:
        position: the last draw's weights.
        adaptation: the state of dual averaging, flattened.
        done: transitions made, tuning included.
        log_odds: shape (draws, grid, classes), float16.
        predictions: moments of the class probabilities, shape (grid, classes).
        linear: moments of gᵀθ, shape (grid, classes).
        weights: moments of the weights, shape (P,).
        accepted: acceptance rate of every kept draw.
        divergent: whether it diverged.
        steps: its leapfrog steps.
        seconds: spent so far, compilation left out.
    """

    position: np.ndarray
    adaptation: np.ndarray
    done: int = 0
    log_odds: list[np.ndarray] = field(default_factory=list)
    predictions: Moments = field(default_factory=Moments)
    linear: Moments = field(default_factory=Moments)
    weights: Moments = field(default_factory=Moments)
    accepted: list[np.ndarray] = field(default_factory=list)
    divergent: list[np.ndarray] = field(default_factory=list)
    steps: list[np.ndarray] = field(default_factory=list)
    seconds: float = 0.0

    def packed(self) -> dict[str, np.ndarray]:
        """As arrays; the weights' moments in float32."""
        arrays = {"position": self.position, "adaptation": self.adaptation}
        arrays |= {"done": np.array(self.done), "seconds": np.array(self.seconds)}
        for name in _LISTED:
            arrays |= {name: np.concatenate(getattr(self, name))} if getattr(self, name) else {}
        for name in _MOMENTS:
            arrays |= {f"{name}.{k}": v for k, v in getattr(self, name).packed().items()}
        return arrays

    @classmethod
    def unpacked(cls, arrays: Mapping[str, np.ndarray]) -> Chain:
        """The inverse of `packed`."""
        chain = cls(arrays["position"], arrays["adaptation"], int(arrays["done"]))
        chain.seconds = float(arrays["seconds"])
        for name in _LISTED:
            setattr(chain, name, [arrays[name]] if name in arrays else [])
        for name in _MOMENTS:
            setattr(chain, name, Moments.unpacked(arrays, f"{name}."))
        return chain


_LISTED = ("log_odds", "accepted", "divergent", "steps")
_MOMENTS = ("predictions", "linear", "weights")


def network_output(weights: Any, inputs: Any, architecture: Activated) -> Any:
    """The network as a PyTensor graph of one flat weight vector, any activation.

    Args:
        weights: flat vector of P parameters, layer by layer, weight (row-major) before bias.
        inputs: shape (batch, inputs).
        architecture: the network's shape and hidden units.

    Returns:
        The logits, shape (batch, classes).
    """
    activation, hidden, start = ACTIVATIONS[architecture.activation], inputs, 0
    for depth, (fan_in, fan_out) in enumerate(architecture.layers):
        matrix = weights[start : start + fan_in * fan_out].reshape((fan_out, fan_in))
        start += fan_in * fan_out
        hidden = hidden @ matrix.T + weights[start : start + fan_out]
        start += fan_out
        if depth < len(architecture.hidden):
            hidden = activation(hidden)
    return hidden


def bayesian_network(architecture: Activated, problem: Problem, prior: Prior) -> pm.Model:
    """The PyMC model: one flat vector `w` with the prior, and a categorical likelihood."""
    scale = prior.precisions(architecture).numpy() ** -0.5
    with pm.Model() as model:
        weights = pm.Normal("w", 0.0, scale, shape=architecture.parameters)
        inputs = problem.inputs.numpy().astype(np.float32)
        logits = network_output(weights, inputs, architecture)
        pm.Categorical("y", logit_p=logits, observed=problem.targets.numpy())
    return model


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
        tuning = chain.done < self.settings.tune
        with jax.enable_x64(False):  # holds for one thread only
            indices = jnp.arange(chain.done, chain.done + batch)
            keys = jax.vmap(lambda i: jax.random.fold_in(self._key(number), i))(indices)
            run = self.tune if tuning else self.draw
            found = jax.device_get(run(chain.position, chain.adaptation, keys))
        if tuning:
            chain.position, chain.adaptation = found
        else:
            _keep(chain, batch, *found)
        chain.done += batch
        chain.seconds += time.perf_counter() - began

    def _key(self, chain: int) -> jax.Array:
        return jax.random.fold_in(jax.random.key(self.settings.seed), chain)


def _keep(chain: Chain, batch: int, position: Any, weights: Any, kept: Any) -> None:
    """Take a batch of draws into a chain."""
    log_odds, linear, accepted, divergent, steps = kept
    chain.position = position
    chain.predictions.add(1 / (1 + np.exp(-log_odds.astype(np.float64))))
    chain.linear.add(linear.astype(np.float64))
    chain.weights.merge(batch, *weights)
    chain.log_odds.append(log_odds.astype(np.float16))
    chain.accepted.append(accepted)
    chain.divergent.append(divergent)
    chain.steps.append(steps)


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
        predict = _predictor(architecture, jnp.asarray(mode, jnp.float32), points)
        tune = jax.jit(_tuning(begin, step, settings))
        draw = jax.jit(_drawing(begin, step, predict, settings))
    return Sampler(tune, draw, scale, settings)


def _predictor(architecture: Activated, mode: jax.Array, points: Tensor) -> Callable:
    """Weights to (log-odds of every class, gᵀθ of every class) at the points."""
    weights, inputs = pt.fvector("w"), pt.fmatrix("x")
    graph = get_jaxified_graph([weights, inputs], [network_output(weights, inputs, architecture)])
    x = jnp.asarray(points.numpy(), jnp.float32)
    others = jnp.where(jnp.eye(architecture.outputs, dtype=bool), -jnp.inf, 0.0)

    def log_odds(w: jax.Array) -> jax.Array:
        logits = graph(w, x)[0]
        return logits - jax.nn.logsumexp(logits[:, None, :] + others, axis=-1)

    def both(w: jax.Array) -> tuple[jax.Array, jax.Array]:
        probability = lambda v: jax.nn.sigmoid(log_odds(v))  # noqa: E731
        return log_odds(w), jax.jvp(probability, (mode,), (w,))[1]

    return both


def _tuning(begin: Callable, step: Callable, settings: HMC) -> Callable:
    _, adapt, _ = dual_averaging_adaptation(settings.target_accept)
    kind = type(dual_averaging_adaptation(settings.target_accept)[0](0.01))

    def run(position: jax.Array, adaptation: jax.Array, keys: jax.Array) -> tuple:
        def one(carry: tuple, key: jax.Array) -> tuple:
            state, adaptation = carry
            state = state._replace(random_generator_arg=jax.random.fold_in(key, 1))
            state, info = step(key, state, jnp.exp(adaptation.log_step_size))
            return (state, adapt(adaptation, info.acceptance_rate)), None

        first = begin(position, random_generator_arg=keys[0])
        (state, tuned), _ = jax.lax.scan(one, (first, kind(*adaptation)), keys)
        return state.position, jnp.stack(tuned).astype(jnp.float32)

    return run


def _drawing(begin: Callable, step: Callable, predict: Callable, settings: HMC) -> Callable:
    start, _, finish = dual_averaging_adaptation(settings.target_accept)
    kind = type(start(0.01))

    def run(position: jax.Array, adaptation: jax.Array, keys: jax.Array) -> tuple:
        size = finish(kind(*adaptation))

        def one(carry: tuple, key: jax.Array) -> tuple:
            state, count, mean, squares = carry
            state = state._replace(random_generator_arg=jax.random.fold_in(key, 1))
            state, info = step(key, state, size)
            change = state.position - mean
            mean = mean + change / (count + 1)
            squares = squares + change * (state.position - mean)
            kept = (info.acceptance_rate, info.is_divergent, info.num_integration_steps)
            return (state, count + 1, mean, squares), (*predict(state.position), *kept)

        blank = jnp.zeros_like(position)
        carry = (begin(position, random_generator_arg=keys[0]), 0.0, blank, blank)
        (state, _, mean, squares), kept = jax.lax.scan(one, carry, keys)
        return state.position, (mean, squares), kept

    return run


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
