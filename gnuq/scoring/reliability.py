"""The logistic regression behind a calibration, and whether its predictions come true."""

from __future__ import annotations

import numpy as np
import pandas as pd

#: Folds of the cross-validation that the reliability curve is drawn from.
FOLDS = 5


def fit(features: np.ndarray, wrong: np.ndarray) -> tuple[list[float], list[tuple[float, int]]]:
    """Logistic regression on all answers, and predictions of each from the others' folds."""
    from sklearn.linear_model import LogisticRegression

    fitted = LogisticRegression().fit(features, wrong)
    predicted = held_out_predictions(features, wrong)
    held_out = [(float(p), int(y)) for p, y in zip(predicted, wrong, strict=True)]
    return [*fitted.coef_[0].tolist(), float(fitted.intercept_[0])], held_out


def held_out_predictions(features: np.ndarray, wrong: np.ndarray) -> np.ndarray:
    """Each answer's probability of being wrong, from a fit that did not see it.

    Args:
        features: shape (n, features).
        wrong: shape (n,), 1 or True where the answer is wrong.

    Returns:
        Shape (n,).
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    model = make_pipeline(StandardScaler(), LogisticRegression())
    every = cross_val_predict(model, features, wrong, cv=folds, method="predict_proba")
    predicted: np.ndarray = every[:, 1]
    return predicted


def reliability_curve(predicted: np.ndarray, wrong: np.ndarray, bins: int = 10) -> pd.DataFrame:
    """Predicted probabilities against observed shares, in bins of equal size; see `reliability`."""
    order = np.argsort(predicted, kind="stable")
    rows = []
    for part in np.array_split(order, min(bins, len(order))):
        low, high = _wilson(wrong[part].sum(), len(part))
        rows.append((predicted[part].mean(), wrong[part].mean(), len(part), low, high))
    return pd.DataFrame(rows, columns=["predicted", "observed", "count", "low", "high"])


def logistic(x: np.ndarray) -> np.ndarray:
    """1 / (1 + e⁻ˣ)."""
    from scipy.special import expit

    found: np.ndarray = expit(x)
    return found


def _wilson(successes: float, count: int) -> tuple[float, float]:
    """The 95 % Wilson score interval of a share."""
    from scipy.stats import binomtest

    interval = binomtest(int(successes), count).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)
