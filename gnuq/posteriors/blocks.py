"""What is left of chains whose draws are not kept, and how it is put away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float

from gnuq.posteriors.moments import Moments


@dataclass
class Block:
    """What is left of chains that are advanced together.

    Attributes:
        positions: the last draws' whitened weights, shape (chains, P).
        done: transitions made by each chain, those of the burn-in included.
        log_odds: batches of shape (draws, chains, grid, classes), float16.
        predictions: moments of the class probabilities, shape (chains, grid, classes).
        linear: moments of gᵀθ, shape (chains, grid, classes).
        weights: moments of the whitened weights, shape (chains, P).
        accepted: batches of acceptance rates, shape (draws, chains).
        divergent: batches of whether a draw's trajectory diverged, shape (draws, chains).
        steps: batches of numbers of steps, shape (draws,).
        seconds: spent so far, compilation included.
    """

    positions: np.ndarray
    done: int = 0
    log_odds: list[np.ndarray] = field(default_factory=list)
    predictions: Moments = field(default_factory=Moments)
    linear: Moments = field(default_factory=Moments)
    weights: Moments = field(default_factory=Moments)
    accepted: list[np.ndarray] = field(default_factory=list)
    divergent: list[np.ndarray] = field(default_factory=list)
    steps: list[np.ndarray] = field(default_factory=list)
    seconds: float = 0.0

    def keep(self, weights: Any, kept: Any) -> None:
        """Take in a batch of draws: what `gnuq.posteriors.streamed` returns for it."""
        log_odds, linear, accepted, divergent, steps = kept
        self.predictions.add(1 / (1 + np.exp(-log_odds.astype(np.float64))))
        self.linear.add(linear.astype(np.float64))
        self.weights.merge(len(steps), *weights)
        self.log_odds.append(log_odds.astype(np.float16))
        self.accepted.append(accepted)
        self.divergent.append(divergent)
        self.steps.append(steps)

    def packed(self) -> dict[str, np.ndarray]:
        """As arrays."""
        arrays = {"positions": self.positions, "done": np.array(self.done)}
        arrays["seconds"] = np.array(self.seconds)
        for name in _LISTED:
            arrays |= {name: np.concatenate(getattr(self, name))} if getattr(self, name) else {}
        for name in _MOMENTS:
            arrays |= {f"{name}.{k}": v for k, v in getattr(self, name).packed().items()}
        return arrays

    @classmethod
    def unpacked(cls, arrays: Mapping[str, np.ndarray]) -> Block:
        """The inverse of `packed`."""
        block = cls(arrays["positions"], int(arrays["done"]), seconds=float(arrays["seconds"]))
        for name in _LISTED:
            setattr(block, name, [arrays[name]] if name in arrays else [])
        for name in _MOMENTS:
            setattr(block, name, Moments.unpacked(arrays, f"{name}."))
        return block


_LISTED = ("log_odds", "accepted", "divergent", "steps")
_MOMENTS = ("predictions", "linear", "weights")


def pooled(
    blocks: Sequence[Block], name: str, chains: slice = slice(None)
) -> tuple[Float[np.ndarray, "*shape"], Float[np.ndarray, "*shape"]]:
    """Mean and variance over chains of one length.

    Args:
        blocks: all of them, in order.
        name: `"predictions"`, `"linear"` or `"weights"`.
        chains: which chains; all, if omitted.
    """
    moments: list[Moments] = [getattr(block, name) for block in blocks]
    means = np.concatenate([m.mean for m in moments])[chains]
    variances = np.concatenate([m.variance for m in moments])[chains]
    return means.mean(0, dtype=np.float64), (
        variances.mean(0, dtype=np.float64) + means.var(0, dtype=np.float64)
    )


def log_odds(blocks: Sequence[Block]) -> Float[np.ndarray, "chains draws grid classes"]:
    """The log-odds of every draw, float16."""
    whole = [np.concatenate(block.log_odds) for block in blocks]
    return np.concatenate(whole, axis=1).swapaxes(0, 1)
