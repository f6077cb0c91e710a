"""`python -m gnuq qa`, as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from gnuq.__main__ import main
from gnuq.qa import execute
from gnuq.qa.settings import Run, Settings
from gnuq.qa.steps import STEPS


def command(model: str, questions: Path, output: Path, *more: str) -> list[str]:
    where = ["--benchmark", str(questions), "--output", str(output)]
    return ["qa", "--model", model, *where, "--device", "cpu", "--samples", "2", *more]


def test_from_questions_to_aurocs(model: str, questions: Path, tmp_path: Path, capsys: Any) -> None:
    status = main(command(model, questions, tmp_path, "--limit", "10"))
    told = capsys.readouterr()
    folder = next(tmp_path.glob("*/words-10"))
    for step in STEPS:
        assert len(pd.read_parquet(folder / f"{step}.parquet")) == 10
        provenance = json.loads((folder / f"{step}.json").read_text())
        assert provenance["configuration"]["limit"] == 10
        assert step in told.err
    table = pd.read_csv(folder / "evaluation.csv")
    joined = pd.read_csv(folder / "joined.csv")
    assert set(table["n"]) == {len(joined)}
    assert f"{joined['correct'].sum()} of {len(joined)} answers are correct" in told.out
    assert "left out: 2 (it demonstrates P(True))" in told.out
    undefined = table["mean"].isna().all()
    assert status == (1 if undefined else 0)
    assert ("AUROC is undefined" in told.out) == undefined


def test_all_wrong_is_told_and_nothing_is_lost(
    model: str, questions: Path, tmp_path: Path, capsys: Any
) -> None:
    impossible = tmp_path / "impossible.jsonl"
    rows = [json.loads(line) for line in questions.read_text().splitlines()]
    impossible.write_text("\n".join(json.dumps({**r, "correct": ["qqqq"]}) for r in rows))
    assert main(command(model, impossible, tmp_path / "out", "--greedy")) == 1
    assert "AUROC is undefined: all answers are of one kind" in capsys.readouterr().out
    table = pd.read_csv(next(tmp_path.glob("out/*/impossible/evaluation.csv")))
    assert table["mean"].isna().all()
    assert (table["n"] > 0).all()
    assert (table["correct"] == 0).all()


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--limit", "2"], "limit: 2 is below 5"),
        (["--samples", "1"], "samples: 1 is below 2"),
        (["--ray", "ray://127.0.0.1:1"], "--ray: "),
    ],
)
def test_what_cannot_be_run_is_told_in_one_line(
    more: list[str], told: str, model: str, questions: Path, tmp_path: Path, capsys: Any
) -> None:
    pytest.importorskip("ray")
    assert main(command(model, questions, tmp_path, *more)) == 2
    assert told in capsys.readouterr().err


def test_an_unknown_model_or_benchmark(questions: Path, tmp_path: Path, capsys: Any) -> None:
    assert main(command("gpt-5", questions, tmp_path)) == 2
    assert "gpt-5" in capsys.readouterr().err
    assert main(command("smollm2-135m", Path("squad"), tmp_path)) == 2
    assert "none of truthfulqa, triviaqa" in capsys.readouterr().err


def test_a_full_disk_keeps_what_was_finished(
    model: str, questions: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = execute.FolderParts.save
    kept: list[str] = []

    def save(self: Any, key: str, frame: pd.DataFrame) -> None:
        if kept:
            raise OSError(28, "No space left on device")
        saved(self, key, frame)
        kept.append(key)

    monkeypatch.setattr(execute.FolderParts, "save", save)
    assert main(command(model, questions, tmp_path)) == 2
    told = capsys.readouterr().err
    assert "No space left" in told
    assert "run the same command again" in told
    assert len(list(tmp_path.rglob("parts/*/*.parquet"))) == 1


def test_settings_that_make_no_sense_are_refused() -> None:
    for wrong, told in (
        ({"samples": 1}, "samples"),
        ({"temperature": 0.0}, "temperature"),
        ({"equivalence": "spelling"}, "equivalence"),
    ):
        with pytest.raises(ValueError, match=told):
            Settings(**wrong)  # type: ignore[arg-type]


def test_every_part_of_a_run_has_a_seed_of_its_own() -> None:
    run = Run("m", "b")
    seeds = {run.draw(what, i) for what in ("answer", "samples") for i in ("0", "8")}
    assert len(seeds) == 4
    assert run.draw("answer", "0") == Run("other", "b").draw("answer", "0")
