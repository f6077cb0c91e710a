"""Running means and variances, merged batch by batch without losing digits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float


@dataclass
class Moments:
    """Mean and sum of squared deviations of arrays of one shape.

    Attributes:
        count: how many arrays were taken in.
        mean: their mean.
        squares: their summed squared deviations from the mean.

    Source:
        Chan, Golub and LeVeque (1983), the pairwise update.
    """

    count: int = 0
    mean: Float[np.ndarray, "*shape"] = field(default_factory=lambda: np.zeros(()))
    squares: Float[np.ndarray, "*shape"] = field(default_factory=lambda: np.zeros(()))

    def add(self, values: Float[np.ndarray, " batch *shape"]) -> None:
        """Take in a batch."""
        mean = values.mean(0)
        self.merge(len(values), mean, np.square(values - mean).sum(0))

    def merge(self, count: int, mean: np.ndarray, squares: np.ndarray) -> None:
        """Take in a batch of which only the moments are known."""
        total, change = self.count + count, mean - self.mean
        weight = self.count * count / total
        self.squares = self.squares + squares + np.square(change) * weight
        self.mean = self.mean + change * (count / total)
        self.count = total

    @property
    def variance(self) -> Float[np.ndarray, "*shape"]:
        """The variance, divided by the count."""
        return self.squares / self.count

    def packed(self) -> dict[str, np.ndarray]:
        """As arrays."""
        return {"count": np.array(self.count), "mean": self.mean, "squares": self.squares}

    @classmethod
    def unpacked(cls, arrays: Mapping[str, np.ndarray], prefix: str) -> Moments:
        """The inverse of `packed`, from arrays whose names begin with a prefix."""
        mean, squares = arrays[f"{prefix}mean"], arrays[f"{prefix}squares"]
        return cls(int(arrays[f"{prefix}count"]), mean, squares)


def pooled(chains: list[Moments]) -> Moments:
    """The moments of all chains together."""
    total = Moments()
    for one in chains:
        total.merge(one.count, one.mean, one.squares)
    return total
