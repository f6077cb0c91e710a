"""What a posterior's record takes from its chains, whichever machine ran them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from gnuq.posteriors.blocks import Block, log_odds, pooled
from gnuq.posteriors.rank_convergence import convergence

MAX_R_HAT = 1.01
MIN_EFFECTIVE_SAMPLES = 400


@dataclass(frozen=True)
class Summary:
    """Moments of the draws; a and b are the first and the second half of the chains.

    Attributes:
        mean_a: of the class probabilities, shape (grid, classes); mean_b likewise.
        variance_a: of the class probabilities, shape (grid, classes); variance_b likewise.
        linear_variance_a: gᵀΣg, of gᵀθ, shape (grid, classes); linear_variance_b likewise.
        r_hat: of the class probabilities, shape (grid, classes).
        effective_samples: bulk, shape (grid, classes).
        weights: variance of every weight over all chains, shape (P,).
        last: the weights of the last draw of the first chain, shape (P,).
    """

    mean_a: np.ndarray
    variance_a: np.ndarray
    mean_b: np.ndarray
    variance_b: np.ndarray
    linear_variance_a: np.ndarray
    linear_variance_b: np.ndarray
    r_hat: np.ndarray
    effective_samples: np.ndarray
    weights: np.ndarray
    last: np.ndarray

    def packed(self) -> dict[str, np.ndarray]:
        """As arrays, in the precision of the arithmetic."""
        return {f.name: getattr(self, f.name).astype(np.float32) for f in fields(self)}

    @classmethod
    def unpacked(cls, arrays: Mapping[str, np.ndarray]) -> Summary:
        """The inverse of `packed`."""
        return cls(**{f.name: arrays[f.name] for f in fields(cls)})

    @property
    def report(self) -> dict[str, Any]:
        """Convergence at all grid points, as JSON-able values."""
        worst, least = float(self.r_hat.max()), float(self.effective_samples.min())
        return {
            "r_hat_max": round(worst, 5),
            "effective_samples_min": round(least, 1),
            "effective_samples_median": round(float(np.median(self.effective_samples)), 1),
            "converged": worst < MAX_R_HAT and least > MIN_EFFECTIVE_SAMPLES,
            "trace": float(self.weights.sum(dtype=np.float64)),
        }


def summarised(blocks: Sequence[Block], deviations: np.ndarray) -> Summary:
    """Reduce finished chains.

    Args:
        blocks: of `gnuq.posteriors.streamed.sample`; an even number of chains.
        deviations: the prior's standard deviations, shape (P,).
    """
    chains = sum(len(block.positions) for block in blocks)
    halves = {"a": slice(chains // 2), "b": slice(chains // 2, None)}
    moments = {}
    for name, part in halves.items():
        moments[f"mean_{name}"], moments[f"variance_{name}"] = pooled(blocks, "predictions", part)
        moments[f"linear_variance_{name}"] = pooled(blocks, "linear", part)[1]
    odds = log_odds(blocks)
    # class by class: half the memory of a few hundred megabytes
    judged = [
        convergence(1 / (1 + np.exp(-odds[..., k].astype(np.float64))))
        for k in range(odds.shape[-1])
    ]
    r_hat, effective = (np.stack(column, -1) for column in zip(*judged, strict=True))
    return Summary(
        **moments,
        r_hat=r_hat,
        effective_samples=effective,
        weights=pooled(blocks, "weights")[1] * deviations**2,
        last=blocks[0].positions[0] * deviations,
    )
