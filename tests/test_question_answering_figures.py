"""What the figures of §4.2 draw is what their tables hold, and no menu's entry mixes two runs."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from gnuq.display import figure_json
from gnuq.figures import question_answering as dots
from gnuq.figures import question_curves as drawn
from gnuq.qa import selective
from gnuq.qa.columns import DIRECTION
from gnuq.qa.discrimination import auroc, given_length
from gnuq.walkthrough import question_curves as curves
from tests.qa.joined import joined

RUNS = [("a", "truthfulqa"), ("a", "triviaqa"), ("b", "truthfulqa")]


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    parts = [joined(150, *run, signal=1.5 - i, seed=i) for i, run in enumerate(RUNS)]
    return pd.concat(parts, ignore_index=True)


def of(frame: pd.DataFrame, model: str, benchmark: str) -> pd.DataFrame:
    return frame[(frame["model"] == model) & (frame["benchmark"] == benchmark)]


def intervals() -> pd.DataFrame:
    """A value of its own for every run, method and series."""
    keys = [(*run, m, s) for run in RUNS for m in ("P(True)", "Length") for s in ("fit", "raw")]
    frame = pd.DataFrame(keys, columns=["model", "benchmark", "method", "series"])
    value = 0.4 + 0.02 * np.arange(len(frame))
    return frame.assign(value=value, low=value - 0.1, high=value + 0.05)


def test_every_entry_of_the_menu_moves_each_dot_to_its_own_run() -> None:
    frame = intervals()
    figure = dots.auroc_dots(frame, {"one": ["P(True)"], "other": ["Length"]})
    panels = [(b, s) for b in ("truthfulqa", "triviaqa") for s in ("fit", "raw")]
    for button in figure.layout.updatemenus[0].buttons:
        for (benchmark, series), x in zip(panels, button.args[0]["x"], strict=True):
            part = of(frame, button.label, benchmark)
            expected = part.loc[part["series"] == series, "value"].tolist() or [np.nan] * 2
            np.testing.assert_equal(x, expected)
    first = figure.layout.updatemenus[0].buttons[0].args[0]
    np.testing.assert_equal([trace.x for trace in figure.data], first["x"])
    np.testing.assert_allclose(figure.data[0].error_x.array, 0.05)
    np.testing.assert_allclose(figure.data[0].error_x.arrayminus, 0.1)


def test_a_heading_stands_above_its_methods_and_holds_no_dot() -> None:
    figure = dots.auroc_dots(intervals(), {"one": ["P(True)"], "other": ["Length"]})
    axis = figure.layout.yaxis
    named = dict(zip(axis.ticktext, axis.tickvals, strict=True))
    assert list(axis.ticktext) == ["<b>one</b>", "P(True)", "<b>other</b>", "Length"]
    assert np.round(figure.data[0].y).tolist() == [named["P(True)"], named["Length"]]


def test_the_two_menus_of_the_distributions_are_independent(table: pd.DataFrame) -> None:
    """One changes which run every trace shows and never what is visible, the other only that."""
    bins = curves.distributions(table)
    figure = dots.distributions(bins)
    moved, chosen = figure.layout.updatemenus
    assert {key for button in moved.buttons for key in button.args[0]} == {"x", "y", "name"}
    assert {key for button in chosen.buttons for key in button.args[0]} == {"visible"}
    for place, button in enumerate(chosen.buttons):
        assert np.flatnonzero(button.args[0]["visible"]).tolist() == [2 * place, 2 * place + 1]
        for other in moved.buttons:
            model, benchmark = other.label.split(", ")
            run = of(bins, model, {v: k for k, v in drawn.BENCHMARKS.items()}[benchmark])
            score = next(k for k, v in drawn.SCORES.items() if v[0] == button.label)
            part = run[(run["score"] == score) & run["correct"]]
            assert other.args[0]["y"][2 * place] == part["share"].tolist()


def test_shares_of_a_histogram_sum_to_one(table: pd.DataFrame) -> None:
    bins = curves.distributions(table)
    sums = bins.groupby(["model", "benchmark", "score", "correct"])["share"].sum()
    np.testing.assert_allclose(sums, 1, atol=0.002)  # rounded, bin by bin
    assert set(bins["score"]) == set(DIRECTION)


def test_the_area_under_a_drawn_roc_curve_is_the_auroc(table: pd.DataFrame) -> None:
    found = curves.roc(table)
    for (model, benchmark, score), part in found.groupby(["model", "benchmark", "score"]):
        run, x = of(table, str(model), str(benchmark)), part["suspected"].to_numpy()
        y = part["caught"].to_numpy()
        area = float((np.diff(x) * (y[1:] + y[:-1]) / 2).sum())
        told = -DIRECTION[str(score)] * run[str(score)].to_numpy()
        assert area == pytest.approx(auroc(run["correct"].to_numpy(), told), abs=0.02)
        assert (part["auroc"] == part["auroc"].iloc[0]).all()
    assert len(found) <= curves.POINTS * len(curves.CURVES) * len(RUNS)


def test_a_legend_names_each_runs_own_auroc(table: pd.DataFrame) -> None:
    found = curves.roc(table)
    for button in drawn.roc(found).layout.updatemenus[0].buttons:
        model, benchmark = button.label.split(", ")
        part = of(found, model, {v: k for k, v in drawn.BENCHMARKS.items()}[benchmark])
        shown = dict(name.rsplit(": ", 1) for name in button.args[0]["name"])
        areas = part.groupby("score")["auroc"].first()
        assert shown == {drawn.SCORES[k][0]: f"{v:.2f}" for k, v in areas.items()}


def test_a_run_without_a_wrong_answer_has_no_roc_curve(table: pd.DataFrame) -> None:
    all_right = table.assign(correct=table["correct"] | (table["model"] == "b"))
    assert set(curves.roc(all_right)["model"]) == {"a"}


def test_risk_ends_at_the_error_rate_and_no_score_beats_the_labels(table: pd.DataFrame) -> None:
    found = curves.coverage(table)
    for (model, benchmark), part in found.groupby(["model", "benchmark"]):
        wrong = 1 - of(table, str(model), str(benchmark))["correct"].mean()
        ends = part[part["coverage"] == 1]
        np.testing.assert_allclose(ends["risk"], wrong, atol=1e-4)
        wide = part.pivot_table("risk", "coverage", "score")
        assert (wide.min(axis=1) >= wide["oracle"] - 1e-9).all()


def test_reliability_draws_the_share_and_its_interval(table: pd.DataFrame) -> None:
    bins = curves.reliabilities(table)
    first = of(bins, *RUNS[0])
    figure = drawn.reliability(bins)
    assert [trace.name for trace in figure.data] == list(drawn.FITS)
    for trace in figure.data:
        part = first[first["fit"] == trace.name]
        np.testing.assert_allclose(trace.x, part["predicted"])
        np.testing.assert_allclose(np.add(trace.y, trace.error_y.array), part["high"])
        np.testing.assert_allclose(np.subtract(trace.y, trace.error_y.arrayminus), part["low"])
    own = of(table, *RUNS[0])
    raw = selective.reliability(own["correct"].to_numpy(), own["p_true"].to_numpy())
    stands = first[first["fit"] == "P(True), as it stands"]
    np.testing.assert_allclose(stands["observed"], raw["observed"])


def test_equal_length_counts_the_pairs_that_the_stratified_auroc_counts(
    table: pd.DataFrame,
) -> None:
    found = curves.within_length(table, resamples=50)
    for row in found.itertuples():
        expected = given_length(of(table, row.model, row.benchmark), row.score)
        assert (row.value, row.pairs) == (pytest.approx(expected.auroc), expected.pairs)
        assert row.low <= row.value <= row.high or row.score == "length"
    length = found[found["score"] == "length"]
    np.testing.assert_array_equal(length[["value", "low", "high"]], 0.5)


def test_without_a_pair_of_equal_length_nothing_is_claimed(table: pd.DataFrame) -> None:
    alone = table.assign(length=np.arange(len(table)))
    found = curves.within_length(alone, resamples=5)
    assert found[["value", "low", "high"]].isna().all(axis=None)
    assert (found["pairs"] == 0).all()


def test_the_pages_figures_are_light(table: pd.DataFrame) -> None:
    """Three runs of ten scores stay below a hundred kilobytes a figure."""
    figures = [
        dots.distributions(curves.distributions(table)),
        drawn.roc(curves.roc(table)),
        drawn.risk_coverage(curves.coverage(table)),
    ]
    assert max(len(figure_json(figure)) for figure in figures) < 100_000
