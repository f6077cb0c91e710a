"""A network's posterior in whitened coordinates, where the prior is the standard normal.

Every weight is divided by its prior standard deviation, w = s·z. The weights stay matrices, one
pair (W, b) a layer: a flat vector that is cut into layers costs three times as much a gradient.
JAX and NumPy are all that is needed, so that the same code runs where nothing else is installed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "tanh": jnp.tanh,
    "relu": lambda x: jnp.maximum(x, 0),
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
}


class Gaussian(Protocol):
    """What of `gnuq.networks.Prior` is read."""

    @property
    def precision(self) -> float:
        """λ."""

    @property
    def scaling(self) -> str:
        """`"unit"` or `"fan_in"`."""


@dataclass(frozen=True)
class Network:
    """A multilayer perceptron with the prior's standard deviations.

    Attributes:
        layers: (fan-in, fan-out) of every linear layer, from the input upwards.
        scales: prior standard deviation of each layer's weights and of its biases.
        activation: a key of `ACTIVATIONS`.
    """

    layers: tuple[tuple[int, int], ...]
    scales: tuple[tuple[float, float], ...]
    activation: str = "tanh"

    def __post_init__(self) -> None:
        if self.activation not in ACTIVATIONS:
            known = ", ".join(ACTIVATIONS)
            raise ValueError(f"activation: {self.activation!r} is unknown; one of {known}.")

    @property
    def origin(self) -> tuple:
        """The network whose weights are all zero: a pair (W, b) a layer, float32."""
        return tuple(
            (np.zeros((fan_out, fan_in), np.float32), np.zeros(fan_out, np.float32))
            for fan_in, fan_out in self.layers
        )

    @property
    def deviations(self) -> np.ndarray:
        """s, the prior standard deviation of every parameter, shape (P,), float32.

        The order is that of `module.parameters()`: layer by layer, weights row by row, then bias.
        """
        pieces = [
            np.repeat(np.array(scales, np.float32), [fan_in * fan_out, fan_out])
            for (fan_in, fan_out), scales in zip(self.layers, self.scales, strict=True)
        ]
        return np.concatenate(pieces)

    def logits(self, z: Any, inputs: jax.Array) -> jax.Array:
        """The outputs, shape (batch, classes).

        Args:
            z: whitened weights, like `origin`.
            inputs: shape (batch, inputs).
        """
        activation, hidden = ACTIVATIONS[self.activation], inputs
        for depth, ((W, b), (of_weights, of_biases)) in enumerate(zip(z, self.scales, strict=True)):
            hidden = activation(hidden) if depth else hidden
            hidden = (hidden @ W.T) * of_weights + of_biases * b
        return hidden


def network_of(layers: list[tuple[int, int]], prior: Gaussian, activation: str) -> Network:
    """A network with the standard deviations of a prior.

    Args:
        layers: as of `Network`.
        prior: a `gnuq.networks.Prior`: with the scaling `"fan_in"` a weight's variance is
            1/(λ·fan_in), else 1/λ; a bias's is 1/λ.
        activation: a key of `ACTIVATIONS`.
    """
    scaled = prior.scaling == "fan_in"
    scales = [
        ((prior.precision * (fan_in if scaled else 1)) ** -0.5, prior.precision**-0.5)
        for fan_in, _ in layers
    ]
    return Network(tuple(layers), tuple(scales), activation)


@dataclass(frozen=True)
class Target:
    """A distribution in whitened coordinates: a standard normal prior times a likelihood.

    Attributes:
        log_likelihoods: position (a tree like `origin`) → log-likelihood of every example,
            shape (N,), in nats.
        predict: position → what is kept of a draw, a tuple of arrays.
        origin: the zero position; it says how a flat vector is cut into the tree.
    """

    log_likelihoods: Callable[[Any], jax.Array]
    predict: Callable[[Any], tuple]
    origin: Any

    @property
    def size(self) -> int:
        """Number of coordinates, P."""
        return int(sum(np.size(leaf) for leaf in jax.tree_util.tree_leaves(self.origin)))

    def tree(self, flat: jax.Array) -> Any:
        """A flat vector of P coordinates as a position."""
        unravel: Callable[[jax.Array], Any] = ravel_pytree(self.origin)[1]
        return unravel(flat)


def posterior(
    network: Network, inputs: np.ndarray, targets: np.ndarray, mode: np.ndarray, points: np.ndarray
) -> Target:
    """The posterior of a classifier, whose log-odds and gᵀθ on a grid are kept.

    Args:
        network: with its prior.
        inputs: shape (N, inputs).
        targets: class indices, shape (N,).
        mode: θ* in the network's own coordinates, shape (P,), where gᵀθ takes the gradients.
        points: where predictions are kept, shape (grid, inputs).

    Returns:
        The target; its `predict` gives the log-odds of every class and gᵀθ of every class, each of
        shape (grid, classes).
    """
    x, chosen = jnp.asarray(inputs, jnp.float32), jnp.asarray(targets, jnp.int32)
    unravel = ravel_pytree(network.origin)[1]
    at = unravel(jnp.asarray(mode / network.deviations, jnp.float32))

    def log_likelihoods(z: Any) -> jax.Array:
        logits = network.logits(z, x)
        # A product with zeros and ones: its derivative is no scatter.
        own = (logits * jax.nn.one_hot(chosen, logits.shape[1], dtype=jnp.float32)).sum(1)
        return own - jax.nn.logsumexp(logits, axis=1)

    return Target(log_likelihoods, predictor(network, at, points), network.origin)


def predictor(network: Network, mode: Any, points: np.ndarray) -> Callable[[Any], tuple]:
    """Whitened weights → (log-odds of every class, gᵀθ of every class), g the gradients at a mode.

    Args:
        network: which.
        mode: whitened weights.
        points: shape (grid, inputs).
    """
    x = jnp.asarray(points, jnp.float32)
    # gᵀθ does not depend on the coordinates: the chain rule undoes the scale. What the derivative
    # needs of the mode is computed once.
    at_mode, linear = jax.linearize(lambda z: log_odds(network, z, x), mode)
    slopes = _slope(at_mode)
    return lambda z: (log_odds(network, z, x), slopes * linear(z))


def log_odds(network: Network, z: Any, inputs: jax.Array) -> jax.Array:
    """The log-odds of every class, shape (batch, classes); arguments as of `logits`."""
    logits = network.logits(z, inputs)
    others = jnp.where(jnp.eye(logits.shape[1], dtype=bool), -jnp.inf, jnp.float32(0))
    return logits - jax.nn.logsumexp(logits[:, None, :] + others, axis=-1)


@partial(jax.jit, static_argnums=0)
def quadratic_form(network: Network, z: Any, points: jax.Array, weights: Any) -> jax.Array:
    """Σ_i v_i g_i², g the gradient of every class probability in whitened coordinates.

    With v the variances of the whitened weights it is the diagonal's share of gᵀΣg, Eq. (3); with
    v = 1/s² it is the squared gradient norm in the network's own coordinates, Eq. (10).

    Args:
        network: which.
        z: where the gradients are taken, like `origin`.
        points: shape (grid, inputs).
        weights: v, like `origin`.

    Returns:
        Shape (grid, classes).
    """

    def one(point: jax.Array) -> jax.Array:
        odds, pull = jax.vjp(lambda z: log_odds(network, z, point[None])[0], z)
        (rows,) = jax.vmap(pull)(jnp.eye(len(odds), dtype=odds.dtype))
        terms = jax.tree_util.tree_map(
            lambda g, v: (g.reshape(len(odds), -1) ** 2 * v.ravel()).sum(1), rows, weights
        )
        total: jax.Array = _slope(odds) ** 2 * sum(jax.tree_util.tree_leaves(terms))
        return total

    found: jax.Array = jax.lax.map(one, points)
    return found


def _slope(log_odds: jax.Array) -> jax.Array:
    """p(1 − p), with no difference of two numbers that are nearly equal."""
    return jax.nn.sigmoid(log_odds) * jax.nn.sigmoid(-log_odds)
