"""How far a judge agrees with verdicts by hand."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd


def agreement(judged: pd.DataFrame, by_hand: pd.DataFrame) -> pd.Series:
    """Compare verdicts with those of a human, on the questions that have both.

    Args:
        judged: a judge's verdicts, columns id and correct.
        by_hand: the human's, columns id and correct.

    Returns:
        `n`: questions that both decided;
        `undecided`: questions in both tables that the judge or the human left open;
        `accuracy`, `low`, `high`: the share that agrees, and its 95 % Wilson interval;
        `kappa`: Cohen's, agreement beyond chance; NaN where both know one and the same verdict;
        `both_correct`, `both_wrong`, `judge_only`, `hand_only`: how many; the last two are
        correct for the judge only and by hand only.

    Raises:
        ValueError: no question was decided by both, or an id stands twice.
    """
    from scipy.stats import binomtest

    for name, table in (("judged", judged), ("by_hand", by_hand)):
        if (twice := table["id"].astype(str).duplicated()).any():
            raise ValueError(f"{name}: it has the id {table['id'][twice].iloc[0]!r} twice.")
    mine, theirs = (table.set_index(table["id"].astype(str)) for table in (judged, by_hand))
    pairs = pd.DataFrame({"judge": mine["correct"], "hand": theirs["correct"]})
    pairs = pairs.loc[mine.index.intersection(theirs.index)]
    decided = pairs.dropna().astype(bool)
    if decided.empty:
        raise ValueError("by_hand: the judge decided none of its questions; compare others.")
    judge, hand = decided["judge"].to_numpy(), decided["hand"].to_numpy()
    n, agreed = len(decided), int((judge == hand).sum())
    interval = binomtest(agreed, n).proportion_ci(method="wilson")
    return pd.Series(
        {
            "n": n,
            "undecided": len(pairs) - n,
            "accuracy": agreed / n,
            "low": float(interval.low),
            "high": float(interval.high),
            "kappa": _kappa(judge, hand),
            "both_correct": int((judge & hand).sum()),
            "both_wrong": int((~judge & ~hand).sum()),
            "judge_only": int((judge & ~hand).sum()),
            "hand_only": int((~judge & hand).sum()),
        },
        dtype=object,
    )


def _kappa(judge: np.ndarray, hand: np.ndarray) -> float:
    from sklearn.metrics import cohen_kappa_score

    with warnings.catch_warnings():  # nought over nought: the docstring says what it means
        warnings.simplefilter("ignore")
        return float(cohen_kappa_score(judge, hand))
