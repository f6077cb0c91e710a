"""Hamiltonian Monte Carlo whose drift is the prior's exact flow.

In whitened coordinates the Hamiltonian is ½‖z‖² + ½‖p‖² − ℓ(z). A step of size ε kicks p by half of
ε∇ℓ, rotates every pair (z, p) by the angle ε, which solves the prior's part exactly, and kicks
again. So the step does not shrink as weights are added of which the data say nothing. The
rotation is carried out as three shears,

    z += t p,  p −= s z,  z += t p,     t = tan(ε/2), s = sin ε,

each of which is undone exactly; cosines and sines in float32 lose energy at a million dimensions.
Energies are compared element by element before they are summed: in each element the rotation keeps
z² + p², while their sums are a million times larger than the difference that decides.

Source:
    Neal (2011), §5.5.1, the split; Shahbaba et al. (2014), an analytic flow of the Gaussian part.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from gnuq.posteriors.whitened import Target

#: A trajectory whose energy rises by more is called divergent (nats).
DIVERGENT = 1000.0


class Report(NamedTuple):
    """What a transition says about itself.

    Attributes:
        acceptance: the probability with which the proposal was accepted.
        divergent: whether the energy rose by more than `DIVERGENT` or was not finite.
    """

    acceptance: jax.Array
    divergent: jax.Array


def transition(target: Target) -> Callable:
    """One transition: fresh momentum, a trajectory, acceptance.

    Args:
        target: what is sampled.

    Returns:
        (position, key, size, steps) → position, `Report`; the position is flat, shape (P,), size
        the angle ε, steps the number of steps. The key is split once, into the momentum's and the
        acceptance's.
    """
    move, gradient = trajectory(target), _gradient(target)

    def step(position: jax.Array, key: jax.Array, size: jax.Array, steps: jax.Array) -> tuple:
        of_momentum, of_acceptance = jax.random.split(key)
        start = target.tree(position)
        momentum = target.tree(jax.random.normal(of_momentum, position.shape, jnp.float32))
        slope, likelihoods = gradient(start)
        before = (start, momentum, slope, likelihoods)
        after = move(before, size, steps)
        change = energy_change(before, after)
        finite = jnp.isfinite(change)
        acceptance = jnp.where(finite, jnp.minimum(1.0, jnp.exp(-change)), 0.0)
        taken = jax.random.uniform(of_acceptance, dtype=jnp.float32) < acceptance
        proposal = ravel_pytree(after[0])[0]
        report = Report(acceptance, ~finite | (change > DIVERGENT))
        return jnp.where(taken, proposal, position), report

    return step


def trajectory(target: Target) -> Callable:
    """Several steps along the flow.

    Args:
        target: what is sampled.

    Returns:
        ((z, p, ∇ℓ, log-likelihoods), size, steps) → the same at the trajectory's end.
    """
    gradient = _gradient(target)

    def move(state: tuple, size: jax.Array, steps: jax.Array) -> tuple:
        tangent, sine, half = jnp.tan(size / 2), jnp.sin(size), size / 2

        def one(_: int, state: tuple) -> tuple:
            z, p, slope, _likelihoods = state
            p = _plus(p, half, slope)
            z = _plus(z, tangent, p)
            p = _plus(p, -sine, z)
            z = _plus(z, tangent, p)
            slope, likelihoods = gradient(z)
            return z, _plus(p, half, slope), slope, likelihoods

        return jax.lax.fori_loop(0, steps, one, state)

    return move


def energy_change(before: tuple, after: tuple) -> jax.Array:
    """By how much the Hamiltonian rises along a trajectory (nats).

    Args:
        before: (z, p, ∇ℓ, log-likelihoods) at its start.
        after: the same at its end.
    """

    def quadratic(z: jax.Array, z0: jax.Array, p: jax.Array, p0: jax.Array) -> jax.Array:
        return jnp.sum((z - z0) * (z + z0) + (p - p0) * (p + p0)) / 2

    parts = jax.tree_util.tree_map(quadratic, after[0], before[0], after[1], before[1])
    return sum(jax.tree_util.tree_leaves(parts)) - jnp.sum(after[3] - before[3])


def steps_of(key: jax.Array, size: jax.Array, length: float, most: int) -> jax.Array:
    """The number of steps of a trajectory: its length, stretched by a factor in [½, 3⁄2], over ε.

    Args:
        key: of the stretch; it does not depend on the chains' states.
        size: ε.
        length: mean length of a trajectory, an angle; a quarter of the prior's period is π/2.
        most: steps at most.
    """
    stretch = jax.random.uniform(key, dtype=jnp.float32, minval=0.5, maxval=1.5)
    return jnp.clip(jnp.ceil(length * stretch / size).astype(jnp.int32), 1, most)


def _gradient(target: Target) -> Callable:
    """Position → gradient of the summed log-likelihood, and the log-likelihoods."""

    def total(z: Any) -> tuple[jax.Array, jax.Array]:
        likelihoods = target.log_likelihoods(z)
        return jnp.sum(likelihoods), likelihoods

    return jax.grad(total, has_aux=True)


def _plus(tree: Any, factor: jax.Array, other: Any) -> Any:
    return jax.tree_util.tree_map(lambda a, b: a + factor * b, tree, other)
