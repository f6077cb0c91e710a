"""AUROC without a fit: against scikit-learn, and given the length."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from gnuq.qa.columns import DIRECTION
from gnuq.qa.discrimination import auroc, given_length, plain_auroc, stratified_auroc
from gnuq.qa.evaluation import METHODS
from tests.qa.joined import joined


def test_it_is_scikit_learns_with_ties_too() -> None:
    random = np.random.default_rng(0)
    for _ in range(20):
        correct, score = random.uniform(size=30) < 0.4, random.integers(6, size=30)
        assert auroc(correct, score) == pytest.approx(roc_auc_score(correct, score), abs=1e-12)


def test_known_values() -> None:
    correct = np.array([True, True, False, False])
    assert auroc(correct, correct) == 1
    assert auroc(correct, ~correct) == 0
    assert auroc(correct, np.zeros(4)) == 0.5
    assert np.isnan(auroc(np.ones(4, bool), np.arange(4.0)))


def test_nan_is_no_score() -> None:
    with pytest.raises(ValueError, match="score: it holds NaN; leave these answers out"):
        auroc(np.array([True, False]), np.array([0.5, np.nan]))


def test_a_score_that_is_only_length_knows_nothing_given_length() -> None:
    frame = joined(600)
    correct = np.random.default_rng(1).uniform(size=600) < 1 / frame["length"]
    frame = frame.assign(correct=correct, epistemic=frame["length"] ** 2)
    assert plain_auroc(frame, ["epistemic"], resamples=1)["auroc"].item() > 0.6
    for column in ("epistemic", "length"):
        found = given_length(frame, column)
        assert found.auroc == 0.5
        assert found.pairs > 0


def test_given_length_is_the_average_over_pairs_of_equal_length() -> None:
    frame = joined(80)
    rows = frame[["correct", "length", "epistemic"]].to_numpy(float)
    wins = [
        (one[2] < other[2]) + (one[2] == other[2]) / 2
        for one in rows
        for other in rows
        if one[0] > other[0] and one[1] == other[1]
    ]
    found = given_length(frame, "epistemic")
    assert found.auroc == pytest.approx(np.mean(wins), abs=1e-12)
    assert found.pairs == len(wins)


def test_equal_lengths_take_nothing_away_and_unequal_ones_everything() -> None:
    frame = joined(60)
    same = frame.assign(length=5)
    plain = plain_auroc(frame, ["p_true"], resamples=1)["auroc"].item()
    assert given_length(same, "p_true").auroc == pytest.approx(plain)
    found = given_length(frame.assign(length=range(60)), "p_true")
    assert np.isnan(found.auroc)
    assert found.pairs == 0


def test_strata_of_one_kind_have_no_pairs() -> None:
    correct, strata = np.array([True, True, False, True]), np.array([0, 0, 1, 1])
    assert stratified_auroc(correct, np.array([3.0, 2.0, 0.0, 1.0]), strata) == (1.0, 1)


def test_every_score_helps_in_the_direction_fixed_in_advance() -> None:
    found = plain_auroc(joined(1000, signal=2.0), resamples=20).set_index("score")
    informed = found.drop("length")
    assert (informed["auroc"] > 0.6).all()
    assert (informed["low"] <= informed["auroc"]).all()
    assert (informed["auroc"] <= informed["high"]).all()
    assert (found["n"] == 1000).all()
    assert {column for columns in METHODS.values() for column in columns} <= {
        *DIRECTION,
        "log_epistemic",
    }


def test_the_plain_direction_is_not_fitted() -> None:
    frame = joined(400, signal=2.0)
    negated = frame.assign(epistemic=-frame["epistemic"])
    one, other = (plain_auroc(f, ["epistemic"], resamples=1)["auroc"] for f in (frame, negated))
    assert one.item() + other.item() == pytest.approx(1)


def test_the_interval_covers_about_as_often_as_it_says() -> None:
    # scores N(1, 1) and N(0, 1): the true AUROC is Φ(1/√2)
    covered = 0
    for seed in range(40):
        random = np.random.default_rng(seed)
        frame = joined(80).assign(correct=[True, False] * 40)
        frame = frame.assign(epistemic=random.normal(size=80) - frame["correct"])
        found = plain_auroc(frame, ["epistemic"], resamples=100, seed=seed).iloc[0]
        covered += found["low"] <= 0.7602 <= found["high"]
    assert covered >= 33  # 95 % of 40, less three binomial standard errors


def test_one_kind_of_answers_has_no_auroc() -> None:
    found = plain_auroc(joined(30).assign(correct=True), resamples=5)
    assert found[["auroc", "low", "high"]].isna().all(axis=None)
    assert (found["correct"] == 30).all()


def test_a_score_of_unknown_direction_is_refused() -> None:
    with pytest.raises(ValueError, match="column: 'surprise' is none of p_true, "):
        given_length(joined(10).assign(surprise=1.0), "surprise")
