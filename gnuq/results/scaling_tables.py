"""Table 10, the curves of Figure 3 and of the sweep, and how the chains of the study did."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from gnuq import artefacts, paper, protocol, scaling
from gnuq.scaling import BASE, Run

STUDY, TERMS = "scaling", "scaling-terms"
#: What stands in Table 10: quantity → our estimate of it.
ESTIMATES = {"epistemic": "gradient_norm", "aleatoric": "point"}
#: Comparisons of the figures, with their labels.
LABELS = {
    "gradient_norm": "‖g‖²",
    "prior_norm": "Σ v g², prior-weighted",
    "bernoulli": "p(1 − p)",
    "laplace": "Laplace gᵀΣg",
    "early_norm": "‖g‖², early-stopped",
    "draw_norm": "‖g‖² at a posterior draw",
    "ceiling": "noise ceiling",
}
#: The sweep's settings as a reader picks them: variant → label.
VARIANT_LABELS = {
    "points-100": "100 points",
    "points-1600": "1600 points",
    "noise-0.15": "noise 0.15",
    "noise-0.4": "noise 0.4",
    "gelu": "GELU units",
    "gap": "a sector without data",
}
#: Other precisions of the unit prior, as settings of its panel: prior → label.
PRECISION_LABELS = {"unit-0.1": "prior precision 0.1", "unit-5": "prior precision 5"}


def saved(name: str) -> pd.DataFrame:
    """One of the study's results: `STUDY` or `TERMS`."""
    return artefacts.load("results", name).frame


def finished() -> list[Run]:
    """The runs whose chains have come to their end, in the order of their cost."""
    return [run for name, run in scaling.runs().items() if name not in scaling.OPEN]


def unfinished() -> list[Run]:
    """The runs of the study that no machine has finished."""
    return [run for run in scaling.study() if run.name in scaling.OPEN]


def of_study(table: pd.DataFrame, *, region: str = "wide") -> pd.DataFrame:
    """The rows of the study proper, without the sweep, in one region."""
    return table[~table["sweep"] & (table["region"] == region)]


def table_10(correlations: pd.DataFrame) -> pd.DataFrame:
    """Table 10: correlation with HMC as the network grows, either prior, wide grid, first start.

    Args:
        correlations: the study's, as `gnuq.results.scaling.compare` gives them.

    Returns:
        Rows like those of `gnuq.results.tables.table`: problem is the number of parameters,
        comparison the quantity, with the prior where it is not the primary one.
    """
    printed = paper.printed("table-10")
    kept = of_study(correlations)
    kept = kept[kept["map_seed"] == 0]
    rows = []
    for prior in scaling.PRIORS:
        for quantity, estimate in ESTIMATES.items():
            part = kept[(kept["prior"] == prior) & (kept["comparison"] == estimate)]
            part = part[part["quantity"] == quantity]
            name = quantity if prior == protocol.PRIMARY else f"{quantity}, {prior} prior"
            rows += [
                {
                    "problem": str(parameters),
                    "comparison": name,
                    "n": len(group),
                    **_spread(group),
                    **dict(
                        zip(
                            ("r_paper", "rho_paper"),
                            printed[str(parameters)][quantity],
                            strict=True,
                        )
                    ),
                }
                for parameters, group in part.groupby("parameters")
            ]
    return pd.DataFrame(rows)


def _spread(group: pd.DataFrame) -> dict[str, float]:
    """Mean and range over data seeds of either correlation."""
    found: dict[str, float] = {}
    for short, column in (("r", "pearson"), ("rho", "spearman")):
        values = group[column]
        found |= {short: values.mean(), f"{short}_low": values.min(), f"{short}_high": values.max()}
    return found


def curves(correlations: pd.DataFrame, comparisons: Iterable[str] = LABELS) -> pd.DataFrame:
    """Mean and range of every correlation with the epistemic reference, size by size.

    Args:
        correlations: the study's.
        comparisons: keys of `LABELS` to keep.

    Returns:
        prior, region, comparison, parameters; r, r_low, r_high, rho, rho_low, rho_high over data
        seeds and starts; n, how many of both; flat, the share of modes that are the zero network.
    """
    kept = correlations[~correlations["sweep"] & (correlations["quantity"] == "epistemic")]
    kept = kept[kept["comparison"].isin([*comparisons])]
    keys = ["prior", "region", "comparison", "parameters"]
    rows = [
        {**dict(zip(keys, values, strict=True)), **_spread(group), "n": len(group),
         "flat": group["flat"].mean()}
        for values, group in kept.groupby(keys, sort=False)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def of_norm(correlations: pd.DataFrame) -> pd.DataFrame:
    """The gradient norm's curves on the whole grid: prior, parameters, pearson, spearman."""
    found = curves(correlations, ["gradient_norm"])
    kept = found[found["region"] == "wide"].rename(columns={"r": "pearson", "rho": "spearman"})
    return kept[["prior", "parameters", "pearson", "spearman"]].reset_index(drop=True)


def by_point(correlations: pd.DataFrame) -> pd.DataFrame:
    """The gradient norm at three point estimates: the mode, early stopping, a posterior draw.

    Returns:
        One row per prior and size, whole grid, first start, mean over data seeds: Pearson and
        Spearman of each with HMC's epistemic part.
    """
    heads = {"gradient_norm": "mode", "early_norm": "early-stopped", "draw_norm": "a draw"}
    kept = of_study(correlations)
    kept = kept[(kept["map_seed"] == 0) & kept["comparison"].isin([*heads])]
    kept = kept.assign(prior=kept["prior"].map(protocol.PRIOR_TICKS))
    kinds = {"pearson": "Pearson", "spearman": "Spearman"}
    parts = [
        kept.pivot_table(column, ["prior", "parameters"], "comparison")[[*heads]].rename(
            columns={key: f"{kind}, {head}" for key, head in heads.items()}
        )
        for column, kind in kinds.items()
    ]
    return pd.concat(parts, axis=1)


def swept(correlations: pd.DataFrame) -> pd.DataFrame:
    """The sweep's curves beside the study's own, first data seed and start.

    Returns:
        setting (a label; `"as in the study"` for the base), prior (of the study: another precision
        of the unit prior is a setting), region, comparison, parameters,
        points, flat, pearson, spearman: gradient norm, p(1 − p), the partial correlation and the
        norm at other point estimates.
    """
    wanted = ("gradient_norm", "bernoulli", "partial", "early_norm", "draw_norm", "prior_norm")
    first = correlations["seed"].eq(0) & correlations["map_seed"].eq(0)
    kept = correlations[first & correlations["comparison"].isin(wanted)]
    kept = kept[kept["quantity"] == "epistemic"]
    labels = VARIANT_LABELS | {BASE: "as in the study"}
    columns = ["setting", "prior", "region", "comparison", "parameters", "points", "flat"]
    settings = kept["prior"].map(PRECISION_LABELS).fillna(kept["variant"].map(labels))
    priors = kept["prior"].where(~kept["prior"].isin([*PRECISION_LABELS]), protocol.PRIMARY)
    return kept.assign(setting=settings, prior=priors)[[*columns, "pearson", "spearman"]]


def turn(correlations: pd.DataFrame, *, column: str = "spearman") -> pd.DataFrame:
    """Where each curve of the gradient norm is lowest, and whether it recovers after.

    Returns:
        One row per prior, setting and region: sizes, the number of sizes; points; lowest, the
        smallest correlation, and lowest_at, its number of parameters; last, the widest network's;
        recovery, last minus lowest; zero, at how many sizes the mode is the zero network.
    """
    table = swept(correlations)
    table = table[table["comparison"] == "gradient_norm"].dropna(subset=[column])
    rows = []
    for keys, part in table.groupby(["prior", "setting", "region"], sort=False):
        ordered = part.sort_values("parameters")
        low = int(ordered[column].to_numpy().argmin())
        rows.append(
            {
                **dict(zip(("prior", "setting", "region"), keys, strict=True)),
                "sizes": len(ordered),
                "points": int(ordered["points"].iloc[0]),
                "lowest": ordered[column].iloc[low],
                "lowest_at": int(ordered["parameters"].iloc[low]),
                "last": ordered[column].iloc[-1],
                "recovery": ordered[column].iloc[-1] - ordered[column].iloc[low],
                "zero": int(ordered["flat"].sum()),
            }
        )
    return pd.DataFrame(rows)


def convergence(runs: Iterable[Run]) -> pd.DataFrame:
    """What the sampler reports about finished runs, one row per prior and size.

    Returns:
        runs, r_hat (largest), effective_samples (smallest), reached
        (how many runs meet r̂ < 1.01 and ESS > 400 at every grid point), divergences, leapfrog
        steps a draw, chain_seconds (sampling, summed over chains, mean over runs).
    """
    rows = []
    for run in runs:
        told = artefacts.provenance("records", run.name)["report"]
        rows.append(
            {
                "prior": run.prior_name,
                "parameters": run.architecture.parameters,
                "chains": run.sampler.chains,
                "r_hat": told["r_hat_max"],
                "effective_samples": told["effective_samples_min"],
                "reached": told["converged"],
                "divergences": told["divergences"],
                "leapfrog_steps": told["leapfrog_steps"],
                "chain_seconds": sum(told["chain_seconds"]),
            }
        )
    grouped = pd.DataFrame(rows).groupby(["prior", "parameters", "chains"], sort=False)
    return grouped.agg(
        runs=("r_hat", "size"),
        r_hat=("r_hat", "max"),
        effective_samples=("effective_samples", "min"),
        reached=("reached", "sum"),
        divergences=("divergences", "sum"),
        leapfrog_steps=("leapfrog_steps", "mean"),
        chain_seconds=("chain_seconds", "mean"),
    ).reset_index()


def by_size(terms: pd.DataFrame) -> pd.DataFrame:
    """The terms of Eq. (5) to (7), of all runs of `scaling_terms.terms`, mean over data seeds."""
    keys = ["prior", "sigma", "scaling", "parameters"]
    values = [
        name for name in terms.select_dtypes(np.number) if name not in (*keys, "seed", "width")
    ]
    return terms.groupby(keys, sort=False)[values].mean().reset_index()
