"""Correlations of every method with the reference over the grid, and how they spread."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from scipy.stats import pearsonr, spearmanr

from gnuq import protocol
from gnuq.protocol import Experiment
from gnuq.results.methods import maps

#: Columns of `maps` that estimate each of the record's quantities: (estimate, reference).
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


def validation(
    experiments: Iterable[Experiment], *, map_seeds: Sequence[int] = (0,)
) -> pd.DataFrame:
    """All correlations of all experiments, wide grid and inside the data, every MAP seed.

    Returns:
        Tidy: problem, prior, seed, map_seed, region, quantity, comparison, pearson, spearman,
        and `flat`: whether the mode found is the zero network.
    """
    parts = []
    for experiment, map_seed in itertools.product(experiments, map_seeds):
        frame = maps(experiment, map_seed=map_seed)
        for inside, (quantity, pairs) in itertools.product(
            (False, True), (("epistemic", EPISTEMIC), ("aleatoric", ALEATORIC))
        ):
            parts.append(
                correlate(frame, pairs, inside=inside).assign(
                    problem=experiment.problem_name,
                    prior=experiment.prior_name,
                    seed=experiment.seed,
                    map_seed=map_seed,
                    region="inside" if inside else "wide",
                    quantity=quantity,
                    flat=bool(np.ptp(frame["probability"]) < 1e-6),
                )
            )
    return pd.concat(parts, ignore_index=True)


def means(correlations: pd.DataFrame) -> pd.DataFrame:
    """Means over data seeds and MAP seeds, modes that are the zero network left out.

    Args:
        correlations: what `validation` returns, any priors and regions.

    Returns:
        problem, prior, region, quantity, comparison, pearson, spearman, and `flat`, the share
        of modes that are the zero network.
    """
    keys = ["problem", "prior", "region", "quantity", "comparison"]
    grouped = correlations.groupby(keys, sort=False)
    return grouped[["pearson", "spearman", "flat"]].mean().reset_index()


def basin_spread(correlations: pd.DataFrame) -> pd.DataFrame:
    """How far the correlations move with the start of the MAP training alone.

    Returns:
        Per problem and comparison of the primary setting on the wide grid: the largest range
        over MAP seeds of one data seed, for Pearson and for Spearman.
    """
    primary = correlations[
        (correlations["prior"] == protocol.PRIMARY) & (correlations["region"] == "wide")
    ]
    keys = ["problem", "quantity", "comparison", "seed"]
    spans = primary.groupby(keys, sort=False)[["pearson", "spearman"]].agg(np.ptp)
    return spans.groupby(level=[0, 1, 2], sort=False).max().reset_index()


def flat_modes(correlations: pd.DataFrame) -> pd.DataFrame:
    """How many of the modes found are the zero network, by problem and prior."""
    starts = correlations.drop_duplicates(["problem", "prior", "seed", "map_seed"])
    counts = starts.groupby(["problem", "prior"], sort=False)["flat"].agg(["sum", "size"])
    shown = counts["sum"].astype(str) + " of " + counts["size"].astype(str)
    return (
        shown.reset_index(name="n")
        .pivot_table(index="problem", columns="prior", values="n", aggfunc="first", sort=False)[
            list(protocol.PRIORS)
        ]
        .rename(columns=protocol.PRIOR_LABELS)
    )
