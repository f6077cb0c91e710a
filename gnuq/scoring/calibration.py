"""Is 0.003 high? From scores to a probability of being wrong, or to a percentile.

A squared gradient norm has no scale of its own: it depends on the model's size and
parametrisation. With labels, a logistic regression on the logarithms of the scores gives the
probability that an answer is wrong; without them, a score has a rank among the model's answers to
other questions. Either holds for the model, and the kind of question, that it was fitted on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gnuq.scoring import calibration_files
from gnuq.scoring.calibration_checks import FEATURES, correct, fault
from gnuq.scoring.errors import CalibrationError
from gnuq.scoring.reliability import fit, held_out_predictions, logistic, reliability_curve
from gnuq.scoring.scores import Scores

__all__ = ["FEATURES", "Calibration", "calibrate", "held_out_predictions", "reliability_curve"]


@dataclass(frozen=True)
class Calibration:
    """What a model's scores mean.

    Attributes:
        model_name: the model that the scores are of.
        fingerprint: of its weights.
        objective: what was differentiated.
        params: which weights count.
        reference: the sorted logarithms of each feature, for percentiles.
        coefficients: of the standardised logarithms, and the intercept last; empty without labels.
        centre: means of the logarithms.
        spread: their standard deviations.
        held_out: predicted probability and label (1: wrong) of each answer, from the fold that
            did not see it; empty without labels.

    Raises:
        CalibrationError: values that no sample of answers can have given.
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

    def __post_init__(self) -> None:
        """Refuse values that no sample of answers can have given."""
        if (wrong := fault(self)) is not None:
            raise CalibrationError(f"calibration: {wrong}; fit it anew with gnuq.calibrate.")

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
        given = logarithm(scores, feature)
        if np.isnan(given).any():
            raise CalibrationError(f"scores: answer {np.isnan(given).argmax()} has no {feature}.")
        below = np.searchsorted(known, given, side="left")
        above = np.searchsorted(known, given, side="right")
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
        wrong: np.ndarray = logistic(standard @ self.coefficients[:-1] + self.coefficients[-1])
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
        calibration_files.write(Path(path), asdict(self))

    @classmethod
    def load(cls, path: str | Path) -> Calibration:
        """Read one that `save` wrote.

        Raises:
            CalibrationError: no such file, not a calibration, or one that was changed since it
                was saved.
        """
        told = calibration_files.read(Path(path))
        try:
            told["held_out"] = [(p, y) for p, y in told["held_out"]]
            return cls(**told)
        except (KeyError, TypeError, ValueError) as error:
            raise CalibrationError(f"path: {path} is no calibration ({error}).") from error

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
    reference = {name: sorted(values[:, k].tolist()) for k, name in enumerate(FEATURES)}
    centre, spread = values.mean(0), values.std(0)
    spread = np.where(spread > 0, spread, 1.0)
    coefficients: list[float] = []
    held_out: list[tuple[float, int]] = []
    if labels is not None:
        wrong = 1 - correct(labels, len(scores))
        coefficients, held_out = fit((values - centre) / spread, wrong)
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


def logarithm(scores: Scores, feature: str) -> np.ndarray:
    """The logarithm of a feature, shape (n,), -inf where it is nought."""
    if feature == "epistemic":  # which no float may hold
        return scores.log_epistemic
    with np.errstate(divide="ignore", invalid="ignore"):
        found: np.ndarray = np.log(getattr(scores, feature))
    return found


def _logarithms(scores: Scores) -> np.ndarray:
    found = np.stack([logarithm(scores, name) for name in FEATURES], 1)
    if not (finite := np.isfinite(found).all(1)).all():
        i = int((~finite).argmax())
        raise CalibrationError(
            f"scores: answer {i} has a score of {[getattr(scores, n)[i] for n in FEATURES]}, which "
            "has no logarithm; leave it out."
        )
    return found
