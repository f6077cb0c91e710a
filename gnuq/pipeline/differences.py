"""How far two tables are apart."""

from __future__ import annotations

import numpy as np
import pandas as pd


def wide(table: pd.DataFrame) -> pd.DataFrame:
    """A table of model, quantity, value with one column a quantity; any other table as it is."""
    if list(table) != ["model", "quantity", "value"]:
        return table
    return table.pivot_table("value", "model", "quantity").reset_index()


def largest_difference(saved: pd.DataFrame, new: pd.DataFrame) -> float:
    """The largest difference between two tables, each column in units of its largest value.

    Returns:
        Infinite if the tables differ in shape, in a text, or in what is missing or infinite.
    """
    if saved.shape != new.shape or set(saved) != set(new):
        return np.inf
    worst = 0.0
    for name in saved:
        a, b = saved[name].to_numpy(), new[name].to_numpy()
        if not pd.api.types.is_float_dtype(saved[name]):
            if list(map(str, a)) != list(map(str, b)):
                return np.inf
            continue
        finite = np.isfinite(a)
        if (finite != np.isfinite(b)).any() or not np.array_equal(
            a[~finite], b[~finite], equal_nan=True
        ):
            return np.inf
        scale = abs(a[finite]).max(initial=0.0) or 1.0
        worst = max(worst, float(abs(a[finite] - b[finite]).max(initial=0.0) / scale))
    return worst
