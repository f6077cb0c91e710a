"""Table 1, and the two readings of the paper's columns."""

from __future__ import annotations

import pandas as pd

from gnuq.results import tables

#: Table 1's row groups: label → (the table that it summarises, its comparison).
GROUPS = {
    "Epistemic, ‖g‖²": ("epistemic", "gradient_norm"),
    "Epistemic, Laplace": ("epistemic", "laplace"),
    "Aleatoric, p(1 − p)": ("aleatoric", "point"),
}


def table_1(correlations: pd.DataFrame) -> pd.DataFrame:
    """Table 1: every problem, each estimate against HMC, classes pooled.

    Args:
        correlations: what `validation` returns for the primary prior.

    Returns:
        Rows like those of `tables.table`, with the labels of `GROUPS` as comparisons.
    """
    epistemic = [
        tables.table_5(correlations),
        tables.multiclass_baselines(correlations, "epistemic"),
        tables.table_9(correlations),
    ]
    aleatoric = [
        tables.table_6(correlations),
        tables.multiclass_baselines(correlations, "aleatoric"),
    ]
    summarised = {"epistemic": pd.concat(epistemic), "aleatoric": pd.concat(aleatoric)}
    parts = []
    for label, (quantity, name) in GROUPS.items():
        rows = summarised[quantity]
        parts.append(rows[rows["comparison"] == name].assign(comparison=label))
    rows = pd.concat(parts, ignore_index=True)
    return rows[rows["r_paper"].notna()].reset_index(drop=True)


def readings(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """How far ours and the paper's numbers are apart, under either reading of its columns.

    Args:
        tables: name → rows of `tables.table`.

    Returns:
        One row per table: the number of pairs, and the mean absolute difference if the first
        printed column is Pearson's, and if it is Spearman's.
    """
    rows = {}
    for name, frame in tables.items():
        both = frame[frame["r_paper"].notna() & frame["r"].notna()]
        straight = (both["r"] - both["r_paper"]).abs() + (both["rho"] - both["rho_paper"]).abs()
        swapped = (both["r"] - both["rho_paper"]).abs() + (both["rho"] - both["r_paper"]).abs()
        rows[name] = {
            "pairs": str(len(both)),
            "Pearson first": straight.mean() / 2,
            "Spearman first": swapped.mean() / 2,
        }
    return pd.DataFrame(rows).T.rename_axis("table")
