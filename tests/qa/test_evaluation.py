"""Fitted methods: known answers, invariances, and what cannot be evaluated."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from gnuq.qa.columns import features
from gnuq.qa.discrimination import auroc
from gnuq.qa.evaluation import (
    BASELINES,
    GRADIENT,
    METHODS,
    PLAIN,
    averaged,
    bootstrap,
    classifier,
    for_each,
    held_out,
    splits,
    summary,
)
from tests.qa.joined import joined

FEW = {"Epistemic": ("epistemic",), "Epi. & alea.": ("epistemic", "aleatoric")}


def both(frame: pd.DataFrame, methods: dict[str, tuple[str, ...]]) -> np.ndarray:
    """AUROCs of some bootstrap runs and splits."""
    runs = bootstrap(frame, methods, runs=6), splits(frame, methods, count=4)
    return np.concatenate([part["auroc"].to_numpy() for part in runs])


def test_a_score_that_is_the_label_gives_one() -> None:
    frame = joined()
    frame = frame.assign(epistemic=frame["correct"].astype(float))
    np.testing.assert_array_equal(both(frame, {"Epistemic": ("epistemic",)}), 1.0)


def test_shuffled_labels_give_one_half() -> None:
    frame = joined(2000)
    random = np.random.default_rng(1)
    frame = frame.assign(correct=random.permutation(frame["correct"]))
    found = summary(bootstrap(frame, FEW, runs=20), frame)
    right = frame["correct"].sum()
    # of an AUROC from about a third of the answers, whose sign the fit may choose
    error = np.sqrt(3 * 2001 / (12 * right * (2000 - right)))
    np.testing.assert_allclose(found["mean"], 0.5, atol=3 * error)


def test_the_signal_that_made_the_labels_is_found() -> None:
    frame = joined(3000, signal=2.0)
    found = summary(bootstrap(frame, FEW, runs=10), frame).set_index("method")
    assert found.loc["Epistemic", "mean"] > 0.65
    assert found.loc["Epi. & alea.", "mean"] > found.loc["Epistemic", "mean"]


@pytest.mark.parametrize("change", [np.log, np.sqrt, np.negative, lambda x: -1 / x])
def test_monotone_transformations_leave_methods_of_one_feature_unchanged(
    change: Callable[[pd.Series], pd.Series],
) -> None:
    frame, one = joined(signal=2.0), {"Epistemic": ("epistemic",)}
    changed = frame.assign(epistemic=change(frame["epistemic"]))
    np.testing.assert_array_equal(both(changed, one), both(frame, one))


def test_scales_and_signs_of_features_do_not_matter_to_a_method_of_two() -> None:
    frame = joined(signal=2.0)
    changed = frame.assign(epistemic=-1e6 * frame["epistemic"], aleatoric=frame["aleatoric"] * 1e-6)
    np.testing.assert_allclose(both(changed, FEW), both(frame, FEW), atol=1e-3)


@pytest.mark.parametrize("seed", range(5))
def test_with_one_feature_the_direction_is_the_logistic_regressions(seed: int) -> None:
    frame = joined(60, signal=0.2, seed=seed)
    x, correct = frame[["epistemic"]].to_numpy(), frame["correct"].to_numpy()
    fitted = classifier().fit(x[:40], correct[:40])
    expected = auroc(correct[40:], fitted.decision_function(x[40:]))
    assert held_out(x[:40], correct[:40], x[40:], correct[40:]) == expected


def test_a_logarithm_is_a_feature_of_its_own() -> None:
    frame = joined()
    named = both(frame, {"log": ("log_epistemic", "aleatoric")})
    by_hand = frame.assign(epistemic=np.log(frame["epistemic"]))
    np.testing.assert_array_equal(named, both(by_hand, {"log": ("epistemic", "aleatoric")}))


def test_a_norm_of_nought_ranks_lowest_in_the_logarithm_too() -> None:
    frame = pd.DataFrame({"epistemic": [0.0, np.e, 1.0, 0.0]})
    np.testing.assert_allclose(features(frame, ["log_epistemic"])[:, 0], [0, 1, 0, 0])


def test_every_method_sees_the_same_resamples_and_a_seed_repeats_them() -> None:
    frame = joined(100)
    twice = {"one": ("epistemic",), "same": ("epistemic",)}
    for evaluate in (bootstrap, splits):
        found = evaluate(frame, twice, 5)
        wide = found.pivot_table("auroc", found.columns[1], "method")
        np.testing.assert_array_equal(wide["one"], wide["same"])
        pd.testing.assert_frame_equal(found, evaluate(frame, twice, 5))
        assert not found.equals(evaluate(frame, twice, 5, seed=1))


def test_an_answer_that_was_trained_on_is_not_tested_on(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(
        "gnuq.qa.evaluation.held_out",
        lambda x, _, x_test, __: seen.append((x[:, 0].tolist(), x_test[:, 0].tolist())) or 0.5,
    )
    frame = joined(40).assign(length=range(40))
    bootstrap(frame, {"Length": ("length",)}, runs=5)
    splits(frame, {"Length": ("length",)}, count=5)
    for i, (train, test) in enumerate(seen):
        assert {*train} | {*test} == {*range(40)}
        assert not {*train} & {*test}
        assert (len(train), len(test) == 8) == (40 if i < 5 else 32, i >= 5)


def test_splits_keep_the_share_of_correct_answers() -> None:
    frame = joined(100)
    frame = frame.assign(correct=np.arange(100) < 5)
    assert splits(frame, FEW)["auroc"].notna().all()


@pytest.mark.parametrize("value", [True, False])
def test_one_kind_of_answers_gives_nan_and_counts(value: bool) -> None:
    frame = joined(50).assign(correct=value)
    for runs in (bootstrap(frame, runs=3), splits(frame, count=3)):
        assert len(runs) == 3 * len(METHODS)
        assert runs["auroc"].isna().all()
        found = summary(runs, frame)
        assert found[["mean", "deviation", "low", "high"]].isna().all(axis=None)
        assert (found[["defined", "n", "correct"]] == [0, 50, 50 * value]).all(axis=None)


def test_very_few_answers_give_what_can_be_had() -> None:
    frame = joined(4).assign(correct=[True, True, False, False])
    assert splits(frame, FEW)["auroc"].isna().all()
    assert len(bootstrap(frame, FEW, runs=5)) == 10


def test_the_summary_is_that_of_the_runs() -> None:
    frame = joined(10)
    runs = pd.DataFrame({"method": "m", "run": range(101), "auroc": np.linspace(0, 1, 101)})
    found = summary(runs, frame).iloc[0]
    expected = [0.5, runs["auroc"].std(), 0.025, 0.975, 101]
    np.testing.assert_allclose(
        found[["mean", "deviation", "low", "high", "defined"]].to_numpy(float), expected
    )


def test_averages_weigh_models_alike_and_their_spread_is_told() -> None:
    rows = [("a", 0, 0.6), ("a", 1, 0.8), ("b", 0, 0.5), ("b", 1, np.nan), ("c", 0, np.nan)]
    runs = pd.DataFrame(rows, columns=["model", "run", "auroc"])
    found = averaged(runs.assign(benchmark="t", method="m")).iloc[0]
    assert found["mean"] == pytest.approx(0.6)
    assert found["between"] == pytest.approx(np.std([0.7, 0.5], ddof=1))
    assert found["models"] == 2


def test_each_model_and_benchmark_is_evaluated_alone() -> None:
    parts = [joined(60, model=m, seed=i) for i, m in enumerate("ab")]
    found = for_each(pd.concat(parts), lambda part: bootstrap(part, FEW, runs=2))
    assert list(found.columns) == ["model", "benchmark", "method", "run", "auroc"]
    alone = bootstrap(parts[1], FEW, runs=2)["auroc"]
    np.testing.assert_array_equal(found.loc[found["model"] == "b", "auroc"], alone)


def test_the_named_methods_exist() -> None:
    assert {*GRADIENT, *BASELINES, *PLAIN} <= set(METHODS)


def test_what_cannot_be_evaluated_says_what_to_do() -> None:
    frame = joined(20)
    with pytest.raises(ValueError, match=r"no column 'p_true'; join .* leave out the methods"):
        bootstrap(frame.drop(columns="p_true"))
    with pytest.raises(ValueError, match="no column 'correct'"):
        splits(frame.drop(columns="correct"))
    with pytest.raises(ValueError, match="several in 'model'; use for_each"):
        bootstrap(pd.concat([frame, frame.assign(model="other")]))
    with pytest.raises(ValueError, match="'epistemic' is not finite in 1 rows; leave them out"):
        splits(frame.assign(epistemic=[np.nan, *range(19)]), FEW)
    with pytest.raises(ValueError, match="'log_epistemic' is not finite in 1 rows"):
        bootstrap(frame.assign(epistemic=[-1, *range(19)]), {"log": ("log_epistemic",)})
    undecided = pd.array([None, *[True] * 19], dtype="boolean")
    with pytest.raises(ValueError, match="leave undecided answers out"):
        bootstrap(frame.assign(correct=undecided))
    with pytest.raises(ValueError, match="it has no rows"):
        bootstrap(frame.head(0))


def test_a_resample_that_leaves_nothing_out_has_no_auroc():
    x, correct = np.zeros((4, 2)), np.array([True, False, True, False])
    assert np.isnan(held_out(x, correct, x[:0], correct[:0]))
    assert np.isnan(held_out(x, correct, x[:1], correct[:1]))
