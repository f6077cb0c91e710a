"""The pieces of streamed HMC: the model, what is kept of a draw, and batches of transitions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pymc as pm
import pytensor.tensor as pt
from blackjax.adaptation.step_size import dual_averaging_adaptation
from pymc.sampling.jax import get_jaxified_graph
from torch import Tensor

from gnuq.networks import Activated, Prior
from gnuq.posteriors.settings import HMC
from gnuq.problems import Problem

ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "tanh": pt.tanh,
    "relu": lambda x: pt.maximum(x, 0),
    "gelu": lambda x: x * (1 + pt.erf(x / np.sqrt(2).astype(np.float32))) / 2,
}


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


def predictor(architecture: Activated, mode: jax.Array, points: Tensor) -> Callable:
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


def tuning(begin: Callable, step: Callable, settings: HMC) -> Callable:
    """A batch of transitions that tune the step size.

    Args:
        begin: position and random key to the kernel's state.
        step: key, state and step size to the next state and its report.
        settings: of the sampler.

    Returns:
        (position, adaptation, keys) → position, adaptation.
    """
    start, adapt, _ = dual_averaging_adaptation(settings.target_accept)
    kind = type(start(0.01))

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


def drawing(begin: Callable, step: Callable, predict: Callable, settings: HMC) -> Callable:
    """A batch of transitions at the tuned step size.

    Args:
        begin: position and random key to the kernel's state.
        step: key, state and step size to the next state and its report.
        predict: what `predictor` returns.
        settings: of the sampler.

    Returns:
        (position, adaptation, keys) → position; mean and summed squared deviations of the weights
        over the batch; and for each draw its log-odds, gᵀθ, acceptance rate, whether it diverged,
        leapfrog steps.
    """
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
