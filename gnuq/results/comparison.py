"""Every way to get a variance against the reference: one row a method."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch

from gnuq import protocol
from gnuq.networks import fit_map
from gnuq.posteriors.methods import METHODS, Estimate, applicable
from gnuq.protocol import Experiment
from gnuq.results.correlations import correlate
from gnuq.results.methods import by_class
from gnuq.results.references import reference
from gnuq.results.tables import primary_experiments

#: The comparison in the plane uses every second grid line: a quarter of the points.
STRIDE = {1: 1, 2: 2}
REFERENCE = "HMC, other half"


def compared_experiments() -> list[Experiment]:
    """The comparison's: the primary prior, `FEW_SEEDS`, three-class problems left out."""
    return [
        e
        for e in primary_experiments()
        if e.seed in protocol.FEW_SEEDS and not e.problem_name.endswith("-3")
    ]


def compare(experiment: Experiment, names: Sequence[str] | None = None) -> pd.DataFrame:
    """Methods correlated with the reference over the grid, classes pooled.

    Args:
        experiment: problem, prior, data seed; the first start of the training.
        names: keys of `METHODS`; all that apply if omitted (K-FAC among them, which needs the
            optional extra `oracle`).

    Returns:
        Tidy: problem, seed, method, quantity, region, pearson, spearman (missing where a map is
        constant), and `level`, the mean of the estimate over that of the reference. The last
        method is the reference's other half of chains: the noise ceiling.
    """
    problem, prior, grid = experiment.problem, experiment.prior, experiment.grid
    kept = grid.every(STRIDE[problem.inputs.shape[1]])
    target = reference(experiment)[np.tile(kept.numpy(), problem.outputs)].reset_index(drop=True)
    fit = fit_map(experiment.architecture, problem, prior)
    parts = []
    for name in names or applicable(problem, experiment.architecture):
        with torch.no_grad():
            found = METHODS[name](problem, prior, fit)(grid.points[kept])
        parts.append(_rows(target, _columns(found)).assign(method=name))
    halves = {
        quantity: target[f"hmc_{quantity}_b"].to_numpy()
        for quantity in ("epistemic", "aleatoric")
        if f"hmc_{quantity}_b" in target
    }
    parts.append(_rows(target, halves, half="_a").assign(method=REFERENCE))
    return pd.concat(parts, ignore_index=True).assign(
        problem=experiment.problem_name, seed=experiment.seed
    )


def _columns(found: Estimate) -> dict[str, np.ndarray]:
    columns = {"epistemic": by_class(found.epistemic)}
    if found.aleatoric is not None:
        columns["aleatoric"] = by_class(found.aleatoric)
    return columns


def _rows(target: pd.DataFrame, found: dict[str, np.ndarray], half: str = "") -> pd.DataFrame:
    """Correlations and levels of one method, on the whole grid and inside the data."""
    rows = []
    for quantity, values in found.items():
        column = f"hmc_{quantity}{half}"
        if column not in target:
            continue  # regression: the aleatoric part is the known noise
        frame = target[["inside", column]].assign(estimate=values)
        for inside in (False, True):
            part = frame[frame["inside"]] if inside else frame
            row = correlate(part, {"": ("estimate", column)}).drop(columns="comparison")
            level = part["estimate"].mean() / part[column].mean()
            region = "inside" if inside else "wide"
            rows.append(row.assign(quantity=quantity, region=region, level=level))
    return pd.concat(rows, ignore_index=True)


def method_means(found: pd.DataFrame, region: str = "wide") -> pd.DataFrame:
    """Means over data seeds.

    Args:
        found: what `compare` returns, of several experiments.
        region: `"wide"` or `"inside"`.

    Returns:
        Tidy: method, problem, quantity, pearson, spearman, level.
    """
    kept = found[found["region"] == region]
    keys = ["method", "problem", "quantity"]
    means = kept.groupby(keys, sort=False)[["pearson", "spearman", "level"]].mean().reset_index()
    ranks = {name: i for i, name in enumerate((*METHODS, REFERENCE))}
    return means.sort_values("method", key=lambda names: names.map(ranks), kind="stable")


def by_method(found: pd.DataFrame, problems: list[str], region: str = "wide") -> pd.DataFrame:
    """One row a method: epistemic correlations averaged over problems, and the level's spread.

    Args:
        found: what `compare` returns, of several experiments.
        problems: which to average over; methods that do not apply to all of them are left out.
        region: `"wide"` or `"inside"`.

    Returns:
        Indexed by method: pearson, spearman, worst_spearman (over problems), aleatoric (Spearman),
        and level_low, level_high: the mean estimate over the mean variance.
    """
    means = method_means(found, region)
    means = means[means["problem"].isin(problems)]
    epistemic = means[means["quantity"] == "epistemic"].groupby("method", sort=False)
    aleatoric = means[means["quantity"] == "aleatoric"].groupby("method", sort=False)
    table = epistemic.agg(
        pearson=("pearson", "mean"),
        spearman=("spearman", "mean"),
        worst_spearman=("spearman", "min"),
        level_low=("level", "min"),
        level_high=("level", "max"),
    )
    table.insert(3, "aleatoric", aleatoric["spearman"].mean())
    return table[epistemic.size() == len(problems)]


def method_table(table: pd.DataFrame) -> pd.DataFrame:
    """A table of `by_method` with short heads, the level's range as text."""
    low, high = table["level_low"], table["level_high"]
    shown = pd.DataFrame(
        {
            "Pearson": table["pearson"],
            "Spearman": table["spearman"],
            "worst ρ": table["worst_spearman"],
            "aleatoric ρ": table["aleatoric"],
            "level": [f"{a:.3g} to {b:.3g}" for a, b in zip(low, high, strict=True)],
        },
        index=table.index,
    )
    return shown.dropna(axis=1, how="all")


FAMILIES = ("delta", "linearised", "sampled")


def cost_and_accuracy(found: pd.DataFrame, costs: pd.DataFrame, problem: str) -> pd.DataFrame:
    """Cost of a prediction beside its rank correlation, one row a method.

    Args:
        found: what `compare` returns, of several experiments.
        costs: the saved result `protocol.COSTS`.
        problem: the problem for which both were measured.

    Returns:
        method, family, label, setup (in trainings), prediction (in forward passes), spearman.
    """
    means = method_means(found)
    chosen = means[(means["problem"] == problem) & (means["quantity"] == "epistemic")]
    named = chosen.assign(method=chosen["method"].replace(REFERENCE, "HMC"))
    both = costs[costs["problem"] == problem].merge(named[["method", "spearman"]], on="method")
    split = both["method"].str.partition(", ")
    laplace = split[2].isin(FAMILIES)
    family = ("Laplace, " + split[2]).where(laplace, "single passes and draws")
    return both.assign(family=family, label=split[0])
