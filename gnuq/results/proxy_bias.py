"""Appendix A: what a proxy covariance from one half of the data does to each half of the plane.

A network is trained on all data of a problem that is symmetric under a reflection of x₂. The
Fisher matrix of either half alone, x₂ > 0 (*top*) or x₂ ≤ 0 (*bottom*), gives a covariance, and
each covariance a map of gᵀΣg on a grid that the same reflection leaves alone. Three numbers:

    ratio      mean of a map over the top half of the grid, over that of the bottom half (Table 3)
    Cohen's d  of log(u_top / u_bottom), bottom half of the grid against top half: positive if
               each proxy suppresses uncertainty where its data lie, as the paper says
    factor     exp of the difference of the mean log-ratios: how large that is. Cohen's d says
               only how consistent it is, since it divides by the spread within the halves

Grid points are not independent, and thousands of them make any difference significant: the
Welch test and the interval of d within one run are the paper's, kept for comparison. What is
uncertain is the next data set: `gnuq.results.proxy_tables` takes intervals over seeds.

The factor (p(1 − p))² cancels in a log-ratio and underflows far from the boundary: the variances
are those of the logit until the end.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from scipy import stats
from torch import Tensor

from gnuq.gradnorm import gradient_factors
from gnuq.networks import Architecture, MapFit, Prior, fit_map
from gnuq.posteriors import fisher
from gnuq.problems import Problem, make_grid, make_problem
from gnuq.protocol import MARGIN, POINTS

PROBLEMS = ("linear", "xor", "rings")
SEEDS = tuple(range(10))
#: Prior precisions λ, and the gradient norm at which training may stop: under the weakest prior
#: L-BFGS takes ten thousand steps to the coarser one, and the ratios no longer move.
PRECISIONS = {0.01: 0.1, 1.0: 1e-3, 5.0: 1e-3}
#: Appendix A's network, 1 185 parameters, for all three problems.
NETWORK = Architecture(2, (32, 32), 1)
RESOLUTION = 40  # grid points per side; even, so that none lies between the halves
NORMAL_95 = 1.96


@dataclass(frozen=True)
class Variant:
    """One reading of "the empirical Fisher information matrix (FIM) from each half".

    Attributes:
        covariance: whether the matrix is kept whole or its diagonal only.
        reduction: whether scores are summed or averaged over the half.
        labels: whether they are taken at the observed labels or the model's own.
    """

    covariance: Literal["full", "diagonal"] = "full"
    reduction: fisher.Reduction = "sum"
    labels: fisher.Labels = "observed"


VARIANTS = tuple(
    Variant(*chosen)  # type: ignore[arg-type]
    for chosen in itertools.product(
        ("full", "diagonal"), ("sum", "mean"), ("observed", "predicted")
    )
)
PLAIN = (Variant("full"), Variant("diagonal"))


@dataclass(frozen=True)
class Trained:
    """A network on a problem.

    Attributes:
        problem: all its training data.
        prior: λ.
        fit: the mode.
    """

    problem: Problem
    prior: Prior
    fit: MapFit

    @property
    def upper(self) -> Bool[Tensor, " points"]:
        """Which training points make the top half."""
        return self.problem.inputs[:, 1] > 0


@lru_cache(maxsize=128)
def trained(problem_name: str, seed: int, precision: float = 1.0) -> Trained:
    """The network of one run.

    Args:
        problem_name: one of `PROBLEMS`.
        seed: of the data and of the weights at the start, which would give all data sets the
            same asymmetry if they shared it.
        precision: λ.

    Raises:
        ValueError: a precision that is not positive, or another problem.
    """
    if problem_name not in PROBLEMS:
        raise ValueError(f"problem_name: {problem_name!r}; symmetric are {', '.join(PROBLEMS)}.")
    problem, prior = make_problem(problem_name, points=POINTS, seed=seed), Prior(precision)
    tolerance = PRECISIONS.get(precision, PRECISIONS[1.0])
    fit = fit_map(NETWORK, problem, prior, seed=seed, gradient_tolerance=tolerance)
    return Trained(problem, prior, fit)


def symmetric_grid(problem: Problem, resolution: int = RESOLUTION) -> Float[Tensor, "grid 2"]:
    """A grid around the data whose two halves, x₂ > 0 and x₂ < 0, mirror each other."""
    mirrored = problem.inputs * problem.inputs.new_tensor([1.0, -1.0])
    inputs, targets = torch.cat([problem.inputs, mirrored]), problem.targets.repeat(2)
    both = replace(problem, inputs=inputs, targets=targets)
    return make_grid(both, resolution=resolution, margin=MARGIN).points


def proxy_maps(
    run: Trained,
    variant: Variant,
    proxies: Sequence[Bool[Tensor, " points"]] | None = None,
    *,
    resolution: int = RESOLUTION,
) -> pd.DataFrame:
    """The three maps of Figure 1 and their log-ratio.

    Args:
        run: the network.
        variant: how a proxy covariance is formed.
        proxies: which training points the first and the second proxy hold; the top and the
            bottom half if omitted.
        resolution: grid points per side, an even number.

    Returns:
        One row per grid point, x₁ fastest: x, y; identity = ‖g‖², top and bottom = gᵀΣg under
        either proxy (squared probabilities), log_ratio = log(top / bottom).
    """
    points = symmetric_grid(run.problem, resolution)
    halves = (run.upper, ~run.upper) if proxies is None else proxies
    logit = gradient_factors(run.fit.network, points, _logit)
    p = logit.values.sigmoid()
    squared_slope = (p * (1 - p)).square()
    top, bottom = (logit_variance(run, variant, chosen, points) for chosen in halves)
    columns = {
        "x": points[:, 0],
        "y": points[:, 1],
        "identity": squared_slope * logit.squared_norms(),
        "top": squared_slope * top,
        "bottom": squared_slope * bottom,
        "log_ratio": (top / bottom).log(),
    }
    return pd.DataFrame({name: values.detach().numpy() for name, values in columns.items()})


def logit_variance(
    run: Trained, variant: Variant, chosen: Bool[Tensor, " points"], points: Float[Tensor, "grid 2"]
) -> Float[Tensor, " grid"]:
    """∇fᵀ(F + λI)⁻¹∇f of the logit f, with the Fisher matrix of the chosen training points."""
    make = fisher.full_fisher if variant.covariance == "full" else fisher.diagonal_fisher
    proxy = fisher.subset(run.problem, chosen)
    covariance = make(run.fit, proxy, run.prior, labels=variant.labels, reduction=variant.reduction)
    return covariance.variance(points, _logit)


def _logit(outputs: Tensor) -> Tensor:
    return outputs[:, 0]


def distortion(maps: pd.DataFrame) -> dict[str, float]:
    """The numbers of Table 3 and what belongs beside them, from one run's maps.

    Args:
        maps: as `proxy_maps` returns them.

    Returns:
        ratio_identity, ratio_top, ratio_bottom; cohen_d with the paper's kind of interval,
        d_low and d_high, as if grid points were independent; welch_t and welch_p; factor. All
        as the module's docstring defines them.
    """
    upper = maps["y"] > 0
    above, below = maps[upper], maps[~upper]
    names = ("identity", "top", "bottom")
    ratios = {f"ratio_{name}": above[name].mean() / below[name].mean() for name in names}
    a, b = below["log_ratio"], above["log_ratio"]
    gap, pooled = a.mean() - b.mean(), np.sqrt((a.var() + b.var()) / 2)
    d = gap / pooled if pooled > 0 else 0.0
    error = NORMAL_95 * np.sqrt(1 / len(a) + 1 / len(b) + d**2 / (2 * len(maps)))
    spread = {"cohen_d": d, "d_low": d - error, "d_high": d + error, "factor": np.exp(gap)}
    t, p = stats.ttest_ind(a, b, equal_var=False) if pooled > 0 else (0.0, 1.0)
    return {**ratios, **spread, "welch_t": float(t), "welch_p": float(p)}


def bias(problem_name: str, seed: int) -> pd.DataFrame:
    """Every variant of Appendix A on one data set, and random halves as a control.

    Args:
        problem_name: one of `PROBLEMS`.
        seed: of data and start; random halves have the same.

    Returns:
        One row per precision, split (`"location"` or `"random"`) and variant: problem, seed,
        precision, split, covariance, reduction, labels, then what `distortion` gives. Random
        halves come with summed scores at observed labels only.
    """
    rows = []
    for precision in PRECISIONS:
        run = trained(problem_name, seed, precision)
        at_random = shuffled(POINTS, seed) < POINTS // 2
        splits = {"location": (run.upper, VARIANTS), "random": (at_random, PLAIN)}
        for split, (first, variants) in splits.items():
            for variant in variants:
                found = distortion(proxy_maps(run, variant, (first, ~first)))
                named = {"problem": problem_name, "seed": seed, "precision": precision}
                rows.append({**named, "split": split, **vars(variant), **found})
    return pd.DataFrame(rows)


def proxy_bias() -> pd.DataFrame:
    """`bias` of all problems and seeds: the whole grid of variants (about ten minutes)."""
    return pd.concat([bias(*run) for run in itertools.product(PROBLEMS, SEEDS)], ignore_index=True)


def figure_1(seed: int = 0, *, resolution: int = 60) -> pd.DataFrame:
    """The maps of Figure 1 for all problems, full and diagonal, λ = 1.

    Args:
        seed: of data and start.
        resolution: grid points per side, an even number.

    Returns:
        problem and covariance, then the columns of `proxy_maps`.
    """
    frames = []
    for name, variant in itertools.product(PROBLEMS, PLAIN):
        maps = proxy_maps(trained(name, seed), variant, resolution=resolution)
        frames.append(maps.assign(problem=name, covariance=variant.covariance))
    return pd.concat(frames, ignore_index=True)


def shuffled(count: int, seed: int) -> Tensor:
    """0, 1, …, count − 1 in random order."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))
