"""Hamiltonian Monte Carlo for networks of any width: predictions are kept, weights are not.

One step size is found by all chains together and stored. Then every chain begins at a draw of its
own from the prior, takes small steps, burns in at that step size and draws. Of every draw three
things remain: the log-odds of each class at each grid point (16 bits, for r̂ and the effective
sample size); running moments of the weights, whose variances are the diagonal of Σ; and gᵀθ, the
draw along each prediction's gradient at the mode, whose variance over the draws is gᵀΣg of Eq. (3),
with no covariance matrix formed. gᵀθ is a Jacobian-vector product, two forward passes.

Chains are finished one block after the other, so that of a wide network only one block's weights
are held. A transition's random numbers hang on seed, chain and index alone: a chain that was cut
off goes on as if it had not been. Chains that are advanced together share a trajectory's length,
which hangs on the first of them. No key is used twice: a key is folded with numbers that differ, or
split once, or drawn from once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from gnuq.posteriors.blocks import Block
from gnuq.posteriors.chains import Store
from gnuq.posteriors.prior_flow import steps_of, transition
from gnuq.posteriors.settings import StreamedHMC
from gnuq.posteriors.step_size import STAGE_STEPS, STAGED, STAGES, DualAveraging, staged
from gnuq.posteriors.whitened import Network, Target, network_of, posterior

if TYPE_CHECKING:  # with JAX and NumPy alone the rest runs
    from torch import Tensor

    from gnuq.networks import Activated, Prior
    from gnuq.problems import Problem

#: Steps of a trajectory at most: while the step size is sought, and afterwards.
MOST_STEPS_TUNING, MOST_STEPS = 200, 4096
#: Seconds between two savings.
SAVING = 60.0
#: What random numbers are for: folded into the seed's key first.
_TUNING, _TUNING_LENGTHS, _CHAINS, _LENGTHS = range(4)


@dataclass(frozen=True)
class Sampler:
    """One target's compiled transitions.

    Attributes:
        target: what is sampled.
        settings: of the sampler.
        move: (positions, chains, index, size, fixed) → positions, acceptances; one transition of
            the burn-in, `fixed` steps long or, if that is 0, of a random length.
        seek: the same for tuning.
        draw: (positions, chains, indices, size) → positions, moments of the weights, what is kept.
    """

    target: Target
    settings: StreamedHMC
    move: Callable
    seek: Callable
    draw: Callable

    def start(self, chains: np.ndarray, phase: int = _CHAINS) -> jax.Array:
        """Positions of some chains at draws from the prior, shape (chains, P)."""
        keys = jax.vmap(lambda chain: _key(self.settings.seed, phase, chain, 0))(chains)
        one = lambda key: jax.random.normal(key, (self.target.size,), jnp.float32)  # noqa: E731
        return jax.vmap(one)(keys)

    def tuned(self) -> float:
        """The step size that dual averaging finds with all chains."""
        settings, blocks = self.settings, [*self.blocks()]
        with jax.enable_x64(False):
            positions = [self.start(chains, _TUNING) for chains in blocks]
            averaging = DualAveraging(settings.target_accept, STAGES[-1])
            for index in range(STAGED + settings.tune):
                searching = index >= STAGED
                size = averaging.size if searching else staged(index)
                accepted = []
                for number, chains in enumerate(blocks):
                    positions[number], rates = self.seek(
                        positions[number], chains, index + 1, size, 0 if searching else STAGE_STEPS
                    )
                    accepted.append(np.asarray(rates))
                if searching:
                    averaging.update(float(np.concatenate(accepted).mean()))
        return averaging.final

    def advance(self, block: Block, chains: np.ndarray, size: float, batch: int) -> None:
        """One batch of draws further, or, before them, one transition of the burn-in."""
        began, burning = time.perf_counter(), block.done < STAGED + self.settings.burn_in
        with jax.enable_x64(False):
            if burning:
                small = block.done < STAGED
                now = min(staged(block.done), size) if small else size
                fixed = STAGE_STEPS if small else 0
                positions, _ = self.move(block.positions, chains, block.done + 1, now, fixed)
            else:
                indices = np.arange(block.done + 1, block.done + 1 + batch)
                positions, weights, kept = jax.device_get(
                    self.draw(block.positions, chains, indices, size)
                )
                block.keep(weights, kept)
            block.positions = np.asarray(positions)
        block.done += 1 if burning else batch
        block.seconds += time.perf_counter() - began

    def blocks(self) -> Iterator[np.ndarray]:
        """The numbers of the chains that are advanced together, block by block."""
        for first in range(0, self.settings.chains, self.settings.together):
            yield np.arange(first, first + self.settings.together)


def sampler(target: Target, settings: StreamedHMC) -> Sampler:
    """Compile a target's transitions."""
    move = jax.jit(_moving(target, settings, _CHAINS, _LENGTHS, MOST_STEPS))
    seek = jax.jit(_moving(target, settings, _TUNING, _TUNING_LENGTHS, MOST_STEPS_TUNING))
    return Sampler(target, settings, move, seek, jax.jit(_drawing(target, settings)))


def of_network(
    architecture: Activated,
    problem: Problem,
    prior: Prior,
    mode: np.ndarray,
    points: Tensor,
    settings: StreamedHMC,
) -> Sampler:
    """Compile the transitions of a network's posterior.

    Args:
        architecture: the network.
        problem: one of several classes.
        prior: over the weights.
        mode: θ*, shape (P,), where the gradients of gᵀθ are taken.
        points: where predictions are kept, shape (grid, inputs).
        settings: of the sampler.

    Raises:
        ValueError: another task, or an architecture that does not suit.
    """
    architecture.must_suit(problem)
    if problem.task != "multiclass":
        raise ValueError(f"problem: {problem.name!r} has not several classes ({problem.task}).")
    network = whitened_network(architecture, prior)
    inputs, targets = problem.inputs.numpy(), problem.targets.numpy()
    with jax.enable_x64(False):
        target = posterior(network, inputs, targets, mode, points.numpy())
    return sampler(target, settings)


def whitened_network(architecture: Activated, prior: Prior) -> Network:
    """A network and its prior, as the sampler takes them."""
    return network_of(architecture.layers, prior, architecture.activation)


def sample(
    compiled: Sampler, *, batch: int, store: Store | None = None
) -> tuple[list[Block], float]:
    """Run all chains to their end, from where `store` says that they stand.

    Args:
        compiled: what `sampler` returns.
        batch: draws that are made in one go; it divides the number of draws.
        store: where states are kept; None keeps none.

    Returns:
        The blocks of chains, and the step size.

    Raises:
        ValueError: a batch that does not divide.
    """
    settings = compiled.settings
    if settings.draws % batch:
        raise ValueError(f"batch: {batch} does not divide {settings.draws} draws.")
    size = _step_size(compiled, store)
    return [
        _finished(compiled, number, chains, size, batch, store)
        for number, chains in enumerate(compiled.blocks())
    ], size


def report(blocks: list[Block], size: float) -> dict[str, Any]:
    """What the sampler says about finished chains, as JSON-able values."""
    accepted = np.concatenate([np.concatenate(b.accepted).mean(0) for b in blocks])
    return {
        "divergences": int(sum(np.concatenate(b.divergent).sum() for b in blocks)),
        "acceptance": [round(float(rate), 3) for rate in accepted],
        "step_size": round(size, 5),
        "leapfrog_steps": round(float(np.mean([np.concatenate(b.steps) for b in blocks])), 1),
        "block_seconds": [round(block.seconds, 1) for block in blocks],
    }


def _step_size(compiled: Sampler, store: Store | None) -> float:
    known = store.load("step-size") if store is not None else None
    if known is not None:
        return float(known["size"])
    size = compiled.tuned()
    if store is not None:
        store.save("step-size", {"size": np.array(size)})
    return size


def _finished(
    compiled: Sampler,
    number: int,
    chains: np.ndarray,
    size: float,
    batch: int,
    store: Store | None,
) -> Block:
    """One block's chains, run to their end."""
    settings, key = compiled.settings, f"block-{number}"
    known = store.load(key) if store is not None else None
    with jax.enable_x64(False):
        block = Block.unpacked(known) if known else Block(np.asarray(compiled.start(chains)))
    end, saved = STAGED + settings.burn_in + settings.draws, time.monotonic()
    while block.done < end:
        compiled.advance(block, chains, size, batch)
        if store is not None and (block.done == end or time.monotonic() - saved > SAVING):
            store.save(key, block.packed())
            saved = time.monotonic()
    return block


def _key(seed: int, phase: int, *numbers: Any) -> jax.Array:
    """The key of a chain's transition, or of a transition's length."""
    key = jax.random.fold_in(jax.random.key(seed), phase)
    for number in numbers:
        key = jax.random.fold_in(key, number)
    return key


def _moving(target: Target, settings: StreamedHMC, phase: int, lengths: int, most: int) -> Callable:
    """One transition of some chains, whose random numbers are those of a phase."""
    step = jax.vmap(transition(target), in_axes=(0, 0, None, None))

    def move(
        positions: jax.Array, chains: jax.Array, index: int, size: float, fixed: int
    ) -> tuple[jax.Array, jax.Array]:
        size = jnp.float32(size)
        stretched = steps_of(
            _key(settings.seed, lengths, chains[0], index), size, settings.path_length, most
        )
        steps = jnp.where(fixed > 0, fixed, stretched)
        keys = jax.vmap(lambda chain: _key(settings.seed, phase, chain, index))(chains)
        positions, told = step(positions, keys, size, steps)
        return positions, told.acceptance

    return move


def _drawing(target: Target, settings: StreamedHMC) -> Callable:
    """A batch of draws of some chains.

    Returns:
        (positions, chains, indices, size) → positions; mean and summed squared deviations of the
        positions over the batch; and for each draw what the target keeps, acceptance rates,
        whether they diverged, number of steps.
    """
    step = jax.vmap(transition(target), in_axes=(0, 0, None, None))

    def draw(positions: jax.Array, chains: jax.Array, indices: jax.Array, size: float) -> tuple:
        size = jnp.float32(size)

        def one(carry: tuple, index: jax.Array) -> tuple:
            positions, count, mean, squares = carry
            steps = steps_of(
                _key(settings.seed, _LENGTHS, chains[0], index),
                size,
                settings.path_length,
                MOST_STEPS,
            )
            keys = jax.vmap(lambda chain: _key(settings.seed, _CHAINS, chain, index))(chains)
            positions, told = step(positions, keys, size, steps)
            change = positions - mean
            mean = mean + change / (count + 1)
            squares = squares + change * (positions - mean)
            kept = jax.vmap(lambda flat: target.predict(target.tree(flat)))(positions)
            return (positions, count + 1, mean, squares), (*kept, *told, steps)

        blank = jnp.zeros_like(positions)
        carry = (positions, jnp.float32(0), blank, blank)
        (positions, _, mean, squares), kept = jax.lax.scan(one, carry, indices)
        return positions, (mean, squares), kept

    return draw
