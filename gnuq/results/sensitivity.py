"""What moves the correlations: the training's start, the number of samples, the baseline."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from gnuq import protocol
from gnuq.estimators import aleatoric
from gnuq.networks import fit_map
from gnuq.posteriors import laplace, predictive
from gnuq.protocol import Experiment
from gnuq.results.correlations import correlate
from gnuq.results.references import reference


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
    drawn = predictive.sampled_outputs(fit.network, covariance, points, samples=max(samples))
    p, target = drawn.sigmoid()[..., 0], reference(experiment)["hmc_aleatoric"][::stride]
    rows = []
    for count in samples:
        found = aleatoric(p[:count]).mean(0).numpy()
        both = pd.DataFrame({"sampled": found, "hmc": target.to_numpy()})
        _, r, rho = correlate(both, {"": ("sampled", "hmc")}).iloc[0]
        rows.append((count, found.min(), found.max(), r, rho))
    columns = ["weight samples", "lowest", "highest", "Pearson", "Spearman"]
    return pd.DataFrame(rows, columns=columns).set_index("weight samples")


def basin_spread(correlations: pd.DataFrame) -> pd.DataFrame:
    """How far the correlations move with the start of the MAP training alone.

    Returns:
        Per problem and comparison of the primary setting on the wide grid: the largest range
        over MAP seeds of one data seed, for Pearson and for Spearman.
    """
    chosen = (correlations["prior"] == protocol.PRIMARY) & (correlations["region"] == "wide")
    primary = correlations[chosen & (correlations["class"] == "overall")]
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
    chosen = (correlations["quantity"] == "epistemic") & (correlations["class"] == "overall")
    epistemic = correlations[chosen]
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
