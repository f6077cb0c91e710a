"""The paper's Tables 5 and 6, ours beside the printed ones."""

from __future__ import annotations

import numpy as np
import pandas as pd

from gnuq import paper, protocol
from gnuq.problems import PROBLEMS
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


#: The comparisons that the chapter's figures show, with their labels, top first.
EPISTEMIC_LABELS = {k: LABELS[k] for k in EPISTEMIC}


ALEATORIC_LABELS = {k: LABELS[k] for k in ALEATORIC}


def settings() -> pd.DataFrame:
    """The primary setting as a table: what was fixed, and whether the paper says it."""
    sampler = protocol.SAMPLER
    hidden = {name: "–".join(map(str, (2, *h, 1))) for name, h in protocol.HIDDEN.items()}
    rows = [
        ("networks", "; ".join(f"{k}: {v}" for k, v in hidden.items()), "width inferred"),
        ("activation", "tanh", "smooth; name lost in the text"),
        ("prior", protocol.PRIOR_LABELS[protocol.PRIMARY] + ", every weight", "not stated"),
        ("training points", str(protocol.POINTS), "not stated"),
        ("noise", "; ".join(f"{k}: {PROBLEMS[k].noise:g}" for k in hidden), "not stated"),
        ("data seeds", ", ".join(map(str, protocol.DATA_SEEDS)), "not stated"),
        ("grid", f"{protocol.RESOLUTION} × {protocol.RESOLUTION}, {protocol.MARGIN:.0%} beyond "
                 "the data on each side", "“dense grid”"),
        ("sampler", f"HMC, {sampler.chains} chains × ({sampler.tune} + {sampler.draws}), "
                    f"target acceptance {sampler.target_accept}", "HMC with dual averaging"),
        ("point estimate", "L-BFGS in float64 to a gradient norm below 1e-4", "not stated"),
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["", "here", "in the paper's text"]).set_index("")


def table(
    correlations: pd.DataFrame, quantity: str, printed: dict[str, dict[str, paper.Pair]]
) -> pd.DataFrame:
    """Mean and range over data seeds, the paper's numbers beside them.

    Args:
        correlations: rows of `validation` for one prior and one region.
        quantity: `"epistemic"` or `"aleatoric"`.
        printed: the paper's table.

    Returns:
        One row per problem and comparison: r, r_low, r_high, rho, rho_low, rho_high (over data
        seeds), r_paper, rho_paper, and n, the number of data seeds.
    """
    rows = []
    chosen = correlations[correlations["quantity"] == quantity]
    for (problem, name), part in chosen.groupby(["problem", "comparison"], sort=False):
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
        table: what `table_5` and `table_6` return.

    Returns:
        One row per problem and comparison, indexed by both; a dash where the paper has none.
    """

    def spread(row: pd.Series, key: str) -> str:
        return f"{row[key]:.2f} ({row[key + '_low']:.2f} to {row[key + '_high']:.2f})"

    rows = [
        {
            "problem": row["problem"],
            "comparison": LABELS[row["comparison"]],
            "Pearson, ours": spread(row, "r"),
            "Spearman, ours": spread(row, "rho"),
            "paper, 1st": "–" if np.isnan(row["r_paper"]) else f"{row['r_paper']:.2f}",
            "paper, 2nd": "–" if np.isnan(row["rho_paper"]) else f"{row['rho_paper']:.2f}",
        }
        for _, row in table.iterrows()
    ]
    return pd.DataFrame(rows).set_index(["problem", "comparison"])


def primary_experiments() -> list[Experiment]:
    """The primary setting: every problem, every data seed."""
    return [e for e in protocol.experiments() if e.prior_name == protocol.PRIMARY]


def table_5(correlations: pd.DataFrame | None = None) -> pd.DataFrame:
    """Table 5: epistemic estimates against HMC, binary problems, wide grid, primary prior.

    Args:
        correlations: what `validation(primary_experiments())` returns; computed if omitted
            (about a minute).
    """
    return _primary_table(correlations, "epistemic", paper.TABLE_5)


def table_6(correlations: pd.DataFrame | None = None) -> pd.DataFrame:
    """Table 6: aleatoric estimates against HMC, binary problems; arguments as in `table_5`."""
    return _primary_table(correlations, "aleatoric", paper.TABLE_6)


def _primary_table(
    correlations: pd.DataFrame | None, quantity: str, printed: dict[str, dict[str, paper.Pair]]
) -> pd.DataFrame:
    found = validation(primary_experiments()) if correlations is None else correlations
    wide = found[(found["prior"] == protocol.PRIMARY) & (found["region"] == "wide")]
    return table(wide[wide["map_seed"] == 0], quantity, printed)
