"""Does a score tell correct answers from wrong ones, as it stands? AUROC without a fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from gnuq.qa.columns import DIRECTION, features, labels, uncertainty


class WithinStrata(NamedTuple):
    """An AUROC over the pairs of one stratum, and how many pairs that are."""

    auroc: float
    pairs: int


def auroc(correct: np.ndarray, score: np.ndarray) -> float:
    """P(score of a correct answer > score of a wrong one), ties counted half.

    Args:
        correct: shape (n,), truth values.
        score: shape (n,), high where the answer is taken to be correct.

    Returns:
        The Mann–Whitney statistic over the number of pairs, by ranks (thousands of calls, so not
        by a curve); NaN where all answers are correct, or none.

    Raises:
        ValueError: a score is NaN: that would rank as most certain or most uncertain.
    """
    if np.isnan(score).any():
        raise ValueError("score: it holds NaN; leave these answers out, and count them.")
    positive = int(np.count_nonzero(correct))
    pairs = positive * (len(correct) - positive)
    if not pairs:
        return float("nan")
    ranks = rankdata(score)[np.asarray(correct, bool)].sum()
    return float((ranks - positive * (positive + 1) / 2) / pairs)


def stratified_auroc(correct: np.ndarray, score: np.ndarray, strata: np.ndarray) -> WithinStrata:
    """`auroc` over the pairs of a correct and a wrong answer of the same stratum only.

    Args:
        correct: shape (n,), truth values.
        score: shape (n,), high where the answer is taken to be correct.
        strata: shape (n,), which stratum.

    Returns:
        Concordant pairs over pairs, and the number of pairs; NaN and 0 where there is none.
    """
    concordant, total = 0.0, 0
    for stratum in np.unique(strata):
        here = strata == stratum
        positive = int(np.count_nonzero(correct[here]))
        if pairs := positive * int(here.sum() - positive):
            concordant += auroc(correct[here], score[here]) * pairs
            total += pairs
    return WithinStrata(concordant / total if total else float("nan"), total)


def given_length(frame: pd.DataFrame, column: str) -> WithinStrata:
    """What a score knows beyond the answer's length: AUROC among answers of equal length T.

    Args:
        frame: the joined table of one model and benchmark.
        column: a score of `DIRECTION`, used as `plain_auroc` does.

    Raises:
        ValueError: a column is missing, or a score is not finite.
    """
    length = features(frame, ("length",))[:, 0]
    return stratified_auroc(labels(frame), -uncertainty(frame, column), length)


def plain_auroc(
    frame: pd.DataFrame,
    columns: Sequence[str] = tuple(DIRECTION),
    resamples: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """AUROC of raw scores, the sign fixed in advance: what a user without labels gets.

    Args:
        frame: the joined table of one model and benchmark.
        columns: scores of `DIRECTION`.
        resamples: of the answers, for the interval; the same ones for every score.
        seed: of the resamples.

    Returns:
        One row a score: score, auroc (above ½: wrong answers are the more uncertain), low and
        high (95 % percentile bootstrap), n, correct.

    Raises:
        ValueError: a column is missing, or a score is not finite.
    """
    correct, rows = labels(frame), []
    count = len(correct)
    drawn = np.random.default_rng(seed).integers(count, size=(resamples, count))
    for column in columns:
        score = -uncertainty(frame, column)
        found = pd.Series([auroc(correct[i], score[i]) for i in drawn], dtype=float)
        low, high = found.quantile([0.025, 0.975])
        rows.append((column, auroc(correct, score), low, high, count, int(correct.sum())))
    return pd.DataFrame(rows, columns=["score", "auroc", "low", "high", "n", "correct"])
