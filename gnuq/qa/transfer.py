"""Does what is fitted on some models hold for another? Appendix G.9, Table 15.

‖g‖² has another scale in every model. The paper divides by ‖θ‖²; rewriting the same network with
θ/c multiplies ‖g‖² by c² and divides ‖θ‖² by c², so it is the product that does not change.
Ranks among a model's own answers have no scale at all, and need no labels.

A fit on one feature passes on nothing but a direction: the held-out AUROC is that model's own, or
one minus it. As ‖θ‖² is one number for each model, the raw, normalised, product and logarithmic
estimates can differ there only by that flip.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from gnuq.qa.columns import LOG, features, labels, require
from gnuq.qa.evaluation import held_out

#: Prefix of a column that holds ranks among the answers of the same model and benchmark.
RANK = "rank_"
_ALONE = {
    "Raw": "epistemic",
    "Normalised": "relative",
    "Product": "scale_free",
    "Log raw": f"{LOG}epistemic",
    "Log normalised": f"{LOG}relative",
    "Log product": f"{LOG}scale_free",
}
#: Name → features; the paper's four are Raw and Normalised, alone and with aleatoric.
VARIANTS: dict[str, tuple[str, ...]] = {
    **{name: (column,) for name, column in _ALONE.items()},
    "Ranks": (f"{RANK}epistemic",),
    **{f"{name} & alea.": (column, "aleatoric") for name, column in _ALONE.items()},
    "Ranks & alea. ranks": (f"{RANK}epistemic", f"{RANK}aleatoric"),
    "Aleatoric": ("aleatoric",),
}


def leave_one_model_out(
    joined: pd.DataFrame, variants: Mapping[str, Sequence[str]] = VARIANTS
) -> pd.DataFrame:
    """AUROC on each model of a logistic regression that was fitted on all the others.

    Args:
        joined: the joined table of two models or more for each benchmark.
        variants: name → features; `log_…` and `rank_…` of a column may be among them.

    Returns:
        One row a benchmark, held-out model and variant: benchmark, held_out, variant, auroc, n
        and correct (of the held-out model), trained (answers fitted on). NaN where the held-out
        or the other models' answers are all correct or all wrong.

    Raises:
        ValueError: a benchmark has one model only, a column is missing, or a feature is not
            finite.

    Source:
        Appendix G.9, Table 15.
    """
    require(joined, ("model", "benchmark"))
    ranked = _with_ranks(joined, variants)
    rows = []
    for benchmark, part in ranked.groupby("benchmark", sort=False):
        if part["model"].nunique() < 2:
            raise ValueError(
                f"joined: {benchmark} has answers of one model only; leaving one out takes two."
            )
        correct = labels(part)
        inputs = {name: features(part, columns) for name, columns in variants.items()}
        for model in part["model"].unique():
            out = (part["model"] == model).to_numpy()
            counts = {"n": out.sum(), "correct": correct[out].sum(), "trained": (~out).sum()}
            for name, x in inputs.items():
                found = held_out(x[~out], correct[~out], x[out], correct[out])
                row = {"benchmark": benchmark, "held_out": model, "variant": name, "auroc": found}
                rows.append(row | counts)
    return pd.DataFrame(rows)


def over_models(table: pd.DataFrame) -> pd.DataFrame:
    """The last row of Table 15: mean and standard deviation over the held-out models.

    Args:
        table: what `leave_one_model_out` returns.

    Returns:
        benchmark, variant, mean, deviation, models (with an AUROC).
    """
    grouped = table.groupby(["benchmark", "variant"], sort=False)["auroc"]
    found = grouped.agg(mean="mean", deviation="std", models="count")
    return found.reset_index()


def _with_ranks(joined: pd.DataFrame, variants: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """The columns' ranks within model and benchmark, as shares of its answers, where asked for."""
    used = {name for columns in variants.values() for name in columns if name.startswith(RANK)}
    found = joined
    for name in sorted(used):
        column = name.removeprefix(RANK)
        require(joined, (column,))
        grouped = joined.groupby(["benchmark", "model"])[column]
        found = found.assign(**{name: grouped.rank(pct=True).astype(np.float64)})
    return found
