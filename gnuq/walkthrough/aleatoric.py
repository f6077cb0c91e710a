"""What the chapter on §3.3 shows: the terms of Eq. (8) on the grids of the validation."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float

from gnuq.networks import fit_map
from gnuq.protocol import Experiment
from gnuq.results import correlate, point_estimates, reference

#: (estimate, what it is held against, columns of `grid_estimates`).
COMPARISONS = {
    ("p*(1 − p*)", "total"): ("bernoulli", "hmc_total"),
    ("p*(1 − p*)", "aleatoric"): ("bernoulli", "hmc_aleatoric"),
    ("p*(1 − p*) − gᵀΣg, Laplace", "aleatoric"): ("second_order_aleatoric", "hmc_aleatoric"),
    ("p*(1 − p*) − Var[p], HMC", "aleatoric"): ("best_correction", "hmc_aleatoric"),
}


@dataclass(frozen=True)
class Terms:
    """E[p(1 − p)] = kept + first_order + shift + spread, exactly, with d = p̄ − p*.

    Attributes:
        kept: p*(1 − p*), the paper's estimate.
        first_order: (1 − 2p*) d; the paper sets it to zero.
        shift: −d², neglected by the expansion to first order.
        spread: −Var[p], neglected too: minus the epistemic part of Eq. (2).
    """

    kept: Float[np.ndarray, " grid"]
    first_order: Float[np.ndarray, " grid"]
    shift: Float[np.ndarray, " grid"]
    spread: Float[np.ndarray, " grid"]

    @property
    def total(self) -> Float[np.ndarray, " grid"]:
        """Their sum, E[p(1 − p)]."""
        return self.kept + self.first_order + self.shift + self.spread


def expand(
    point: Float[np.ndarray, " grid"],
    mean: Float[np.ndarray, " grid"],
    variance: Float[np.ndarray, " grid"],
) -> Terms:
    """The exact expansion of E[p(1 − p)] about p*.

    Args:
        point: p*, the prediction at the mode.
        mean: p̄ = E[p], the posterior mean.
        variance: Var[p], the posterior variance.

    Source:
        Not in the paper. p(1 − p) is quadratic in p, so its expansion about p* ends after the
        second term, p*(1 − p*) + (1 − 2p*)(p − p*) − (p − p*)²; take the mean of each.
    """
    d = mean - point
    return Terms(point * (1 - point), (1 - 2 * point) * d, -(d**2), -variance)


def grid_estimates(experiments: Iterable[Experiment]) -> pd.DataFrame:
    """Reference and point estimates on the grid, experiment after experiment.

    Returns:
        The columns of `results.reference` and `results.point_estimates`, with problem, seed and
        best_correction = p*(1 − p*) − Var[p], the correction with the variance of the reference.
    """
    frames = []
    for e in experiments:
        fit = fit_map(e.architecture, e.problem, e.prior)
        frame = reference(e).join(point_estimates(e, fit))
        best = frame["bernoulli"] - frame["hmc_epistemic"]
        frames.append(frame.assign(problem=e.problem_name, seed=e.seed, best_correction=best))
    return pd.concat(frames, ignore_index=True)


def by_region(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The whole grid, and its part inside the data."""
    return {"whole grid": frame, "inside the data": frame[frame["inside"]]}


def term_sizes(frame: pd.DataFrame) -> pd.DataFrame:
    """Mean absolute size of each term of `expand`, relative to the mean of p*(1 − p*).

    Args:
        frame: what `grid_estimates` returns.

    Returns:
        One row a problem, region and seed: first_order, shift, spread; error = the mean of
        |E[p(1 − p)] − p*(1 − p*)|, what the estimate misses in all. All in units of the mean
        of p*(1 − p*). And positive, the share of points where the first-order term is > 0.
    """
    rows = []
    for (problem, seed), whole in frame.groupby(["problem", "seed"], sort=False):
        for region, part in by_region(whole).items():
            names = ("probability", "hmc_mean", "hmc_epistemic")
            terms = expand(*(part[name].to_numpy() for name in names))
            sizes = {name: getattr(terms, name) for name in _NEGLECTED}
            sizes["error"] = terms.kept - terms.total
            level = terms.kept.mean()
            shares = {name: float(abs(size).mean() / level) for name, size in sizes.items()}
            shares["positive"] = float((terms.first_order > 0).mean())
            rows.append({"problem": problem, "seed": seed, "region": region, **shares})
    return pd.DataFrame(rows)


_NEGLECTED = ("first_order", "shift", "spread")


def levels(frame: pd.DataFrame, *, region: str = "inside the data") -> pd.DataFrame:
    """Each estimate of the aleatoric part: correlation and level.

    Args:
        frame: what `grid_estimates` returns.
        region: a key of `by_region`.

    Returns:
        Means over seeds, one row a problem and comparison: pearson, spearman, level (the mean
        of the estimate over the mean of the reference) and negative (the share of grid points
        at which the estimate is below zero, as no variance can be).
    """
    pairs = {" | ".join(key): columns for key, columns in COMPARISONS.items()}
    rows = []
    for (problem, _), whole in frame.groupby(["problem", "seed"], sort=False):
        part = by_region(whole)[region]
        found = correlate(part, pairs).assign(problem=str(problem))
        found["level"] = [part[a].mean() / part[b].mean() for a, b in pairs.values()]
        found["negative"] = [float((part[a] < 0).mean()) for a, _ in pairs.values()]
        rows.append(found)
    means = pd.concat(rows).groupby(["problem", "comparison"], sort=False).mean()
    split = [(problem, *comparison.split(" | ")) for problem, comparison in means.index]
    names = ["problem", "estimate", "reference"]
    return means.set_axis(pd.MultiIndex.from_tuples(split, names=names))
