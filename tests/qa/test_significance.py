"""Tests of differences: against hand-written procedures and simulated nulls."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t, ttest_1samp

from gnuq.qa.significance import correlation_with_p_true, lift, paired_tests
from tests.qa.joined import joined

PAPER = ("Aleatoric", "Epistemic", "Epi. & alea.", "Naive entropy", "Semantic entropy", "P(True)")


def made(
    gains: dict[str, float] | None = None,
    benchmarks: str = "xy",
    seed: int = 0,
) -> pd.DataFrame:
    """AUROCs of ten splits: each model and split its own level, plus a gain and noise."""
    random = np.random.default_rng(seed)
    rows = []
    for benchmark in benchmarks:
        for model in "abc":
            for split in range(10):
                level = 0.6 + 0.05 * random.normal()
                for method in PAPER:
                    value = level + (gains or {}).get(method, 0.0) + 0.01 * random.normal()
                    rows.append((model, benchmark, method, split, value))
    return pd.DataFrame(rows, columns=["model", "benchmark", "method", "split", "auroc"])


def by_hand(p: np.ndarray) -> np.ndarray:
    """Benjamini and Hochberg's step-up procedure as adjusted p-values."""
    order, m = np.argsort(p), len(p)
    adjusted, least = np.empty(m), 1.0
    for rank in range(m, 0, -1):
        least = min(least, p[order[rank - 1]] * m / rank)
        adjusted[order[rank - 1]] = least
    return adjusted


def test_the_papers_tests_are_eighteen_and_adjusted_as_one_family() -> None:
    found = paired_tests(made({"Epi. & alea.": 0.01, "P(True)": -0.005}))
    assert len(found) == 18
    for plain, adjusted in (("p", "adjusted"), ("p_corrected", "adjusted_corrected")):
        np.testing.assert_allclose(found[adjusted], by_hand(found[plain].to_numpy()))
        assert (found[adjusted] >= found[plain]).all()


def test_it_is_the_t_test_of_differences_averaged_over_models() -> None:
    table = made()
    wide = table[table["benchmark"] == "x"].pivot_table("auroc", ["split", "model"], "method")
    differences = (wide["Aleatoric"] - wide["P(True)"]).groupby("split").mean()
    found = paired_tests(table, ours=("Aleatoric",), baselines=("P(True)",)).iloc[0]
    expected = ttest_1samp(differences, 0)
    np.testing.assert_allclose(found[["t", "p"]].to_numpy(float), [*expected])
    assert found["difference"] == pytest.approx(differences.mean())
    assert (found["models"], found["splits"]) == (3, 10)


def test_directions_and_levels() -> None:
    found = paired_tests(made({"Aleatoric": 0.05, "Epistemic": -0.05}), baselines=("P(True)",))
    by_method = found.groupby("method")["direction"].unique()
    assert list(by_method["Aleatoric"]) == ["better"]
    assert list(by_method["Epistemic"]) == ["worse"]
    assert (found.loc[found["method"] != "Epi. & alea.", "adjusted_corrected"] < 0.001).all()


def test_the_corrected_test_is_the_more_careful_by_a_known_factor() -> None:
    found = paired_tests(made({"Aleatoric": 0.003}))
    assert (found["p_corrected"] > found["p"]).all()
    # ten splits, a fifth tested on: the variance grows by 1 + 10 / 4
    once = paired_tests(made({"Aleatoric": 0.003}), test=0.0)
    np.testing.assert_allclose(once["p_corrected"], once["p"])
    np.testing.assert_allclose(found["p_corrected"], 2 * t.sf(abs(found["t"]) / np.sqrt(3.5), 9))


def test_equal_methods_have_no_test_and_leave_the_family() -> None:
    table = made(benchmarks="x")
    copied = table[table["method"] == "P(True)"].assign(method="Aleatoric")
    table = pd.concat([table[table["method"] != "Aleatoric"], copied])
    found = paired_tests(table, ours=("Aleatoric", "Epistemic"), baselines=("P(True)",))
    assert found["direction"].tolist()[0] == "equal"
    assert np.isnan(found["adjusted"][0])
    assert found["adjusted"][1] == found["p"][1]


def test_a_model_without_an_auroc_does_not_enter_the_average() -> None:
    table = made(benchmarks="x")
    undefined = table.assign(auroc=table["auroc"].where(table["model"] != "c"))
    expected = paired_tests(table[table["model"] != "c"])
    pd.testing.assert_frame_equal(paired_tests(undefined), expected)
    nothing = paired_tests(table.assign(auroc=np.nan))
    assert nothing[["difference", "p", "adjusted"]].isna().all(axis=None)
    assert (nothing["direction"] == "undefined").all()
    assert (nothing["splits"] == 0).all()


def test_a_lift_is_found_with_an_interval_around_the_mean() -> None:
    found = lift(made({"Epi. & alea.": 0.02}), resamples=2000).set_index("benchmark").loc["x"]
    assert found["low"] < found["difference"] < found["high"]
    assert found["difference"] == pytest.approx(0.02, abs=0.01)
    assert found["p"] == pytest.approx(2 / 2001)
    assert (found["pairs"], found["models"], found["models_better"]) == (30, 3, 3)
    worse = lift(made({"Epi. & alea.": -0.02}), resamples=2000).iloc[0]
    assert worse["high"] < 0
    assert worse["models_better"] == 0


def test_without_a_lift_small_p_values_are_rare() -> None:
    p = [lift(made(benchmarks="x", seed=s), resamples=300)["p"].item() for s in range(60)]
    assert np.mean(np.array(p) < 0.05) < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 60)


def test_a_constant_difference_is_certain_and_a_copy_adds_nothing() -> None:
    table = made(benchmarks="x")
    own = table[table["method"] == "P(True)"]
    table = pd.concat([own.assign(method="Aleatoric"), own.assign(method="Epi. & alea.")])
    found = lift(table, resamples=100).iloc[0]
    assert (found["difference"], found["low"], found["high"], found["p"]) == (0, 0, 0, 1)
    nothing = lift(table.assign(auroc=np.nan), resamples=100).iloc[0]
    assert np.isnan(nothing[["difference", "low", "high", "p"]].to_numpy(float)).all()


def test_scales_of_models_make_a_correlation_that_ranks_within_them_do_not() -> None:
    random = np.random.default_rng(0)
    parts = []
    for i, model in enumerate("abcd"):
        part = joined(200, model=model)
        noise = random.normal(size=(200, 2))
        p_true = 1 / (1 + np.exp(2 * i - noise[:, 0]))
        parts.append(part.assign(p_true=p_true, epistemic=100.0**i * np.exp(noise[:, 1])))
    found = correlation_with_p_true(pd.concat(parts)).set_index("model")
    assert found.loc["Pooled", "rho"] < -0.7
    assert abs(found.loc["Pooled, ranks within models", "rho"]) < 3 / np.sqrt(800)
    assert found["n"].tolist() == [200] * 4 + [800] * 2
    np.testing.assert_allclose(found["shared"], found["rho"] ** 2)


def test_of_one_model_all_three_correlations_are_the_same() -> None:
    found = correlation_with_p_true(joined(100))
    assert (found["rho"] == found["rho"][0]).all()
    assert found["rho"][0] < 0
    assert (found["low"] < found["rho"]).all()
    assert (found["rho"] < found["high"]).all()


def test_the_interval_of_rho_covers_about_as_often_as_it_says() -> None:
    # a Gaussian copula of correlation r has Spearman's ρ = (6/π) arcsin(r/2)
    truth, covered, count = -6 / np.pi * np.arcsin(0.3), 0, 80
    for seed in range(count):
        z = np.random.default_rng(seed).multivariate_normal([0, 0], [[1, -0.6], [-0.6, 1]], 100)
        frame = joined(100).assign(epistemic=z[:, 0], p_true=z[:, 1])
        row = correlation_with_p_true(frame).iloc[0]
        covered += row["low"] <= truth <= row["high"]
    assert covered >= count * 0.95 - 3 * np.sqrt(count * 0.95 * 0.05)


def test_constant_or_few_values_have_no_correlation() -> None:
    for frame in (joined(20).assign(p_true=0.5), joined(3)):
        found = correlation_with_p_true(frame)
        assert found[["rho", "p", "low", "high", "shared"]].isna().all(axis=None)


def test_perfect_correlations_have_an_interval_of_one_point() -> None:
    frame = joined(20)
    found = correlation_with_p_true(frame.assign(p_true=-frame["epistemic"]))
    np.testing.assert_allclose(found[["rho", "low", "high"]], -1)


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="splits: no method 'P\\(True\\)'; give it to `splits`"):
        paired_tests(made().query("method != 'P(True)'"))
    with pytest.raises(ValueError, match="no column 'split'"):
        lift(made().drop(columns="split"))
    with pytest.raises(ValueError, match="no column 'p_true'"):
        correlation_with_p_true(joined(10).drop(columns="p_true"))
