"""Correlations of every estimate with the reference over the grid."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import numpy as np
import pandas as pd
from scipy.stats import pearsonr, spearmanr

from gnuq.protocol import Experiment
from gnuq.results.methods import maps

#: Columns of `maps` that estimate each of the record's quantities: (estimate, reference).
#: Regression has no Bernoulli variance, and only binary problems the two Laplace predictives.
EPISTEMIC = {
    "gradient_norm": ("gradient_norm", "hmc_epistemic"),
    "laplace": ("laplace_epistemic", "hmc_epistemic"),
    "gn_laplace": ("gradient_norm", "laplace_epistemic"),
    "bernoulli": ("bernoulli", "hmc_epistemic"),
    "ceiling": ("hmc_epistemic_a", "hmc_epistemic_b"),
}


ALEATORIC = {
    "point": ("bernoulli", "hmc_aleatoric"),
    "laplace": ("sampled_aleatoric", "hmc_aleatoric"),
    "point_laplace": ("bernoulli", "sampled_aleatoric"),
    "linearised": ("linearised_aleatoric", "hmc_aleatoric"),
    "point_total": ("bernoulli", "hmc_total"),
    "second_order": ("second_order_aleatoric", "hmc_aleatoric"),
    "ceiling": ("hmc_aleatoric_a", "hmc_aleatoric_b"),
}


def correlate(
    frame: pd.DataFrame, pairs: dict[str, tuple[str, str]], *, inside: bool = False
) -> pd.DataFrame:
    """Pearson and Spearman correlation over the grid for each named pair of columns.

    Args:
        frame: what `maps` returns.
        pairs: comparison → (estimate, reference), names of columns.
        inside: use only the grid points inside the data.

    Returns:
        One row a comparison: comparison, pearson, spearman; NaN where a column is constant
        (a mode that is the zero network predicts the same everywhere).
    """
    used = frame[frame["inside"]] if inside else frame
    rows = []
    for name, (estimate, target) in pairs.items():
        x, y = used[estimate].to_numpy(), used[target].to_numpy()
        constant = min(np.ptp(x) / max(abs(x).max(), 1e-300), np.ptp(y)) < 1e-9
        r, rho = (np.nan, np.nan) if constant else (pearsonr(x, y)[0], spearmanr(x, y)[0])
        rows.append({"comparison": name, "pearson": r, "spearman": rho})
    return pd.DataFrame(rows)


def validate(
    experiment: Experiment, map_seed: int = 0, frame: pd.DataFrame | None = None
) -> pd.DataFrame:
    """All correlations of one experiment and one start of the MAP training.

    Args:
        experiment: problem, prior, data seed.
        map_seed: the start.
        frame: its `maps`, if they are there already.

    Returns:
        Tidy: problem, prior, seed, map_seed, region (the wide grid, or inside the data),
        quantity, class ("overall" pools the classes), comparison, pearson, spearman, and
        `flat`: whether the mode found is the zero network.
    """
    found = maps(experiment, map_seed=map_seed) if frame is None else frame
    return correlations(found).assign(
        problem=experiment.problem_name,
        prior=experiment.prior_name,
        seed=experiment.seed,
        map_seed=map_seed,
    )


def correlations(frame: pd.DataFrame) -> pd.DataFrame:
    """All correlations of a frame of `maps`, by region, quantity and class.

    Args:
        frame: what `maps` returns; pairs of columns that it lacks are left out.
    """
    classes = frame["class"].unique()
    parts = {"overall": frame}
    if len(classes) > 1:
        parts |= {str(k): frame[frame["class"] == k] for k in classes}
    quantities = {"epistemic": EPISTEMIC, "aleatoric": ALEATORIC}
    found = []
    for (label, part), inside, quantity in itertools.product(
        parts.items(), (False, True), quantities
    ):
        pairs = {k: v for k, v in quantities[quantity].items() if set(v) <= set(frame)}
        if pairs:
            rows = correlate(part, pairs, inside=inside)
            region = "inside" if inside else "wide"
            found.append(rows.assign(region=region, quantity=quantity, **{"class": label}))
    predicted = frame["probability" if "probability" in frame else "value"]
    return pd.concat(found, ignore_index=True).assign(flat=bool(np.ptp(predicted) < 1e-6))


def validation(experiments: Iterable[Experiment]) -> pd.DataFrame:
    """`validate` for each of several experiments, first start of the training."""
    return pd.concat([validate(experiment) for experiment in experiments], ignore_index=True)


def top_overlap(frame: pd.DataFrame, pairs: dict[str, tuple[str, str]], share: float = 0.1) -> dict:
    """Of the reference's most uncertain points, how many does the estimate count among its own?

    Args:
        frame: what `maps` returns.
        pairs: comparison → (estimate, reference); those whose columns are missing are left out.
        share: the share of the rows that counts as most uncertain.

    Returns:
        Comparison → overlap, between 0 and 1; `share` is what a random map reaches.
    """
    count = round(share * len(frame))
    found = {}
    for name, (estimate, target) in pairs.items():
        if {estimate, target} <= set(frame):
            tops = [set(frame[column].nlargest(count).index) for column in (estimate, target)]
            found[name] = len(tops[0] & tops[1]) / count
    return found


def means(correlations: pd.DataFrame) -> pd.DataFrame:
    """Means over data seeds and MAP seeds, modes that are the zero network left out.

    Args:
        correlations: what `validation` returns, any priors and regions.

    Returns:
        problem, prior, region, quantity, class, comparison, pearson, spearman, and `flat`, the
        share of modes that are the zero network.
    """
    keys = ["problem", "prior", "region", "quantity", "class", "comparison"]
    grouped = correlations.groupby(keys, sort=False)
    return grouped[["pearson", "spearman", "flat"]].mean().reset_index()
