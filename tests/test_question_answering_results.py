"""The tables of §4.2 and Appendix G: what they must say of answers whose truth is known."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from gnuq import artefacts
from gnuq.artefacts import Origin, files
from gnuq.language_models import load
from gnuq.qa import evaluation, study
from gnuq.qa.columns import DIRECTION
from gnuq.qa.discrimination import plain_auroc
from gnuq.qa.equivalence import Similarity
from gnuq.qa.settings import Run
from gnuq.results import answer_tables, judging, resampled_tests
from gnuq.results import question_answering as answering
from gnuq.walkthrough import answer_protocol, appendix_g
from tests.qa.conftest import model  # noqa: F401  (fixture)
from tests.qa.joined import joined

SMALL, COPY, OTHER = "smollm2-135m", "smollm2-135m-nf4", "gemma-3-270m"
BENCHMARKS = ("truthfulqa", "triviaqa")
bootstrap = evaluation.bootstrap


def several(models: tuple[str, ...] = (SMALL, COPY, OTHER), count: int = 120) -> pd.DataFrame:
    """A joined table of several models on both benchmarks, each norm on a scale of its own."""
    parts = [
        joined(count, name, benchmark, signal=2.0, seed=10 * i + j).assign(
            epistemic=lambda t, i=i: t["epistemic"] * 10.0**i
        )
        for i, name in enumerate(models)
        for j, benchmark in enumerate(BENCHMARKS)
    ]
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(autouse=True)
def _few_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test here asks how narrow an interval is."""
    monkeypatch.setattr(evaluation, "bootstrap", lambda part: bootstrap(part, runs=4))
    monkeypatch.setattr(answering, "plain_auroc", partial(plain_auroc, resamples=4))


def test_a_model_and_its_quantised_copy_are_not_two_models() -> None:
    assert SMALL in answering.SEPARATE
    assert COPY not in answering.SEPARATE
    assert set(answering.SEPARATE) < set(study.MODELS)
    table = several(count=40)
    table = table[table["benchmark"] == "triviaqa"]
    without = table[table["model"] != COPY]
    for name in ("table-2", "table-13", "table-14", "qa-lift"):
        made = answering.TABLES[name]
        pd.testing.assert_frame_equal(made(table), made(without))


@pytest.mark.parametrize("name", sorted(answering.TABLES))
def test_a_table_depends_on_the_answers_only(name: str) -> None:
    """Not on the row labels, nor on what was computed before."""
    table = several((SMALL, OTHER), 40)
    table = table[table["benchmark"] == "triviaqa"]
    first = answering.TABLES[name](table)
    again = answering.TABLES[name](table.set_axis(range(7, 7 + len(table))))
    pd.testing.assert_frame_equal(first, again)
    assert len(first)


def test_labels_as_scores_reach_one_and_table_2_is_the_mean_of_table_11() -> None:
    table = several((SMALL, OTHER))
    table["p_true"] = table["correct"].astype(float)
    each, mean = answering.aurocs(table), answering.averages(table)
    assert (each.loc[each["method"] == "P(True)", "mean"] == 1).all()
    expected = each.groupby(["benchmark", "method"], sort=False)["mean"].mean()
    found = mean.set_index(["benchmark", "method"])
    np.testing.assert_allclose(found["mean"], expected.loc[found.index])
    counts = table.groupby("benchmark")["correct"].agg(["size", "sum"])
    for name, row in mean.groupby("benchmark")[["n", "correct"]].first().iterrows():
        assert row.tolist() == counts.loc[name].tolist()


def test_the_further_tests_are_a_family_of_their_own() -> None:
    found = answering.tests(several((SMALL, OTHER)))
    sizes = found["family"].value_counts()
    assert sizes["paper"] == 18
    assert sizes["further"] == 2 * 4 * 4
    alone = found[found["family"] == "paper"]
    assert (alone["adjusted"] <= 18 * alone["p"] + 1e-12).all()
    assert set(alone["baseline"]) == set(evaluation.BASELINES)


def test_copies_transfer_among_themselves_and_models_among_themselves() -> None:
    found = answering.transfers(several())
    held = found.groupby("among")["held_out"].unique().map(set).to_dict()
    assert held == {"models": {SMALL, OTHER}, "copies": {SMALL, COPY}}
    counts = found.groupby(["among", "benchmark", "held_out"])[["n", "trained"]].first()
    assert (counts == 120).all(axis=None)
    only = answering.transfers(several((SMALL, COPY)))
    assert set(only["among"]) == {"copies"}
    with pytest.raises(ValueError, match="one model on each benchmark; leaving one out takes two"):
        answering.transfers(several((SMALL,)))


def test_one_feature_passes_on_a_direction() -> None:
    """G.9's normalisation of a single feature is arithmetic: own AUROC, or one minus it."""
    table = several()
    plain = answering.without_labels(table)
    fates = appendix_g.fate_of_single_features(answering.transfers(table), plain)
    assert set(fates["fate"]) <= {"as it is", "turned around"}
    assert (fates.loc[fates["variant"] == "Ranks", "fate"] == "as it is").all()
    same = fates["fate"] == "as it is"
    np.testing.assert_allclose(fates["auroc"].where(same, 1 - fates["auroc"]), fates["own"])
    wrong = plain.assign(auroc=plain["auroc"] + 0.01)
    told = appendix_g.fate_of_single_features(answering.transfers(table), wrong)
    assert set(told["fate"]) == {"other"}


def test_where_all_answers_are_of_one_kind_nothing_is_claimed() -> None:
    table = several((SMALL,))
    table.loc[table["benchmark"] == "triviaqa", "correct"] = False
    for name, column in (("table-11", "mean"), ("qa-plain", "auroc"), ("qa-selective", "brier")):
        found = answering.TABLES[name](table)
        one = found["benchmark"] == "triviaqa"
        assert found.loc[one, column].isna().all(), name
        assert found.loc[~one, column].notna().all(), name
        assert (found.loc[one, "n"] == 120).all(), name


def test_coverage_ends_at_the_error_rate() -> None:
    table = several((SMALL,))
    found = answering.coverage(table, ("epistemic", "p_true"))
    last = found.groupby(["benchmark", "score"])["risk"].last()
    expected = 1 - table.groupby("benchmark")["correct"].mean()
    for (benchmark, _), risk in last.items():
        assert risk == pytest.approx(expected[benchmark])


def test_the_paired_test_rejects_a_true_null_too_often_and_the_corrected_one_hardly() -> None:
    found = resampled_tests.qa_null(repeats=25).set_index("test")
    plain, corrected = found.loc[list(resampled_tests.TESTS.values()), "rejected"]
    assert plain > corrected
    assert plain > resampled_tests.LEVEL
    assert resampled_tests.qa_null(repeats=2).equals(resampled_tests.qa_null(repeats=2))


# Verdicts by hand

HEAD = "model,benchmark,id,use,correct\n"


def checked(table: pd.DataFrame, count: int = 30) -> pd.DataFrame:
    """The first answers of each benchmark, with the records' own verdicts."""
    parts = table.groupby("benchmark", sort=False).head(count)
    found = parts[[*judging.KEYS, "correct"]].astype({"correct": "boolean"})
    return found.assign(use="check").reset_index(drop=True)


def test_a_judge_agrees_with_itself_and_not_with_its_opposite() -> None:
    table = several((SMALL,))
    hand = checked(table)
    same = judging.agreements(table, hand).set_index("benchmark")
    assert list(same.index) == [*BENCHMARKS, judging.ALL]
    assert (same["accuracy"] == 1).all()
    assert same.loc[judging.ALL, "n"] == len(hand)
    other = judging.agreements(table, hand.assign(correct=~hand["correct"]))
    assert (other["accuracy"] == 0).all()
    assert (other["judge_only"] + other["hand_only"] == other["n"]).all()


def test_the_same_id_of_two_models_is_two_answers() -> None:
    table = several((SMALL, OTHER))
    table["correct"] = table["model"] == SMALL
    hand = pd.concat([checked(table[table["model"] == name], 5) for name in (SMALL, OTHER)])
    found = judging.agreements(table, hand).set_index("benchmark").loc[judging.ALL]
    assert (found["n"], found["both_correct"], found["both_wrong"]) == (20, 10, 10)


def test_an_answer_in_no_record_is_named() -> None:
    table = several((SMALL,))
    hand = checked(table, 3)
    hand.loc[1, "id"] = "q999"
    with pytest.raises(ValueError, match=f"{SMALL}/truthfulqa/q999 is in no record"):
        judging.agreements(table, hand)


def test_under_either_verdict_a_score_is_measured_on_the_same_answers() -> None:
    table = several((SMALL,))
    hand = checked(table)
    hand.loc[0, "correct"] = pd.NA
    turned = judging.scores_by_hand(table, hand.assign(correct=~hand["correct"]))
    wide = turned.pivot_table("auroc", ["benchmark", "score"], "verdicts")
    np.testing.assert_allclose(wide["by hand"], 1 - wide["the judge's"])
    assert set(turned["n"]) == {29, 30}
    shown = answer_tables.by_verdict(turned)
    assert shown.index[0] == "correct"
    assert shown.shape == (1 + len(DIRECTION), 4)


def test_the_file_of_verdicts_is_read_as_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "hand.csv"
    path.write_text(f"{HEAD}m,b,007,check,true\nm,b,8,threshold,False\nm,b,9,check,\n")
    found = judging.by_hand(path)
    assert found["id"].tolist() == ["007", "8", "9"]
    assert found["correct"].tolist() == [True, False, pd.NA]
    assert found["use"].tolist() == ["check", "threshold", "check"]


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("model,benchmark,id,use\nm,b,1,check\n", "no column 'correct'"),
        ("model,benchmark,id,correct\nm,b,1,true\n", "no column 'use'"),
        (f"{HEAD}m,b,1,check,maybe\n", "'maybe' is no verdict; write true or"),
        (f"{HEAD}m,b,1,test,true\n", "'test' is no use; write threshold or check"),
        (f"{HEAD}m,b,1,check,true\nm,b,1,check,true\n", "m/b/1 stands there twice"),
    ],
)
def test_a_wrong_file_of_verdicts_is_refused(content: str, match: str, tmp_path: Path) -> None:
    path = tmp_path / "hand.csv"
    path.write_text(content)
    with pytest.raises(ValueError, match=match):
        judging.by_hand(path)


def test_a_missing_file_of_verdicts_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no verdicts by hand; restore the file from git"):
        judging.by_hand(tmp_path / "none.csv")


# Readable tables, and the chapter's numbers


@cache
def made_once() -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    """A joined table and the results that the chapter reads of it."""
    table = several(count=60)
    used = [name for name in answering.TABLES if name != "qa-selective"]
    return table, {name: answering.TABLES[name](table) for name in used}


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pd.DataFrame:
    """Every artefact that the chapter reads, made from a joined table."""
    (table, tables), origin = made_once(), Origin(code="test")
    monkeypatch.setattr(files, "DATA", tmp_path)
    pairs = tuple((name, benchmark) for name in table["model"].unique() for benchmark in BENCHMARKS)
    monkeypatch.setattr(study, "FINISHED", pairs)
    made = dict(tables)
    fates = {"evaluated": 60, "the judge is undecided": 3, "it demonstrates P(True)": 10}
    told = [(*pair, reason, n) for pair in pairs for reason, n in fates.items()]
    columns = ["model", "benchmark", "reason", "questions"]
    made[answering.DROPPED] = pd.DataFrame(told, columns=columns)
    made["qa-null"] = resampled_tests.qa_null(repeats=2)
    timed = benchmark_script().summarised([TIMES, TIMES], 5)
    made |= {"table-12": timed.assign(model=SMALL), "table-12-gpu": timed.assign(model=OTHER)}
    for name, frame in made.items():
        where = replace(origin, device="a GPU" if name.endswith("-gpu") else "cpu")
        artefacts.save("results", name, frame, origin=where, seconds=1.0)
    for pair in pairs:
        part = table[(table["model"] == pair[0]) & (table["benchmark"] == pair[1])]
        frame = part[["id", "correct"]].astype({"correct": "boolean"})
        name = study.record(*pair, "judged")
        artefacts.save("records", name, frame, origin=origin, seconds=1.0)
    monkeypatch.setattr(judging, "BY_HAND", tmp_path / "hand.csv")
    checked(table).to_csv(tmp_path / "hand.csv", index=False)
    return table


METHODS = (
    "gradient norm",
    "forward pass",
    "naive entropy",
    "semantic entropy",
    "P(True) alone",
    "P(True)",
)
TIMES = dict(zip(METHODS, (1.0, 0.5, 2.0, 2.5, 1.5, 3.5), strict=True))


def benchmark_script() -> Any:
    """The timing script, by its path: another package installs `benchmarks` too."""
    path = artefacts.ROOT / "benchmarks" / "qa.py"
    spec = importlib.util.spec_from_file_location("benchmarks_qa", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_chapter_has_every_number_that_it_names(recorded: pd.DataFrame) -> None:
    found = appendix_g.values()
    assert found["hand_n"] == "60"
    assert found["hand_both"] == "100% (94% to 100%)"
    assert found["tests"] == "18"
    assert found["stated"] == "14"
    assert found["models_other"] == found["copies_other"] == "0"
    assert found["cost_P(True)"] == found["gpu_P(True)"] == "3.5"
    assert (found["cost_model"], found["gpu_model"]) == (SMALL, OTHER)
    assert found["gpu_machine"] == "a GPU"
    assert "cores" in found["cost_machine"]
    assert found["separate_names"] == f"{SMALL}, {OTHER}"
    assert found["asked"] == "438"
    assert not [name for name, text in found.items() if "nan" in text]


def test_readable_tables_lose_no_row(recorded: pd.DataFrame) -> None:
    account = answer_tables.account(appendix_g.saved(answering.DROPPED))
    assert (account.xs("asked in all", level="fate") == 73).all(axis=None)
    assert account.index[0] == ("TruthfulQA", "evaluated")
    each = answer_tables.per_model(appendix_g.saved("table-11"))
    assert each.shape == (2 * (len(evaluation.METHODS) + 1), 3)
    assert each.index.get_level_values(0).tolist()[0] == "TruthfulQA"
    assert not (each == answer_tables.MISSING).any(axis=None)
    tests = answer_tables.significance(appendix_g.saved("table-13"))
    assert tests["the paper"].value_counts().to_dict() == {"↑": 7, "↓": 4, "–": 4, "=": 3}
    copies = answer_tables.transfers(
        appendix_g.saved("table-15"), answer_tables.PAPER_VARIANTS, among="copies"
    )
    assert copies.index.get_level_values(1).tolist() == 2 * [SMALL, COPY, "mean (deviation)"]
    models = answer_protocol.models()
    assert list(models.loc["here"].index) == [SMALL, COPY, OTHER]
    assert set(models.loc["the paper"].index) == set(study.PAPER)


def test_before_there_are_two_models_the_table_is_empty() -> None:
    found = answer_tables.transfers(answering.transfers(several((SMALL, COPY))), ("Raw",))
    assert len(found) == 0


def test_arrows_and_probabilities() -> None:
    assert answer_tables.verdict("better", 0.01) == "↑"
    assert answer_tables.verdict("worse", 0.01) == "↓"
    assert answer_tables.verdict("worse", 0.2) == "="
    assert answer_tables.verdict("undefined", np.nan) == answer_tables.MISSING
    assert answer_tables.probability(1e-9) == "< 0.001"
    assert answer_tables.interval(np.nan, 0, 1) == answer_tables.MISSING
    assert answer_tables.stated("truthfulqa", "Epistemic", "Naive entropy") == "↑"


def test_the_timing_script_times_every_method(model: str) -> None:  # noqa: F811
    """Never how long: that what is timed runs, and that sums are sums."""
    script = benchmark_script()
    before = torch.get_num_threads()
    loaded = load(model, dtype="float64", device="cpu")
    run = Run(model, "words")
    same = Similarity(lambda texts: np.full((len(texts), 2), 0.5**0.5))
    own = SimpleNamespace(loaded=loaded, run=run, same=same)
    asked = {
        "questions": ["Which moon?", "Which sea?", "Which sun?"],
        "prompts": [(1, 2, 3), (1, 2, 4, 5), (1, 2)],
        "answers": [(7, 8), (9,), (10, 11, 12)],
        "texts": ["a", "b", "c"],
    }
    found = script.one_round(own, asked)
    assert tuple(found) == METHODS
    assert min(found.values()) > 0
    assert found["P(True)"] == pytest.approx(found["naive entropy"] + found["P(True) alone"])
    assert found["semantic entropy"] > found["naive entropy"]
    assert torch.get_num_threads() == before


def test_ratios_are_medians_of_rounds_of_ratios() -> None:
    """A slow machine slows a whole round down; the ratios do not change."""
    slow = {name: 3 * time for name, time in TIMES.items()}
    found = benchmark_script().summarised([TIMES, slow, TIMES], 5).set_index("method")
    assert found["ratio"].to_dict() == pytest.approx(TIMES)
    assert found.loc["P(True)", ["seconds", "lowest", "highest"]].tolist() == [0.7, 0.7, 2.1]
