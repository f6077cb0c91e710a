"""The joined table, which the evaluation reads: one row an answer, its label and its scores.

Columns model, benchmark, id, correct, and the scores. Rows that lack a score, or a decision on
whether they are correct, were left out and counted before: here they are errors.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

#: A feature of this beginning is the logarithm of the column that follows.
LOG = "log_"
#: Scores and whether they grow (1) or fall (−1) with uncertainty, before any label is seen.
DIRECTION = {
    "p_true": -1,
    "semantic_entropy": 1,
    "discrete_semantic_entropy": 1,
    "naive_entropy": 1,
    "aleatoric": 1,
    "epistemic": 1,
    "length_free": 1,
    "length": 1,
    "mean_probability": -1,
    "mean_log_probability": -1,
}


def labels(frame: pd.DataFrame) -> np.ndarray:
    """Column `correct` as truth values, shape (n,).

    Raises:
        ValueError: missing, without rows, or neither True nor False somewhere.
    """
    require(frame, ("correct",))
    given = frame["correct"]
    if given.isna().any() or not given.isin((0, 1)).all():
        raise ValueError(
            "frame: 'correct' must be True or False; leave undecided answers out, and count them."
        )
    return given.to_numpy(bool)


def uncertainty(frame: pd.DataFrame, column: str) -> np.ndarray:
    """A score, negated where it falls with uncertainty; shape (n,).

    Raises:
        ValueError: a score of no known direction, missing from the table, or not finite.
    """
    if column not in DIRECTION:
        raise ValueError(f"column: {column!r} is none of {', '.join(DIRECTION)}.")
    found: np.ndarray = DIRECTION[column] * features(frame, (column,))[:, 0]
    return found


def features(frame: pd.DataFrame, columns: Sequence[str]) -> np.ndarray:
    """Columns, or their logarithms (`log_…`), as floats; shape (n, len(columns)).

    A norm of 0 (every token certain in float32) counts as the column's smallest above 0.

    Raises:
        ValueError: a column is missing, holds what is not finite, or has no logarithm.
    """
    require(frame, [name.removeprefix(LOG) for name in columns])
    found = np.empty((len(frame), len(columns)))
    for i, name in enumerate(columns):
        values = frame[name.removeprefix(LOG)].to_numpy(float, na_value=np.nan)
        if name.startswith(LOG):
            values = _logarithm(values)
        if bad := int((~np.isfinite(values)).sum()):
            raise ValueError(
                f"frame: {name!r} is not finite in {bad} rows; leave them out, and count them."
            )
        found[:, i] = values
    return found


def _logarithm(values: np.ndarray) -> np.ndarray:
    """Of numbers from 0 up; NaN below, and where all are 0."""
    least = values[values > 0].min(initial=np.inf)
    known = np.isfinite(least) & (values >= 0)
    logarithms: np.ndarray = np.log(np.where(known, np.maximum(values, least), np.nan))
    return logarithms


def require(frame: pd.DataFrame, columns: Iterable[str]) -> None:
    """Check that a table has rows and these columns.

    Raises:
        ValueError: it has no row, or lacks a column.
    """
    for name in columns:
        if name not in frame:
            raise ValueError(
                f"frame: it has no column {name!r}; join labels, scores and baselines first, or "
                "leave out the methods that need it."
            )
    if frame.empty:
        raise ValueError("frame: it has no rows; every answer was left out. See the reasons.")
