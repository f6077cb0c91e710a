"""What a calibration and its labels must be like."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gnuq.scoring.errors import CalibrationError
from gnuq.scoring.reliability import FOLDS

if TYPE_CHECKING:
    from gnuq.scoring.calibration import Calibration

#: The scores that a calibration uses, and how each enters: logarithms, since they span decades.
FEATURES = ("epistemic", "aleatoric")


def fault(found: Calibration) -> str | None:
    """What is wrong with a calibration's values, or None: no sample of answers can give them."""
    numbers = [found.coefficients, found.centre, found.spread, *found.reference.values()]
    pairs = np.array(found.held_out or np.empty((0, 2)), float)
    if not all(np.isfinite(np.array(values, float)).all() for values in [*numbers, pairs]):
        return "some of its numbers are not finite"
    if set(found.reference) != set(FEATURES) or len(set(map(len, found.reference.values()))) != 1:
        return f"its reference does not hold as many of each of {', '.join(FEATURES)}"
    if any(not v or sorted(v) != list(v) for v in found.reference.values()):
        return "its reference is empty or not sorted"
    if len(found.centre) != len(FEATURES) or len(found.spread) != len(FEATURES):
        return "its centre or spread has another number of features"
    if min(found.spread) <= 0:
        return "its spread is not positive"
    if len(found.coefficients) not in (0, len(FEATURES) + 1):
        return "it has another number of coefficients"
    if len(pairs) != (len(found.reference[FEATURES[0]]) if found.coefficients else 0):
        return "it does not hold one prediction for each answer"
    if (
        not np.isin(pairs[:, 1], (0, 1)).all()
        or not ((pairs[:, 0] >= 0) & (pairs <= 1)[:, 0]).all()
    ):
        return "its predictions are no probabilities, or its labels neither 0 nor 1"
    return None


def correct(labels: Sequence[Any], count: int) -> np.ndarray:
    """Labels as 1 (correct) and 0.

    Raises:
        CalibrationError: another number of them, no yes or no, or too few of one kind.
    """
    given = np.asarray(labels)
    if given.shape != (count,):
        raise CalibrationError(f"labels: shape {given.shape} for {count} answers; one for each.")
    if not np.isin(given, (0, 1)).all():
        raise CalibrationError("labels: they must be True (correct) or False (wrong), or 1 and 0.")
    found = given.astype(int)
    if min(found.sum(), count - found.sum()) < FOLDS:
        raise CalibrationError(
            f"labels: {found.sum()} correct and {count - found.sum()} wrong answers; give at "
            f"least {FOLDS} of each."
        )
    return found
