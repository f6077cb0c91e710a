"""What a posterior's record takes from its chains, whichever machine ran them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from gnuq.posteriors import whitened
from gnuq.posteriors.blocks import Block, log_odds, pooled
from gnuq.posteriors.rank_convergence import convergence
from gnuq.posteriors.whitened import Network, quadratic_form

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
        diagonal: Σ_i g_i² Σ_ii at the mode, shape (grid, classes).
        draw_probability: at the last draw of the first chain, shape (grid, classes).
        draw_norm: the squared gradient norm there, shape (grid, classes).
        trace: of Σ.
    """

    mean_a: np.ndarray
    variance_a: np.ndarray
    mean_b: np.ndarray
    variance_b: np.ndarray
    linear_variance_a: np.ndarray
    linear_variance_b: np.ndarray
    r_hat: np.ndarray
    effective_samples: np.ndarray
    diagonal: np.ndarray
    draw_probability: np.ndarray
    draw_norm: np.ndarray
    trace: float

    @property
    def columns(self) -> dict[str, np.ndarray]:
        """What there is of every class at every grid point, shape (grid, classes)."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "trace"}

    @property
    def report(self) -> dict[str, Any]:
        """Convergence at all grid points, as JSON-able values."""
        worst, least = float(self.r_hat.max()), float(self.effective_samples.min())
        return {
            "r_hat_max": round(worst, 5),
            "effective_samples_min": round(least, 1),
            "effective_samples_median": round(float(np.median(self.effective_samples)), 1),
            "converged": worst < MAX_R_HAT and least > MIN_EFFECTIVE_SAMPLES,
            "trace": self.trace,
        }


def summarised(
    blocks: Sequence[Block], network: Network, mode: np.ndarray, points: np.ndarray
) -> Summary:
    """Reduce finished chains of a network's posterior.

    Args:
        blocks: of `gnuq.posteriors.streamed.sample`; an even number of chains.
        network: whose posterior it is.
        mode: as of `gnuq.posteriors.whitened.posterior`.
        points: likewise.
    """
    chains = sum(len(block.positions) for block in blocks)
    halves = {"a": slice(chains // 2), "b": slice(chains // 2, None)}
    moments = {}
    for name, part in halves.items():
        moments[f"mean_{name}"], moments[f"variance_{name}"] = pooled(blocks, "predictions", part)
        moments[f"linear_variance_{name}"] = pooled(blocks, "linear", part)[1]
    spread, deviations = pooled(blocks, "weights")[1], network.deviations
    odds = log_odds(blocks)
    # class by class: half the memory of a few hundred megabytes
    judged = [
        convergence(1 / (1 + np.exp(-odds[..., k].astype(np.float64))))
        for k in range(odds.shape[-1])
    ]
    r_hat, effective = (np.stack(column, -1) for column in zip(*judged, strict=True))
    with jax.enable_x64(False):
        unravel = ravel_pytree(network.origin)[1]

        def tree(values: np.ndarray) -> Any:
            return unravel(jnp.asarray(values, jnp.float32))

        x, last = jnp.asarray(points, jnp.float32), tree(blocks[0].positions[0])
        diagonal = quadratic_form(network, tree(mode / deviations), x, tree(spread))
        norm = quadratic_form(network, last, x, tree(deviations**-2.0))
        drawn = jax.nn.sigmoid(whitened.log_odds(network, last, x))
    return Summary(
        **moments,
        r_hat=r_hat,
        effective_samples=effective,
        diagonal=np.asarray(diagonal),
        draw_probability=np.asarray(drawn),
        draw_norm=np.asarray(norm),
        trace=float((spread * deviations.astype(np.float64) ** 2).sum()),
    )
