"""What is left of a chain whose draws are not kept, and how it is put away."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from gnuq.posteriors.moments import Moments


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

    def keep(self, batch: int, position: Any, weights: Any, kept: Any) -> None:
        """Take in a batch of draws: what `transitions.drawing` returns."""
        log_odds, linear, accepted, divergent, steps = kept
        self.position = position
        self.predictions.add(1 / (1 + np.exp(-log_odds.astype(np.float64))))
        self.linear.add(linear.astype(np.float64))
        self.weights.merge(batch, *weights)
        self.log_odds.append(log_odds.astype(np.float16))
        self.accepted.append(accepted)
        self.divergent.append(divergent)
        self.steps.append(steps)

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
