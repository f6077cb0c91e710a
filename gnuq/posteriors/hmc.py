"""Hamiltonian Monte Carlo for the small networks: the reference of §4.1.

PyMC states the model; its log-density, compiled by JAX, is sampled by blackjax in float32 with
dual averaging of the step size. Chains run in parallel threads. The mass matrix is the prior's
precision, so that a path length is measured in prior standard deviations.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytensor.tensor as pt
from blackjax.adaptation.step_size import dual_averaging_adaptation
from blackjax.mcmc import dynamic_hmc, nuts
from jaxtyping import Float
from torch import Tensor

from gnuq.networks import Architecture, Prior
from gnuq.posteriors.settings import HMC
from gnuq.problems import Problem

with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)  # ArviZ 0.23 announces ArviZ 1 on import
    import pymc as pm
    from pymc.sampling.jax import get_jaxified_graph

MAX_LEAPFROG_STEPS = 1024


@dataclass(frozen=True)
class Draws:
    """Draws from a posterior, with what the sampler says about them.

    Attributes:
        weights: shape (chains, draws, P), in the order of `module.parameters()`.
        acceptance: mean acceptance rate of each chain.
        step_size: step size of each chain after tuning.
        divergences: number of divergent transitions among the kept draws, all chains.
        leapfrog_steps: mean number of leapfrog steps of a kept draw.
        seconds: wall time, compilation and tuning included.
    """

    weights: Float[np.ndarray, "chains draws parameters"]
    acceptance: Float[np.ndarray, " chains"]
    step_size: Float[np.ndarray, " chains"]
    divergences: int
    leapfrog_steps: float
    seconds: float


def network_output(weights: Any, inputs: Any, architecture: Architecture) -> Any:
    """The multilayer perceptron as a PyTensor graph of one flat weight vector.

    Args:
        weights: flat vector of P parameters, layer by layer, weight (row-major) before bias.
        inputs: shape (batch, inputs).
        architecture: the network's shape.

    Returns:
        The outputs (logits, or values in regression), shape (batch, outputs).
    """
    hidden, start = inputs, 0
    for depth, (fan_in, fan_out) in enumerate(architecture.layers):
        matrix = weights[start : start + fan_in * fan_out].reshape((fan_out, fan_in))
        start += fan_in * fan_out
        hidden = hidden @ matrix.T + weights[start : start + fan_out]
        start += fan_out
        if depth < len(architecture.hidden):
            hidden = pt.tanh(hidden)
    return hidden


def bayesian_network(architecture: Architecture, problem: Problem, prior: Prior) -> pm.Model:
    """The PyMC model: one flat vector `w` with the prior, and the problem's likelihood."""
    scale = prior.precisions(architecture).numpy() ** -0.5
    with pm.Model() as model:
        weights = pm.Normal("w", 0.0, scale, shape=architecture.parameters)
        inputs = problem.inputs.numpy().astype(np.float32)
        outputs = network_output(weights, inputs, architecture)
        targets = problem.targets.numpy()
        if problem.task == "binary":
            pm.Bernoulli("y", logit_p=outputs[:, 0], observed=targets)
        elif problem.task == "multiclass":
            pm.Categorical("y", logit_p=outputs, observed=targets)
        else:
            pm.Normal("y", outputs[:, 0], problem.noise, observed=targets)
    return model


def sample_posterior(
    architecture: Architecture, problem: Problem, prior: Prior, settings: HMC | None = None
) -> Draws:
    """Draw weights from the posterior of a network.

    Raises:
        ValueError: the architecture does not suit the problem, or no draw was accepted.

    Source:
        §4.1: HMC with dual-averaging step-size adaptation.
    """
    architecture.must_suit(problem)
    settings = settings or HMC()
    began = time.perf_counter()
    with _single_precision():
        density = _log_density(bayesian_network(architecture, problem, prior))
        scale = jnp.asarray(prior.precisions(architecture).numpy() ** -0.5, jnp.float32)
        starts, keys = jax.random.split(jax.random.key(settings.seed), (2, settings.chains))
        starts = jax.vmap(lambda key: scale * jax.random.normal(key, scale.shape))(starts)
        chain = jax.jit(_chain(density, scale**2, settings)).lower(starts[0], keys[0]).compile()
        jobs = [(starts[c], keys[c]) for c in range(settings.chains)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        chains = list(pool.map(lambda job: jax.device_get(chain(*job)), jobs))
    weights, accepted, divergent, steps, step_size = (
        np.stack(column) for column in zip(*chains, strict=True)
    )
    return Draws(
        weights=weights,
        acceptance=accepted.mean(1),
        step_size=step_size,
        divergences=int(divergent.sum()),
        leapfrog_steps=float(steps.mean()),
        seconds=time.perf_counter() - began,
    )


@contextmanager
def _single_precision() -> Generator[None]:
    """JAX in float32, which PyMC's import switched to float64; constants are narrowed quietly."""
    with jax.enable_x64(False), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Explicitly requested dtype", UserWarning)
        yield


def _log_density(model: pm.Model) -> Callable[[jax.Array], jax.Array]:
    """The unnormalised log-posterior of the flat vector, as a JAX function."""
    graph = get_jaxified_graph(inputs=model.value_vars, outputs=[model.logp()])
    return lambda w: graph(w)[0]


def _chain(
    density: Callable[[jax.Array], jax.Array], inverse_mass: jax.Array, settings: HMC
) -> Callable:
    """One chain as a function of its start and key: tune, then draw."""
    step = _transition(density, inverse_mass, settings)
    begin, adapt, finish = dual_averaging_adaptation(settings.target_accept)

    def run(start: jax.Array, key: jax.Array) -> tuple:
        first, tuning, drawing = jax.random.split(key, 3)
        state = (
            dynamic_hmc.init(start, density, first)
            if settings.sampler == "hmc"
            else nuts.init(start, density)
        )

        def tune(carry: tuple, key: jax.Array) -> tuple:
            state, adaptation = carry
            state, info = step(key, state, jnp.exp(adaptation.log_step_size))
            return (state, adapt(adaptation, info.acceptance_rate)), None

        def draw(state: Any, key: jax.Array) -> tuple:
            state, info = step(key, state, step_size)
            kept = (state.position, info.acceptance_rate, info.is_divergent)
            return state, (*kept, info.num_integration_steps)

        keys = jax.random.split(tuning, settings.tune)
        (state, adaptation), _ = jax.lax.scan(tune, (state, begin(0.01)), keys)
        step_size = finish(adaptation)
        _, kept = jax.lax.scan(draw, state, jax.random.split(drawing, settings.draws))
        return (*kept, step_size)

    return run


def _transition(
    density: Callable[[jax.Array], jax.Array], inverse_mass: jax.Array, settings: HMC
) -> Callable:
    """One Metropolis transition as a function of key, state and step size."""
    if settings.sampler == "nuts":
        no_u_turn = nuts.build_kernel()
        return lambda key, state, size: no_u_turn(key, state, density, size, inverse_mass)

    def steps(key: jax.Array, mean: jax.Array) -> jax.Array:
        stretched = mean * jax.random.uniform(key, minval=0.5, maxval=1.5)
        return jnp.clip(jnp.ceil(stretched).astype(jnp.int32), 1, MAX_LEAPFROG_STEPS)

    kernel = dynamic_hmc.build_kernel(integration_steps_fn=steps)
    length = settings.path_length
    return lambda key, state, size: kernel(
        key, state, density, size, inverse_mass, (length / size,)
    )


def posterior_predictions(
    draws: Draws, architecture: Architecture, problem: Problem, points: Float[Tensor, "grid d"]
) -> Float[np.ndarray, "chains draws grid outputs"]:
    """The prediction of every draw at every point, float32.

    Returns:
        Shape (chains, draws, grid, outputs): for binary problems the probability of class 1
        (one output), for multiclass ones all class probabilities, in regression the values.
    """
    weights, inputs = pt.fvector("w"), pt.fmatrix("x")
    outputs = network_output(weights, inputs, architecture)
    if problem.task == "binary":
        outputs = pt.sigmoid(outputs)
    elif problem.task == "multiclass":
        outputs = pt.special.softmax(outputs, axis=1)
    with _single_precision():
        graph = get_jaxified_graph(inputs=[weights, inputs], outputs=[outputs])
        x = jnp.asarray(points.numpy(), jnp.float32)
        flat = draws.weights.reshape(-1, architecture.parameters)
        predict = jax.jit(lambda w: jax.lax.map(lambda v: graph(v, x)[0], w, batch_size=32))
        predictions = np.asarray(predict(flat))
    return predictions.reshape(*draws.weights.shape[:2], *predictions.shape[1:])
