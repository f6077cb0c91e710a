"""What a user does with a score: leave the most uncertain answers out, or read a probability."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from sklearn.metrics import brier_score_loss
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from gnuq.qa.columns import features, labels
from gnuq.qa.evaluation import classifier
from gnuq.scoring.calibration import reliability_curve


def risk_coverage(correct: np.ndarray, uncertainty: np.ndarray) -> pd.DataFrame:
    """The share of wrong answers among the k most certain ones, for every k.

    Args:
        correct: shape (n,), truth values.
        uncertainty: shape (n,), high where the answer is taken to be wrong. Answers of equal
            uncertainty count as in random order: their risk is the expectation over it.

    Returns:
        n rows: coverage, k/n; risk, the expected share of wrong answers among those k.

    Raises:
        ValueError: another shape, no answer, or NaN.
    """
    wrong, score = 1.0 - _labels(correct), _numbers("uncertainty", uncertainty, correct)
    ordered = pd.DataFrame({"score": score, "wrong": wrong}).sort_values("score")
    expected = ordered.groupby("score")["wrong"].transform("mean").to_numpy()
    kept = np.arange(1, len(ordered) + 1)
    return pd.DataFrame({"coverage": kept / len(kept), "risk": expected.cumsum() / kept})


def prediction_rejection_ratio(correct: np.ndarray, uncertainty: np.ndarray) -> float:
    """How much of the possible gain a score reaches: 1 for an oracle, 0 for chance in expectation.

    The area between the risk of rejecting at random (the error rate, at every coverage) and the
    score's risk, over the same for an oracle that rejects the wrong answers first. Areas are means
    over the n coverages of `risk_coverage`. Malinin et al. let rejected answers count as right;
    for right and wrong that ratio is 2 · AUROC − 1 and says nothing new, so the risk here is that
    of the answers kept, as in selective prediction.

    Args:
        correct: shape (n,), truth values.
        uncertainty: shape (n,), high where the answer is taken to be wrong.

    Returns:
        The ratio, negative for a score that is worse than chance; NaN where all answers are
        correct, or none.

    Raises:
        ValueError: another shape, no answer, or NaN.
    """
    wrong = 1.0 - _labels(correct)
    if wrong.min() == wrong.max():
        return float("nan")
    reached = wrong.mean() - risk_coverage(correct, uncertainty)["risk"].mean()
    possible = wrong.mean() - risk_coverage(correct, wrong)["risk"].mean()
    return float(reached / possible)


def crossfitted(
    frame: pd.DataFrame, columns: Sequence[str], folds: int = 10, seed: int = 0
) -> np.ndarray:
    """Each answer's fitted probability of being correct, from a fit that did not see it.

    Args:
        frame: the joined table of one model and benchmark.
        columns: features of the logistic regression.
        folds: of the cross-validation, each with the same share of correct answers; no more than
            there are of the rarer kind.
        seed: of the folds.

    Returns:
        Shape (n,); NaN with fewer than two correct or two wrong answers.

    Raises:
        ValueError: a column is missing, or a feature is not finite.
    """
    correct, x = labels(frame), features(frame, columns)
    rarer = int(min(correct.sum(), len(correct) - correct.sum()))
    if rarer < 2:
        return np.full(len(correct), np.nan)
    parts = StratifiedKFold(min(folds, rarer), shuffle=True, random_state=seed)
    found = cross_val_predict(classifier(), x, correct, cv=parts, method="predict_proba")
    predicted: np.ndarray = found[:, 1]
    return predicted


def reliability(correct: np.ndarray, probability: np.ndarray, bins: int = 10) -> pd.DataFrame:
    """Predicted probability of being correct against the share that is, in bins of equal size.

    Args:
        correct: shape (n,), truth values.
        probability: shape (n,), of being correct, from fits that did not see the answer.
        bins: how many; no more than answers.

    Returns:
        One row a bin: predicted (mean), observed (share), count, and the 95 % Wilson interval low,
        high of the share.

    Raises:
        ValueError: another shape, no answer, NaN, or no bin.
    """
    given, predicted = _labels(correct), _numbers("probability", probability, correct)
    _at_least_one(bins)
    return reliability_curve(predicted, given, bins)


def expected_calibration_error(
    correct: np.ndarray, probability: np.ndarray, bins: int = 10
) -> float:
    """The mean over answers of |observed share − mean probability| of their bin.

    Bins have equal size. It is above 0 for perfect probabilities too, since a bin's share varies:
    see `calibration`.

    Args:
        correct: shape (n,), truth values.
        probability: shape (n,), of being correct.
        bins: how many; no more than answers.

    Raises:
        ValueError: another shape, no answer, NaN, or no bin.
    """
    given, predicted = _labels(correct), _numbers("probability", probability, correct)
    _at_least_one(bins)
    order = np.argsort(predicted, kind="stable")
    parts = np.array_split((given - predicted)[order], min(bins, len(order)))
    return float(sum(abs(part.sum()) for part in parts) / len(order))


def calibration(correct: np.ndarray, probability: np.ndarray, seed: int = 0) -> dict[str, float]:
    """How good probabilities of being correct are, in numbers.

    Args:
        correct: shape (n,), truth values.
        probability: shape (n,), of being correct, from fits that did not see the answer.
        seed: of the labels drawn for `ece_if_calibrated`.

    Returns:
        n; brier, the mean squared error; brier_of_base_rate, that of the share of correct answers
        as everyone's probability; ece, `expected_calibration_error`; ece_if_calibrated, its mean
        over 200 draws of labels from the probabilities themselves.

    Raises:
        ValueError: another shape, no answer, or NaN.
    """
    given, predicted = _labels(correct), _numbers("probability", probability, correct)
    drawn = np.random.default_rng(seed).uniform(size=(200, len(given))) < predicted
    expected = [expected_calibration_error(labels, predicted) for labels in drawn]
    return {
        "n": len(given),
        "brier": float(brier_score_loss(given, predicted)),
        "brier_of_base_rate": float(given.var()),
        "ece": expected_calibration_error(given, predicted),
        "ece_if_calibrated": float(np.mean(expected)),
    }


def _labels(correct: np.ndarray) -> np.ndarray:
    given = np.asarray(correct, float)
    if given.ndim != 1 or not len(given) or not np.isin(given, (0, 1)).all():
        raise ValueError("correct: one True or False for each answer, at least one.")
    return given


def _numbers(name: str, values: np.ndarray, correct: np.ndarray) -> np.ndarray:
    found = np.asarray(values, float)
    if found.shape != np.shape(correct):
        raise ValueError(f"{name}: shape {found.shape} for {len(correct)} answers; one for each.")
    if np.isnan(found).any():
        raise ValueError(f"{name}: it holds NaN; leave these answers out, and count them.")
    return found


def _at_least_one(bins: int) -> None:
    if bins < 1:
        raise ValueError(f"bins: {bins}; give at least one.")
