"""The chapter on §4.2 says of made-up results what was made up."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from gnuq.qa.columns import DIRECTION
from gnuq.qa.evaluation import METHODS
from gnuq.walkthrough import question_answering as study
from gnuq.walkthrough import question_numbers, question_statements
from tests.qa.joined import joined

MODELS = ("smollm2-135m", "smollm2-135m-nf4", "gemma-3-270m")
KEYS = [(m, b) for m in MODELS for b in ("truthfulqa", "triviaqa")]
Saved = dict[str, pd.DataFrame]


def _answers() -> pd.DataFrame:
    tables = [joined(120, *key, seed=i) for i, key in enumerate(KEYS)]
    return pd.concat(tables, ignore_index=True)


def _aurocs(level: Callable[[str, str, str], float]) -> pd.DataFrame:
    rows = [(*key, method, level(*key, method)) for key in KEYS for method in METHODS]
    frame = pd.DataFrame(rows, columns=["model", "benchmark", "method", "mean"])
    return frame.assign(low=frame["mean"] - 0.05, high=frame["mean"] + 0.05)


def _plain() -> pd.DataFrame:
    rows = [(*key, score) for key in KEYS for score in DIRECTION]
    frame = pd.DataFrame(rows, columns=["model", "benchmark", "score"])
    return frame.assign(auroc=0.6, low=0.55, high=0.65, given_length=0.58, pairs=900)


def _averaged(table: pd.DataFrame) -> pd.DataFrame:
    own = table[table["model"] != "smollm2-135m-nf4"]
    found = own.groupby(["benchmark", "method"], sort=False)["mean"].mean().reset_index()
    return found.assign(deviation=0.02)


def _tests(p: float) -> pd.DataFrame:
    """The eighteen differences, all in the paper's direction."""
    rows = [
        ("paper", benchmark, method, baseline, sign * 0.02, p, p)
        for benchmark, sign in (("truthfulqa", 1), ("triviaqa", -1))
        for method in ("Aleatoric", "Epistemic", "Epi. & alea.")
        for baseline in ("Naive entropy", "Semantic entropy", "P(True)")
    ]
    columns = ["family", "benchmark", "method", "baseline", "difference"]
    return pd.DataFrame(rows, columns=[*columns, "adjusted", "adjusted_corrected"])


def _lifts(low: float, high: float) -> pd.DataFrame:
    row = {"method": "Epi. & alea.", "difference": (low + high) / 2, "low": low, "high": high}
    rows = [{**row, "benchmark": b, "models": 2, "models_better": 1} for _, b in KEYS[:2]]
    return pd.DataFrame(rows)


def as_the_paper(model: str, benchmark: str, method: str) -> float:
    best = {"truthfulqa": "Epi. & alea.", "triviaqa": "P(True)"}[benchmark]
    return 0.7 if method == best else 0.6 if method != "Length" else 0.5


@pytest.fixture
def saved(monkeypatch: pytest.MonkeyPatch) -> Saved:
    """Results in which everything is as the paper says; a test changes what it is about."""
    answers, level = _answers(), _aurocs(as_the_paper)
    pooled = {"model": "Pooled, ranks within models", "rho": -0.2, "shared": 0.04}
    known = {
        "table-2": _averaged(level),
        "table-11": level,
        "table-13": _tests(0.01),
        "table-14": pd.DataFrame([{**pooled, "benchmark": b} for _, b in KEYS[:2]]),
        "qa-lift": _lifts(0.01, 0.03),
        "qa-plain": _plain(),
        "qa-selective": pd.DataFrame(
            [
                {"model": m, "benchmark": b, "method": method, "rejection": 0.1}
                | {"brier": 0.2, "brier_of_base_rate": 0.25}
                for m, b in KEYS
                for method in METHODS
            ]
        ),
        "qa-dropped": pd.DataFrame(
            [
                {"model": m, "benchmark": b, "reason": reason, "questions": n}
                for m, b in KEYS
                for reason, n in (("evaluated", 120), ("no P(True)", 30))
            ]
        ),
    }
    monkeypatch.setattr(study, "result", lambda name: known[name].copy())
    monkeypatch.setattr(question_statements, "result", lambda name: known[name].copy())
    monkeypatch.setattr(study, "joined", lambda: answers)
    return known


def test_questions_are_accounted_for(saved: Saved) -> None:
    told = study.counts()
    assert (told["questions"] == told["evaluated"] + told["no P(True)"]).all()
    assert question_numbers.values()["left_out"] == "20.0%"


def test_what_the_paper_says_agrees_with_results_like_the_papers(saved: Saved) -> None:
    saved["qa-lift"].loc[1, ["difference", "low"]] = [0.0, -0.03]  # not on TriviaQA
    assert set(question_statements.statements()["reading"]) == {"agrees"}


def test_differences_beyond_no_test_decide_nothing(saved: Saved) -> None:
    """The paper's test finds them, the corrected one does not: undecided."""
    saved["table-13"] = _tests(0.01).assign(adjusted_corrected=0.4)
    found = question_statements.statements()
    tested = found[found["here"].str.contains("corrected")]
    assert set(tested["reading"]) == {"undecided"}
    assert tested["here"].str.contains("3 are significant by the paper’s test, 0").all()


def test_the_opposite_of_the_paper_disagrees(saved: Saved) -> None:
    other = {"truthfulqa": "triviaqa", "triviaqa": "truthfulqa"}
    saved["table-11"] = _aurocs(lambda m, b, method: as_the_paper(m, other[b], method))
    saved["table-2"] = _averaged(saved["table-11"])
    saved["table-13"]["difference"] *= -1
    saved["qa-lift"] = _lifts(-0.03, -0.01)
    saved["table-14"]["rho"] *= -1
    assert set(question_statements.statements()["reading"]) == {"disagrees"}


def test_a_quantised_copy_is_no_model_of_an_average(saved: Saved) -> None:
    told = question_numbers.values()
    assert (told["count"], told["models"]) == ("2", "smollm2-135m, gemma-3-270m")
    saved["qa-plain"].loc[saved["qa-plain"]["model"] == "smollm2-135m-nf4", "auroc"] = 0.99
    assert question_numbers.values() == told
    assert "0.99" not in study.by_score().to_string()


def test_a_benchmark_that_is_not_finished_has_dashes(saved: Saved) -> None:
    for name, table in saved.items():
        saved[name] = table[table["benchmark"] == "truthfulqa"]
    told = question_numbers.values()
    assert told["triviaqa_gradient"] == told["triviaqa_epistemic_chance"] == "–"
    assert told["truthfulqa_gradient"] == "Epi. & alea."
    assert set(study.table_2()["TriviaQA, ours"]) == {"–"}
    statements = question_statements.statements()
    assert set(statements.index.get_level_values(0)) == {"TruthfulQA"}


def test_one_model_has_no_average(saved: Saved) -> None:
    assert study.intervals()["model"].iloc[0] == study.AVERAGE
    saved["table-11"] = saved["table-11"][saved["table-11"]["model"] == "smollm2-135m"]
    assert study.AVERAGE not in set(study.intervals()["model"])


def test_a_method_of_two_features_has_no_raw_score(saved: Saved) -> None:
    shown = study.intervals()
    raw = shown[shown["series"] == study.RAW]
    assert set(raw["method"]) == set(study.SINGLE)
    assert np.isfinite(raw["value"]).all()


def test_table_2_puts_the_papers_words_beside_the_methods_it_has(saved: Saved) -> None:
    table = study.table_2()
    assert len(table) == len(METHODS)
    said = table["TriviaQA, the paper"].droplevel(0)
    assert said["P(True)"] == "“dominates”"
    assert said["Length"] == "–"
    assert table["TruthfulQA, ours"].droplevel(0)["Epi. & alea."] == "0.700 ± 0.020"
