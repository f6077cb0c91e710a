"""`python -m gnuq score`, as a user meets it."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from gnuq.__main__ import main, program
from gnuq.language_models import Loaded
from gnuq.scoring import command, files, report
from tests import tiny

QUESTION = ["score", "--question", "what is the capital of France"]


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tiny model in the place of the default one."""
    model = tiny.model("llama-tied")
    loaded = Loaded(model, tiny.tokenizer(), "tiny", None, None, "float64", None)
    monkeypatch.setattr(command, "load", lambda *names, **options: loaded)


def test_a_question_and_its_answer(capsys: Any) -> None:
    assert main([*QUESTION, "--answer", "Paris yes"]) == 0
    told = capsys.readouterr().out
    assert "Q: what is the capital of France" in told
    assert "A: Paris yes" in told
    for word in (
        "epistemic",
        "aleatoric",
        "mean probability",
        "share of ‖∇p̄‖²",
        "' Paris'",
        "' yes'",
    ):
        assert word in told
    assert "\033" not in told  # no terminal, no colours


def test_json_holds_the_scores_and_the_tokens(capsys: Any) -> None:
    assert main([*QUESTION, "--answer", "Paris yes", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["length"] == 2
    assert told["model"] == "tiny"
    assert sum(t["share"] for t in told["tokens"]) == pytest.approx(told["epistemic"])
    assert [t["token"] for t in told["tokens"]] == [" Paris", " yes"]


def test_without_an_answer_the_models_own_is_scored(capsys: Any) -> None:
    assert main([*QUESTION, "--max-new-tokens", "4", "--json"]) == 0
    assert 1 <= json.loads(capsys.readouterr().out)["length"] <= 4


@pytest.mark.parametrize("objective", ["joint_probability", "token_average"])
def test_other_objectives_have_no_split_by_token(capsys: Any, objective: str) -> None:
    assert main([*QUESTION, "--answer", "Paris", "--objective", objective]) == 0
    assert "share of" not in capsys.readouterr().out


def test_many(capsys: Any, tmp_path: Path) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.parquet"
    source.write_text('{"question": "what is", "answer": "Paris"}\n{"question": 1')
    code = main(["score", "--input", str(source), "--output", str(target)])
    told = capsys.readouterr()
    assert code == 1
    assert f"{source}, line 2: no JSON" in told.err
    assert "1 answers scored, 1 not" in told.out
    assert len(pd.read_parquet(target)) == 2


def test_a_calibration_tells_what_a_score_means(capsys: Any, tmp_path: Path) -> None:
    import gnuq

    model, examples = tiny.model("llama-tied"), tiny.EXAMPLES * 3
    scores = gnuq.score(
        model, tiny.tokenizer(), [e.prompt for e in examples], [e.answer for e in examples]
    )
    gnuq.calibrate(scores, [True, False] * 6).save(tmp_path / "c.json")
    arguments = [*QUESTION, "--answer", "Paris", "--calibration", str(tmp_path / "c.json")]
    assert main(arguments) == 0
    told = capsys.readouterr().out
    assert "% of the calibration's answers" in told
    assert "probability of being wrong" in told


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["score"], "--question or --input"),
        ([*QUESTION, "--answer", " "], "the answer is empty"),
        (["score", "--input", "none.jsonl", "--output", "x.parquet"], "there is no file"),
        (["score", "--input", "none.jsonl"], "--output: name the parquet file"),
        (["score", "--input", "a", "--question", "b"], "--question: it has no place beside"),
        (["score", "--input", "a", "--output", "b", "--json"], "--json: it has no place beside"),
        ([*QUESTION, "--output", "b"], "--output: it has no place without --input"),
        ([*QUESTION, "--max-new-tokens", "0"], "--max-new-tokens: 0 is below 1"),
        ([*QUESTION, "--max-new-tokens", "250"], "more than the model's context of 256"),
        (["score", "--question", " ", "--answer", "a"], "the question must be a text"),
        ([*QUESTION, "--answer", "Paris", "--calibration", "/"], "cannot be read"),
        ([*QUESTION, "--answer", "Paris", "--calibration", "none"], "there is no none"),
        ([*QUESTION, "--answer", "Paris", "--memory", "-1"], "memory: -1"),
        ([*QUESTION, "--answer", "Paris", "--params", "adapter"], "leaves no weight"),
    ],
)
def test_what_cannot_be_done_is_told_in_one_line(
    capsys: Any, arguments: list[str], told: str
) -> None:
    assert main(arguments) == 2
    found = capsys.readouterr().err
    assert found.startswith("python -m gnuq score: ")
    assert told in found
    assert found.count("\n") == 1


def many_lines(folder: Path) -> list[str]:
    """The command for a file of three chunks, after `files.CHUNK` was set to one."""
    source = folder / "in.jsonl"
    lines = [{"question": "what is", "answer": answer} for answer in ("Paris", "yes", "no")]
    source.write_text("\n".join(map(json.dumps, lines)))
    return ["score", "--input", str(source), "--output", str(folder / "out.parquet")]


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "out.parts"), 2, "No space left on dev"),
        (KeyboardInterrupt(), 130, "stopped; what was finished is kept"),
    ],
)
def test_what_stops_a_run_is_told_in_one_line_and_keeps_what_is_done(
    capsys: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    status: int,
    told: str,
) -> None:
    """A full disk or Ctrl-C after the first of three parts; the same command then finishes."""
    write, written = files.write_whole, []

    def fails(path: Path, content: bytes) -> None:
        if written:
            raise error
        written.append(path)
        write(path, content)

    monkeypatch.setattr(files, "CHUNK", 1)
    monkeypatch.setattr(files, "write_whole", fails)
    assert main(many_lines(tmp_path)) == status
    found = capsys.readouterr().err.strip().splitlines()[-1]
    assert found.startswith("python -m gnuq score: ")
    assert told in found
    assert not (tmp_path / "out.parquet").exists()
    assert written[0].exists()
    first = written[0].stat().st_mtime_ns
    monkeypatch.setattr(files, "write_whole", write)
    monkeypatch.setattr(files, "shutil", SimpleNamespace(rmtree=lambda _: None))
    assert main(many_lines(tmp_path)) == 0
    assert written[0].stat().st_mtime_ns == first
    assert len(pd.read_parquet(tmp_path / "out.parquet")) == 3


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no folder that nobody may write to")
def test_an_output_that_cannot_be_written_is_told_in_one_line(capsys: Any, tmp_path: Path) -> None:
    command = many_lines(tmp_path)
    assert main([*command[:-1], "/proc/self/out.parquet"]) == 2
    found = capsys.readouterr().err
    assert found.startswith("python -m gnuq score: ")
    assert "/proc/self" in found
    assert found.count("\n") == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_standard_output_that_is_full_is_told_in_one_line(
    capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not written when the process ends would give a status of Python's own."""
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert main([*QUESTION, "--answer", "Paris"]) == 2
        full.flush()  # nothing is left that could fail
    found = capsys.readouterr().err
    assert "No space left on device" in found
    assert found.count("\n") == 1


def test_a_closed_standard_output_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    assert main([*QUESTION, "--answer", "Paris"]) == 0


def test_a_fault_of_its_own_has_a_trace_and_a_status_of_its_own(
    capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Status 1 says that some lines could not be scored."""

    def fail(*names: Any, **options: Any) -> None:
        raise ZeroDivisionError("a fault")

    monkeypatch.setattr(command, "load", fail)
    monkeypatch.setattr(sys, "argv", ["gnuq", *QUESTION])
    assert program() == 2
    assert "ZeroDivisionError: a fault" in capsys.readouterr().err


def test_warnings_are_told_in_one_line(capsys: Any, tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text('{"prompt": "what is", "answer": "what is France"}')
    assert main(["score", "--input", str(source), "--output", str(tmp_path / "o.parquet")]) == 0
    lines = [x for x in capsys.readouterr().err.splitlines() if x.startswith("python -m gnuq")]
    assert len(lines) == 1
    assert "begins with the whole text of its prompt" in lines[0]


def test_help_is_quick() -> None:
    """It imports neither torch nor pandas; a second is what the whole process may take."""
    program = (
        "import sys, runpy; sys.argv = ['gnuq', 'score', '--help']\n"
        "try: runpy.run_module('gnuq', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "print([m for m in ('torch', 'pandas', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip().endswith("[]"), done.stderr
    assert "--question" in done.stdout


def test_colours_follow_the_share() -> None:
    frame = pd.DataFrame({"token": ["a", "b"], "part": ["answer"] * 2, "share": [0.1, 2.0]})
    line = report.answer_line(frame, colour=True)
    assert f"48;5;{report.SCALE[-1]}" in line.split("b")[0]
    assert f"48;5;{report.SCALE[0]}" in line.split("a")[0]
    assert report.answer_line(frame, colour=False) == "ab"


@pytest.mark.parametrize(("given", "found"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_that_wait_leave_the_core_to_others(given: str | None, found: str) -> None:
    """Set before torch, which reads it once, is imported; a user's own setting stays."""
    program = (
        "import os, sys, gnuq.__main__; assert 'torch' not in sys.modules; "
        "print(os.environ['OMP_WAIT_POLICY'])"
    )
    environment = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
    if given is not None:
        environment["OMP_WAIT_POLICY"] = given
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == found
