"""A run that is killed keeps what it has finished, and the next one ends with the same table."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gnuq import artefacts, protocol
from gnuq.artefacts import ArtefactError, files
from gnuq.pipeline import replay, runs, stages
from gnuq.pipeline.accept import accept

#: Records one stage, the real comparison on the two quickest problems, into the folder argv[1].
PROGRAM = """
import sys
from dataclasses import replace
from pathlib import Path
from gnuq import protocol
from gnuq.artefacts import files
from gnuq.pipeline import comparisons, runs, stages

def main():
    files.DATA = Path(sys.argv[1])
    gap = [e for e in protocol.experiments() if e.problem_name == "line-gap"]
    chosen = [e for e in gap if e.prior_name == "unit-1"]
    comparison = comparisons.COMPARISONS["validation"]
    comparisons.COMPARISONS["validation"] = replace(comparison, experiments=lambda: chosen)
    inputs = tuple(f"records/{e.record}" for e in chosen)
    runs.record(replace(stages.stages()["validation"], inputs=inputs))

if __name__ == "__main__":
    main()
"""


def start(folder: Path) -> subprocess.Popen[str]:
    (folder / "data").mkdir(parents=True, exist_ok=True)
    if not (folder / "data" / "records").exists():
        (folder / "data" / "records").symlink_to(files.DATA / "records")
    script = folder / "run.py"
    script.write_text(PROGRAM)
    return subprocess.Popen(
        [sys.executable, str(script), str(folder / "data")],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # so that the workers die with it
    )


def test_a_killed_run_resumes_and_ends_with_the_same_table(tmp_path: Path) -> None:
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    run = start(killed)
    assert run.stdout is not None
    for line in run.stdout:
        if line.startswith("2 of 5"):
            break
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    left = list((killed / "data" / "parts").rglob("*.parquet"))
    assert len(left) >= 2 * 2
    assert not (killed / "data" / "results").exists()
    told, _ = start(killed).communicate()
    assert "resumed 0" not in told
    assert "resumed" in told
    start(whole).communicate()
    for name in (protocol.VALIDATION, protocol.CALIBRATION):
        one, other = (folder / "data" / "results" / f"{name}.csv" for folder in (killed, whole))
        assert one.read_bytes() == other.read_bytes()
    assert not (killed / "data" / "parts").exists()


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for kind in ("records", "results"):
        (tmp_path / kind).mkdir()
    saved = artefacts.load("results", protocol.VALIDATION)
    monkeypatch.setattr(files, "DATA", tmp_path)
    for suffix, content in (
        (".csv", saved.frame.to_csv(index=False).encode()),
        (".json", files._told(saved.provenance)),
    ):
        (tmp_path / "results" / f"{protocol.VALIDATION}{suffix}").write_bytes(content)
    told = artefacts.provenance("results", protocol.VALIDATION)
    again = artefacts.path_of("results", protocol.VALIDATION).read_bytes()
    assert files.hashlib.sha256(again).hexdigest() == told["sha256"]
    return tmp_path


def test_a_stage_runs_once_and_again_only_if_it_must(
    elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = stages.stages()["table-5"]
    assert runs.record(stage)
    assert not runs.record(stage)
    assert "table-5: up to date" in capsys.readouterr().out
    assert runs.record(stage, again=True)
    path = elsewhere / "results" / "table-5.csv"
    path.write_text(path.read_text().replace("linear", "linean", 1))
    assert not runs.up_to_date(stage)
    assert runs.record(stage)
    assert runs.up_to_date(stage)


def test_without_its_input_a_stage_says_what_is_missing(elsewhere: Path) -> None:
    artefacts.path_of("results", protocol.VALIDATION).unlink()
    with pytest.raises(ArtefactError, match="results/validation: not found"):
        runs.record(stages.stages()["table-5"])


def test_a_replay_that_agrees_may_accept_changed_code(elsewhere: Path) -> None:
    stage = stages.stages()["table-5"]
    runs.record(stage)
    told = artefacts.provenance("results", "table-5")
    artefacts.restamp("results", "table-5", told | {"code": "0" * 64})
    assert not runs.up_to_date(stage)
    found = replay.replay(stage)
    assert found.passed
    assert found.found[replay.DIFFERENCE] < 1e-12
    with pytest.raises(ValueError, match="because"):
        accept(stage, found, " ")
    accept(stage, found, "renamed a variable")
    assert runs.up_to_date(stage)
    history = artefacts.provenance("results", "table-5")["accepted"]
    assert [(entry["code"], entry["because"]) for entry in history] == [
        ("0" * 64, "renamed a variable")
    ]


def test_a_replay_never_accepts_other_settings_or_other_numbers(elsewhere: Path) -> None:
    stage = stages.stages()["table-5"]
    runs.record(stage)
    good = replay.replay(stage)
    told = artefacts.provenance("results", "table-5")
    other = told | {"code": "0" * 64, "configuration": told["configuration"] | {"prior": "unit-5"}}
    artefacts.restamp("results", "table-5", other)
    with pytest.raises(ArtefactError, match="more than its code.*setting prior"):
        accept(stage, good, "no reason")
    frame = artefacts.load("results", "table-5").frame
    artefacts.save(
        "results",
        "table-5",
        frame.assign(rho=frame["rho"] + 0.01),
        origin=stage.origin(),
        seconds=0,
    )
    bad = replay.replay(stage)
    assert not bad.passed
    with pytest.raises(ArtefactError, match="does not confirm"):
        accept(stage, bad, "no reason")


def test_a_posterior_replays_within_its_tolerance() -> None:
    found = replay.replay(stages.stages()["hmc/line/unit-1/seed-0"])
    assert found.rows == replay.POINTS
    assert found.passed
    assert found.found[replay.SPREAD] > 0.1  # other chains than the record's


def test_a_timing_gets_the_settings_that_its_script_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def measure(model: str = "small", device: str = "cpu") -> pd.DataFrame:
        asked.append((model, device))
        return pd.DataFrame({"seconds": [1.0]})

    monkeypatch.setattr(runs.runpy, "run_path", lambda _: {"measure": measure})
    known = stages.stages()
    for name in ("table-12", "table-12-gpu"):
        runs.compute(known[name])
    assert asked == [("smollm2-135m", "cpu"), ("qwen2.5-coder-1.5b", "cuda")]


def test_timings_are_not_replayed() -> None:
    found = replay.replay(stages.stages()[protocol.COSTS])
    assert found.rows == 0
    assert found.note


@pytest.mark.parametrize(
    ("change", "expected"), [({"a": [1.0, 2.2]}, 0.1), ({"b": ["x", "z"]}, float("inf"))]
)
def test_the_largest_difference_is_in_units_of_the_column(
    change: dict[str, list], expected: float
) -> None:
    saved = pd.DataFrame({"a": [1.0, 2.0], "b": ["x", "y"]})
    assert replay.largest_difference(saved, saved.assign(**change)) == pytest.approx(expected)
    assert replay.largest_difference(saved, saved[:1]) == float("inf")
    for odd in (np.inf, np.nan):
        assert replay.largest_difference(saved, saved.assign(a=[1.0, odd])) == np.inf
        other = saved.assign(a=[1.0, odd])
        assert replay.largest_difference(other, other.assign(a=[1.5, odd])) == pytest.approx(0.5)


def test_a_table_of_quantities_is_judged_quantity_by_quantity() -> None:
    saved = artefacts.load("results", "appendix-c").frame
    small = saved["quantity"] == "length of E[θ]"
    changed = saved.assign(value=saved["value"].where(~small, 8.0))
    found = replay.largest_difference(replay.wide(saved), replay.wide(changed))
    assert found > stages.STUDY_TOLERANCE["appendix-c"]
