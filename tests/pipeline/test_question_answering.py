"""The records of the question-answering runs: resumable, replayable, each step from the last."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from gnuq import artefacts
from gnuq.artefacts import Origin, files
from gnuq.pipeline import question_answering, stages
from gnuq.pipeline.replay import largest_difference
from gnuq.qa import benchmarks, study
from gnuq.qa.settings import Run
from gnuq.qa.steps import STEPS
from gnuq.results import question_answering as answering
from tests.qa.conftest import model, questions, run  # noqa: F401  (fixtures)

ORIGIN = Origin(code="test")


@pytest.fixture
def recorded(
    run: Run,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> list[str]:
    """A tiny run's four records, below a folder of its own."""
    words = replace(benchmarks.named(run.benchmark), name="words")
    monkeypatch.setitem(benchmarks.BENCHMARKS, "words", words)
    monkeypatch.setitem(study.MODELS, "tiny", replace(run, benchmark="words", limit=10))
    monkeypatch.setattr(study, "FINISHED", (("tiny", "words"),))
    monkeypatch.setattr(files, "DATA", tmp_path)
    monkeypatch.setattr(question_answering, "CHECKPOINTS", tmp_path / "checkpoints")
    names = [study.record("tiny", "words", step) for step in STEPS]
    for name in names:
        table = question_answering.rows(name, ORIGIN)
        artefacts.save("records", name, table, origin=ORIGIN, seconds=1.0)
        question_answering.discard(name, ORIGIN)
    return names


def test_records_replay_and_join(recorded: list[str], tmp_path: Path) -> None:
    assert not list((tmp_path / "checkpoints").rglob("*.parquet"))
    for name in recorded:
        saved, new = question_answering.replayed(name)
        assert len(new) > 0
        assert largest_difference(saved, new) < 1e-4, name
    found = answering.collect()
    joined, dropped = found["joined"], found["dropped"]
    assert dropped["questions"].sum() == 10
    assert dropped.set_index("reason").loc["evaluated", "questions"] == len(joined)
    assert set(joined["model"]) == {"tiny"}
    table = answering.aurocs(joined)
    assert set(table["n"]) == {len(joined)}


def test_a_changed_answer_does_not_replay(recorded: list[str], monkeypatch: Any) -> None:
    name = recorded[0]
    saved = artefacts.load("records", name).frame
    shifted = [[[x - 0.5 for x in one] for one in row] for row in saved["sample_log_probabilities"]]
    forged = saved.assign(sample_log_probabilities=pd.Series(shifted, dtype=object))
    loaded = artefacts.Artefact(forged, {})
    monkeypatch.setattr(question_answering.artefacts, "load", lambda *_: loaded)
    assert largest_difference(*question_answering.replayed(name)) > 0.05


def test_a_run_that_was_cut_off_goes_on_from_its_checkpoints(
    recorded: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    name, computed = recorded[3], []
    whole = artefacts.load("records", name).frame
    step = replace(STEPS["scores"], shard=4)

    def counting(run: Run, ids: list[str], tables: Any) -> pd.DataFrame:  # noqa: F811
        if len(computed) == 2:
            computed.append(None)
            raise OSError(28, "No space left on device")
        computed.append(ids)
        return step.rows(run, ids, tables)

    monkeypatch.setitem(STEPS, "scores", replace(step, rows=counting))
    with pytest.raises(OSError, match="No space"):
        question_answering.rows(name, ORIGIN)
    kept = list((tmp_path / "checkpoints" / "qa" / "tiny" / "words").rglob("*.parquet"))
    assert len(kept) == 2
    again = question_answering.rows(name, ORIGIN)
    pd.testing.assert_frame_equal(again, whole)
    assert len(computed) == 4


def test_unfinished_runs_are_stages_by_their_whole_name_only() -> None:
    waiting = question_answering.waiting()
    assert ("phi-4", "triviaqa", "scores") in waiting
    name = study.record("phi-4", "triviaqa", "answers")
    assert name not in stages.stages()
    stage = stages.find(name)[0]
    assert stage.group == "qa"
    assert stage.model is not None
    assert "microsoft/phi-4" in stage.model
    with pytest.raises(stages.ItemError):
        stages.find("qa/phi-4")
