"""Correlations of every method with the reference over the grid, and how they spread."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from scipy.stats import pearsonr, spearmanr

from gnuq import protocol
from gnuq.estimators import aleatoric
from gnuq.networks import fit_map
from gnuq.posteriors import laplace
from gnuq.protocol import Experiment
from gnuq.results.methods import maps
from gnuq.results.references import reference

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


def sampling_noise(
    experiment: Experiment, *, samples: Sequence[int] = (100, 300, 1000), stride: int = 7
) -> pd.DataFrame:
    """How the weight-sampled Laplace predictive settles as the number of samples grows.

    Args:
        experiment: problem, prior and grid.
        samples: numbers of weight samples to compare.
        stride: the distance between the grid points that are used, to save time.

    Returns:
        One row per number of samples: lowest and highest sampled aleatoric value on the grid,
        and its Pearson and Spearman correlation with the reference.
    """
    fit = fit_map(experiment.architecture, experiment.problem, experiment.prior)
    covariance = laplace.dense_covariance(fit, experiment.problem, experiment.prior)
    points = experiment.grid.points[::stride]
    drawn = laplace.sampled_predictions(fit, covariance, points, samples=max(samples))
    p, target = drawn.sigmoid()[..., 0], reference(experiment)["hmc_aleatoric"][::stride]
    rows = []
    for count in samples:
        found = aleatoric(p[:count]).mean(0).numpy()
        both = pd.DataFrame({"sampled": found, "hmc": target.to_numpy()})
        _, r, rho = correlate(both, {"": ("sampled", "hmc")}).iloc[0]
        rows.append((count, found.min(), found.max(), r, rho))
    columns = ["weight samples", "lowest", "highest", "Pearson", "Spearman"]
    return pd.DataFrame(rows, columns=columns).set_index("weight samples")


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


def advantage(correlations: pd.DataFrame) -> pd.DataFrame:
    """What the gradient norm gains over p(1 − p) as an epistemic estimate, run by run.

    Args:
        correlations: what `validation` returns.

    Returns:
        One row per problem and prior; for either region and correlation the mean difference
        over data seeds and starts, and its range, as text.
    """
    keys = ["problem", "prior", "region", "seed", "map_seed"]
    epistemic = correlations[correlations["quantity"] == "epistemic"]
    by_run = epistemic.pivot_table(
        index=keys, columns="comparison", values=["pearson", "spearman"], sort=False
    )
    columns = {}
    for kind in ("pearson", "spearman"):
        gain = by_run[kind]["gradient_norm"] - by_run[kind]["bernoulli"]
        spread = gain.groupby(level=[0, 1, 2], sort=False).agg(["mean", "min", "max"])
        text = [f"{m:+.2f} ({lo:+.2f} to {hi:+.2f})" for m, lo, hi in spread.to_numpy()]
        columns[kind.capitalize()] = pd.Series(text, spread.index)
    wide = pd.DataFrame(columns).reset_index()
    table = wide.pivot_table(
        index=["problem", "prior"],
        columns="region",
        values=list(columns),
        aggfunc="first",
        sort=False,
    )
    names = {"wide": "whole grid", "inside": "inside the data"}
    pairs: list[tuple[str, str]] = table.columns.tolist()  # type: ignore[assignment]
    table.columns = pd.Index([f"{kind}, {names[region]}" for kind, region in pairs])
    return table.rename(index=protocol.PRIOR_LABELS, level="prior")
