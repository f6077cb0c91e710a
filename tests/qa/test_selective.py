"""Leaving answers out, and probabilities: oracles, chance, ties, calibration."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from gnuq.qa.discrimination import auroc
from gnuq.qa.selective import (
    calibration,
    crossfitted,
    expected_calibration_error,
    prediction_rejection_ratio,
    reliability,
    risk_coverage,
)
from tests.qa.joined import joined


def labelled(count: int = 200, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and an uncertainty with some relation to them."""
    random = np.random.default_rng(seed)
    correct = random.uniform(size=count) < 0.6
    return correct, random.normal(size=count) - correct


def test_at_full_coverage_the_risk_is_the_error_rate() -> None:
    correct, score = labelled()
    curve = risk_coverage(correct, score)
    assert curve["coverage"].iloc[-1] == 1
    assert curve["risk"].iloc[-1] == pytest.approx(1 - correct.mean())


def test_an_oracle_errs_only_once_the_correct_answers_are_used_up() -> None:
    correct, _ = labelled()
    curve = risk_coverage(correct, 1 - correct)
    right = correct.sum()
    assert (curve["risk"][:right] == 0).all()
    assert (np.diff(curve["risk"][right - 1 :]) > 0).all()


def test_ties_count_as_the_average_over_their_orders() -> None:
    correct, score = np.array([True, False, False, True, True]), np.array([0, 1, 1, 1, 2])
    curves = []
    for order in itertools.permutations(range(3)):
        broken = score + np.array([0, *np.array(order) / 10, 0])
        curves.append(risk_coverage(correct, broken)["risk"])
    np.testing.assert_allclose(risk_coverage(correct, score)["risk"], np.mean(curves, 0))


def test_a_ratio_of_one_is_an_oracles_and_of_nought_a_constants() -> None:
    correct, _ = labelled()
    assert prediction_rejection_ratio(correct, 1 - correct) == pytest.approx(1)
    assert prediction_rejection_ratio(correct, np.zeros(200)) == pytest.approx(0)
    assert prediction_rejection_ratio(correct, correct) < 0


def test_chance_has_a_ratio_of_nought_in_expectation() -> None:
    correct, _ = labelled()
    random = np.random.default_rng(1)
    found = [prediction_rejection_ratio(correct, random.normal(size=200)) for _ in range(200)]
    assert abs(np.mean(found)) < 4 * np.std(found) / np.sqrt(200)


def test_the_ratio_uses_ranks_only() -> None:
    correct, score = labelled()
    expected = prediction_rejection_ratio(correct, score)
    assert prediction_rejection_ratio(correct, np.exp(3 * score)) == pytest.approx(expected)


def test_were_rejected_answers_counted_as_right_the_ratio_would_be_auroc() -> None:
    correct, score = labelled()

    def area(uncertainty: np.ndarray) -> float:
        curve = risk_coverage(correct, uncertainty)
        return np.trapezoid([0, *curve["risk"] * curve["coverage"]], [0, *curve["coverage"]])

    chance = (1 - correct.mean()) / 2
    ratio = (chance - area(score)) / (chance - area(1 - correct))
    assert ratio == pytest.approx(2 * auroc(correct, -score) - 1)


def test_one_kind_of_answers_has_a_flat_curve_and_no_ratio() -> None:
    for kind in (np.ones(5, bool), np.zeros(5, bool)):
        assert (risk_coverage(kind, np.arange(5.0))["risk"] == 1 - kind[0]).all()
        assert np.isnan(prediction_rejection_ratio(kind, np.arange(5.0)))


def test_crossfitted_probabilities_are_calibrated_on_logistic_data() -> None:
    random = np.random.default_rng(0)
    frame = joined(4000)
    x = random.normal(size=4000)
    truth = 1 / (1 + np.exp(1.5 * x - 0.5))
    frame = frame.assign(epistemic=x, correct=random.uniform(size=4000) < truth)
    found = crossfitted(frame, ("epistemic",))
    np.testing.assert_allclose(found, truth, atol=0.04)
    curve = reliability(frame["correct"].to_numpy(), found)
    assert (curve["count"] == 400).all()
    np.testing.assert_allclose(curve["predicted"], curve["observed"], atol=0.08)
    told = calibration(frame["correct"].to_numpy(), found)
    assert told["ece"] < 2 * told["ece_if_calibrated"]
    assert told["brier"] < told["brier_of_base_rate"]


def test_a_crossfitted_probability_does_not_see_its_own_label() -> None:
    # each feature marks one answer: known by heart if seen, and otherwise without any effect
    frame = joined(40).assign(**{f"is_{i}": np.eye(40)[i] for i in range(40)})
    frame = frame.assign(correct=[True, False] * 20)
    found = crossfitted(frame, tuple(f"is_{i}" for i in range(40)), folds=20)
    np.testing.assert_allclose(found, 0.5, atol=1e-3)


def test_too_few_of_a_kind_give_nan_or_fewer_folds() -> None:
    frame = joined(30)
    assert np.isnan(crossfitted(frame.assign(correct=np.arange(30) < 1), ("epistemic",))).all()
    assert np.isnan(crossfitted(frame.assign(correct=True), ("epistemic",))).all()
    few = crossfitted(frame.assign(correct=np.arange(30) < 3), ("epistemic",))
    assert ((few > 0) & (few < 1)).all()


def test_probabilities_far_from_the_truth_have_the_error_they_deserve() -> None:
    correct = np.arange(1000) % 2 == 0
    assert expected_calibration_error(correct, np.full(1000, 0.9)) == pytest.approx(0.4)
    told = calibration(correct, np.full(1000, 0.9))
    assert told["brier"] == pytest.approx((0.01 + 0.81) / 2)
    assert told["brier_of_base_rate"] == pytest.approx(0.25)
    assert told["ece"] > 5 * told["ece_if_calibrated"]


def test_the_calibration_error_is_that_of_the_reliability_curve() -> None:
    correct, score = labelled()
    probability = 1 / (1 + np.exp(score))
    curve = reliability(correct, probability, bins=7)
    gaps = (curve["observed"] - curve["predicted"]).abs()
    expected = (gaps * curve["count"]).sum() / 200
    assert expected_calibration_error(correct, probability, bins=7) == pytest.approx(expected)


def test_all_answers_of_one_kind_still_have_a_calibration() -> None:
    told = calibration(np.ones(20, bool), np.full(20, 0.75))
    assert told["brier"] == pytest.approx(0.0625)
    assert told["brier_of_base_rate"] == 0


def test_bad_input_is_named() -> None:
    correct = np.array([True, False])
    with pytest.raises(ValueError, match=r"uncertainty: shape \(3,\) for 2 answers; one for each"):
        risk_coverage(correct, np.zeros(3))
    with pytest.raises(ValueError, match="probability: it holds NaN; leave these answers out"):
        reliability(correct, np.array([0.5, np.nan]))
    with pytest.raises(ValueError, match="correct: one True or False for each answer"):
        prediction_rejection_ratio(np.array([0.3, 1]), np.zeros(2))
    with pytest.raises(ValueError, match="bins: 0; give at least one"):
        expected_calibration_error(correct, np.array([0.1, 0.9]), bins=0)
    with pytest.raises(ValueError, match="no column 'p_true'"):
        crossfitted(joined(10).drop(columns="p_true"), ("p_true",))
