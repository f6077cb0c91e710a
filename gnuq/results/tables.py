"""The paper's Tables 1 and 5 to 9, ours beside the printed ones."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd

from gnuq import paper, protocol
from gnuq.problems import PROBLEMS, Task
from gnuq.protocol import Experiment
from gnuq.results.correlations import ALEATORIC, EPISTEMIC, validation

LABELS = {
    "gradient_norm": "‖g‖² vs HMC",
    "laplace": "Laplace vs HMC",
    "gn_laplace": "‖g‖² vs Laplace",
    "bernoulli": "p(1 − p) vs HMC",
    "ceiling": "noise ceiling (HMC halves)",
    "point": "p(1 − p) vs HMC",
    "point_laplace": "p(1 − p) vs Laplace",
    "linearised": "linearised Laplace vs HMC",
    "point_total": "p(1 − p) vs HMC's total",
    "second_order": "p(1 − p) − gᵀΣg vs HMC",
}
CLASS_LABELS = {"overall": "all classes"} | {str(k): f"class {k}" for k in range(4)}

#: The comparisons that the chapter's figures show, with their labels, top first.
EPISTEMIC_LABELS = {k: LABELS[k] for k in EPISTEMIC}
ALEATORIC_LABELS = {k: LABELS[k] for k in ALEATORIC}


def chosen(
    correlations: pd.DataFrame,
    *tasks: Task,
    prior: str = protocol.PRIMARY,
    region: Literal["wide", "inside"] = "wide",
) -> pd.DataFrame:
    """The rows of a validation that a table reports: one prior, one region, the first start.

    Args:
        correlations: what `validation` returns.
        tasks: keep the problems of these tasks only; all if none is given.
        prior: a key of `protocol.PRIORS`.
        region: the whole grid, or its part inside the data.
    """
    rows = correlations[(correlations["prior"] == prior) & (correlations["region"] == region)]
    names = [name for name in protocol.HIDDEN if not tasks or PROBLEMS[name].task in tasks]
    return rows[(rows["map_seed"] == 0) & rows["problem"].isin(names)]


def table(
    correlations: pd.DataFrame,
    quantity: str,
    printed: paper.Table,
    *,
    key: Literal["comparison", "class"] = "comparison",
) -> pd.DataFrame:
    """Mean and range over data seeds, the paper's numbers beside them.

    Args:
        correlations: what `chosen` returns; for `key="class"` of one comparison only.
        quantity: `"epistemic"` or `"aleatoric"`.
        printed: the paper's table.
        key: what tells a problem's rows apart. By comparison, the classes are pooled.

    Returns:
        One row per problem and key (named comparison): r, r_low, r_high, rho, rho_low, rho_high
        (over data seeds), r_paper, rho_paper, and n, the number of data seeds.
    """
    kept = correlations[correlations["quantity"] == quantity]
    if key == "comparison":
        kept = kept[kept["class"] == "overall"]
    rows = []
    for (problem, name), part in kept.groupby(["problem", key], sort=False):
        row = {"problem": problem, "comparison": name, "n": int(part["pearson"].notna().sum())}
        for short, column in (("r", "pearson"), ("rho", "spearman")):
            values = part[column]
            row |= {
                short: values.mean(),
                f"{short}_low": values.min(),
                f"{short}_high": values.max(),
            }
        r, rho = printed.get(str(problem), {}).get(str(name), (np.nan, np.nan))
        rows.append(row | {"r_paper": r, "rho_paper": rho})
    return pd.DataFrame(rows)


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """A table of correlations as text: mean (lowest to highest seed), then the paper's pair.

    Args:
        table: what `table` and its like return.

    Returns:
        One row per problem and comparison or class, indexed by both; a dash where there is none.
    """

    def spread(row: pd.Series, key: str) -> str:
        if np.isnan(row[key]):
            return "–"
        return f"{row[key]:.2f} ({row[key + '_low']:.2f} to {row[key + '_high']:.2f})"

    labels = LABELS | CLASS_LABELS
    rows = [
        {
            "problem": row["problem"],
            "": labels.get(row["comparison"], row["comparison"]),
            "Pearson, ours": spread(row, "r"),
            "Spearman, ours": spread(row, "rho"),
            "paper, 1st": "–" if np.isnan(row["r_paper"]) else f"{row['r_paper']:.2f}",
            "paper, 2nd": "–" if np.isnan(row["rho_paper"]) else f"{row['rho_paper']:.2f}",
        }
        for _, row in table.iterrows()
    ]
    return pd.DataFrame(rows).set_index(["problem", ""])


def primary_experiments(*tasks: Task) -> list[Experiment]:
    """The primary setting: every problem of these tasks, every data seed."""
    return [e for e in protocol.experiments(*tasks) if e.prior_name == protocol.PRIMARY]


def table_5(correlations: pd.DataFrame | None = None) -> pd.DataFrame:
    """Table 5: epistemic estimates against HMC, binary problems, wide grid, primary prior.

    Args:
        correlations: what `validation` returns; computed if omitted (about a minute).
    """
    return _binary_table(correlations, "epistemic", paper.printed("table-5"))


def table_6(correlations: pd.DataFrame | None = None) -> pd.DataFrame:
    """Table 6: aleatoric estimates against HMC, binary problems; arguments as in `table_5`."""
    return _binary_table(correlations, "aleatoric", paper.printed("table-6"))


def _binary_table(
    correlations: pd.DataFrame | None, quantity: str, printed: paper.Table
) -> pd.DataFrame:
    found = validation(primary_experiments("binary")) if correlations is None else correlations
    return table(chosen(found, "binary"), quantity, printed)


def table_7(correlations: pd.DataFrame) -> pd.DataFrame:
    """Table 7: ‖g‖² against HMC's epistemic part, per class and all classes pooled.

    Args:
        correlations: what `validation` returns. Three-class problems stand beside the paper's
            four-class ones, without printed numbers.
    """
    rows = chosen(correlations, "multiclass")
    norm = rows[rows["comparison"] == "gradient_norm"]
    return table(norm, "epistemic", paper.printed("table-7"), key="class")


def table_8(correlations: pd.DataFrame) -> pd.DataFrame:
    """Table 8: p(1 − p) against HMC's aleatoric part, per class; arguments as in `table_7`."""
    rows = chosen(correlations, "multiclass")
    point = rows[rows["comparison"] == "point"]
    return table(point, "aleatoric", paper.printed("table-8"), key="class")


def table_9(correlations: pd.DataFrame) -> pd.DataFrame:
    """Table 9: ‖g‖² and gᵀΣg against HMC in regression, with and without a gap.

    Args:
        correlations: what `validation` returns.
    """
    return table(chosen(correlations, "regression"), "epistemic", paper.printed("table-9"))


def multiclass_baselines(correlations: pd.DataFrame, quantity: str) -> pd.DataFrame:
    """All comparisons of the problems with several classes, classes pooled.

    Args:
        correlations: what `validation` returns.
        quantity: `"epistemic"` or `"aleatoric"`.
    """
    item, name = {
        "epistemic": ("table-7", "gradient_norm"),
        "aleatoric": ("table-8", "point"),
    }[quantity]
    source = paper.printed(item)
    printed = {problem: {name: rows["overall"]} for problem, rows in source.items()}
    return table(chosen(correlations, "multiclass"), quantity, printed)
