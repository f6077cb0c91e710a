"""Is 0.003 high? From scores to a probability of being wrong, or to a percentile.

A squared gradient norm has no scale of its own: it depends on the model's size and
parametrisation. With labels, a logistic regression on the logarithms of the scores gives the
probability that an answer is wrong; without them, a score has a rank among the model's answers to
other questions. Either holds for the model, and the kind of question, that it was fitted on.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gnuq.artefacts.files import write_whole
from gnuq.scoring.examples import ScoreError
from gnuq.scoring.scores import Scores

#: The scores that a calibration uses, and how each enters: logarithms, since they span decades.
FEATURES = ("epistemic", "aleatoric")
#: Folds of the cross-validation that the reliability curve is drawn from.
FOLDS = 5
#: The version of the file format.
FORMAT = 1


class CalibrationError(ScoreError):
    """Scores and labels that cannot be fitted, or a calibration of another model."""


@dataclass(frozen=True)
class Calibration:
    """What a model's scores mean.

    Attributes:
        model_name: the model that the scores are of.
        fingerprint: of its weights.
        objective: what was differentiated.
        params: which weights count.
        reference: each feature's sorted values, for percentiles.
        coefficients: of the standardised logarithms, and the intercept last; empty without labels.
        centre: means of the logarithms.
        spread: their standard deviations.
        held_out: predicted probability and label (1: wrong) of each answer, from the fold that
            did not see it; empty without labels.
    """

    model_name: str
    fingerprint: str
    objective: str
    params: str
    reference: dict[str, list[float]]
    coefficients: list[float]
    centre: list[float]
    spread: list[float]
    held_out: list[tuple[float, int]]

    def percentile(self, scores: Scores, feature: str = "epistemic") -> np.ndarray:
        """The share of the reference answers whose score is lower, in percent.

        Args:
            scores: of the same model.
            feature: "epistemic" or "aleatoric".

        Raises:
            CalibrationError: scores of another model or objective, or an unknown feature.
        """
        self._same(scores)
        if feature not in self.reference:
            raise CalibrationError(f"feature: {feature!r} is none of {', '.join(self.reference)}.")
        known = np.array(self.reference[feature])
        below = np.searchsorted(known, getattr(scores, feature), side="left")
        above = np.searchsorted(known, getattr(scores, feature), side="right")
        share: np.ndarray = 50 * (below + above) / len(known)
        return share

    def probability_wrong(self, scores: Scores) -> np.ndarray:
        """The fitted probability that each answer is wrong.

        Raises:
            CalibrationError: it was fitted without labels, or the scores are of another model.
        """
        self._same(scores)
        if not self.coefficients:
            raise CalibrationError("labels: this calibration has none; fit it with labels.")
        standard = (_logarithms(scores) - self.centre) / self.spread
        wrong: np.ndarray = _logistic(standard @ self.coefficients[:-1] + self.coefficients[-1])
        return wrong

    def reliability(self, bins: int = 10) -> pd.DataFrame:
        """Predicted probability of being wrong against the share that is, held out.

        Args:
            bins: number of bins of equal size.

        Returns:
            One row a bin: `predicted`, `observed`, `count`, and the 95 % Wilson interval `low`,
            `high` of the observed share.

        Raises:
            CalibrationError: fitted without labels.
        """
        if not self.held_out:
            raise CalibrationError("labels: this calibration has none; fit it with labels.")
        if bins < 1:
            raise CalibrationError(f"bins: {bins}; give at least one.")
        predicted, wrong = np.array(self.held_out).T
        return reliability_curve(predicted, wrong, bins)

    def save(self, path: str | Path) -> None:
        """Write it as JSON, whole or not at all.

        Raises:
            CalibrationError: the folder is missing or cannot be written.
        """
        path = Path(path)
        told = json.dumps({"format": FORMAT, **asdict(self)}, indent=1, allow_nan=False)
        try:
            write_whole(path, f"{told}\n".encode())
        except OSError as error:
            raise CalibrationError(f"path: {path} cannot be written ({error.strerror}).") from error

    @classmethod
    def load(cls, path: str | Path) -> Calibration:
        """Read one that `save` wrote.

        Raises:
            CalibrationError: no such file, or not a calibration.
        """
        try:
            told: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
            if told.pop("format") != FORMAT:
                raise KeyError("format")
            told["held_out"] = [(float(p), int(y)) for p, y in told["held_out"]]
            for name in ("coefficients", "centre", "spread"):
                told[name] = [float(x) for x in told[name]]
            told["reference"] = {k: [float(x) for x in v] for k, v in told["reference"].items()}
            return cls(**told)
        except FileNotFoundError as error:
            raise CalibrationError(
                f"path: there is no {path}; save a calibration there."
            ) from error
        except OSError as error:
            raise CalibrationError(f"path: {path} cannot be read ({error.strerror}).") from error
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CalibrationError(f"path: {path} is no calibration of this version.") from error

    def _same(self, scores: Scores) -> None:
        for name in ("fingerprint", "objective", "params"):
            mine, theirs = getattr(self, name), getattr(scores, name)
            if mine != theirs:
                raise CalibrationError(
                    f"scores: their {name} is {theirs} ({scores.model_name}), the calibration's "
                    f"{mine} ({self.model_name}). Scores of different models, precisions, "
                    "objectives or weights are on different scales: fit one for each."
                )


def calibrate(scores: Scores, labels: Sequence[Any] | None = None) -> Calibration:
    """What this model's scores mean, from a sample of its answers.

    Args:
        scores: of the sample.
        labels: whether each answer is correct (True or 1) or wrong (False or 0); without them,
            only percentiles can be told.

    Returns:
        The calibration, with cross-validated predictions for its reliability curve.

    Raises:
        CalibrationError: labels of another number, that are not yes or no, or of one kind only;
            too few answers; a score of nought, which has no logarithm.

    Source:
        The paper's §4.2 predicts correctness by logistic regression on the same two scores.
    """
    values = _logarithms(scores)
    reference = {name: sorted(map(float, getattr(scores, name))) for name in FEATURES}
    centre, spread = values.mean(0), values.std(0)
    spread = np.where(spread > 0, spread, 1.0)
    coefficients: list[float] = []
    held_out: list[tuple[float, int]] = []
    if labels is not None:
        wrong = 1 - _correct(labels, len(scores))
        coefficients, held_out = _fit((values - centre) / spread, wrong)
    return Calibration(
        scores.model_name,
        scores.fingerprint,
        scores.objective,
        scores.params,
        reference,
        coefficients,
        centre.tolist(),
        spread.tolist(),
        held_out,
    )


def _fit(features: np.ndarray, wrong: np.ndarray) -> tuple[list[float], list[tuple[float, int]]]:
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


def _logarithms(scores: Scores) -> np.ndarray:
    values = np.stack([getattr(scores, name) for name in FEATURES], 1)
    if not (np.isfinite(values) & (values > 0)).all():
        i = int((~(np.isfinite(values) & (values > 0))).any(1).nonzero()[0][0])
        raise CalibrationError(
            f"scores: answer {i} has a score of {values[i].tolist()}, which has no logarithm; "
            "leave it out."
        )
    logarithms: np.ndarray = np.log(values)
    return logarithms


def _correct(labels: Sequence[Any], count: int) -> np.ndarray:
    given = np.asarray(labels)
    if given.shape != (count,):
        raise CalibrationError(f"labels: shape {given.shape} for {count} answers; one for each.")
    if not np.isin(given, (0, 1)).all():
        raise CalibrationError("labels: they must be True (correct) or False (wrong), or 1 and 0.")
    correct = given.astype(int)
    if min(correct.sum(), count - correct.sum()) < FOLDS:
        raise CalibrationError(
            f"labels: {correct.sum()} correct and {count - correct.sum()} wrong answers; give at "
            f"least {FOLDS} of each."
        )
    return correct


def _logistic(x: np.ndarray) -> np.ndarray:
    from scipy.special import expit

    found: np.ndarray = expit(x)
    return found


def _wilson(successes: float, count: int) -> tuple[float, float]:
    """The 95 % Wilson score interval of a share."""
    from scipy.stats import binomtest

    interval = binomtest(int(successes), count).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)
