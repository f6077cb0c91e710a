"""A run is the same table whoever computes it, and however often it was cut off."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from gnuq.qa import benchmarks, evaluation, execute
from gnuq.qa.execute import run_all
from gnuq.qa.joined import DEMONSTRATION, counted, joined
from gnuq.qa.settings import Run
from gnuq.qa.steps import EMPTY, STEPS, Step, Tables
from gnuq.qa.store import Folder, FolderParts
from gnuq.qa.workers import Shards, here, on_ray


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, step in STEPS.items():
        monkeypatch.setitem(STEPS, name, replace(step, shard=4))


def ids(run: Run) -> list[str]:
    return benchmarks.named(run.benchmark).read()["id"].tolist()


def finished(run: Run, folder: Path, **how: Any) -> dict[str, pd.DataFrame]:
    return run_all(run, ids(run), Folder(folder), revision="words", **how)


@pytest.fixture(scope="module")
def tables(run: Run, tmp_path_factory: pytest.TempPathFactory) -> dict[str, pd.DataFrame]:
    with pytest.MonkeyPatch.context() as patch:
        for name, step in STEPS.items():
            patch.setitem(STEPS, name, replace(step, shard=4))
        return finished(run, tmp_path_factory.mktemp("whole"))


def same(one: dict[str, pd.DataFrame], other: dict[str, pd.DataFrame]) -> None:
    assert list(one) == list(other) == list(STEPS)
    for name in STEPS:
        a, b = one[name].astype(str), other[name].astype(str)
        pd.testing.assert_frame_equal(a, b)


def test_every_question_has_a_row_in_every_table(run: Run, tables: dict) -> None:
    for name in STEPS:
        assert tables[name]["id"].tolist() == ids(run)
    answers, scores = tables["answers"], tables["scores"]
    lengths = answers.set_index("id")["answer_ids"].map(len)
    scored = scores.dropna(subset=["epistemic"]).set_index("id")
    assert len(scored) > 6
    assert (scored["length"] == lengths[scored.index]).all()
    assert (scored["epistemic"] > 0).all()
    for row in answers.itertuples():
        assert [len(one) for one in row.sample_ids] == [
            len(one) for one in row.sample_log_probabilities
        ]
    missing = scores[scores["epistemic"].isna()]
    assert missing["reason"].notna().all()


def test_a_table_says_which_device_made_it_and_serves_any_other(
    run: Run, tables: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(*_: Any) -> Iterator[tuple[str, pd.DataFrame]]:
        raise AssertionError("computed again")

    monkeypatch.setattr(execute, "device_name", lambda _: "NVIDIA H100")
    same(tables, finished(run, tmp_path))
    told = [json.loads((tmp_path / f"{name}.json").read_text()) for name in STEPS]
    assert [one["device"] for one in told] == ["NVIDIA H100"] * len(STEPS)
    monkeypatch.setattr(execute, "device_name", lambda _: "cpu")
    same(tables, finished(run, tmp_path, workers=lost))


def test_a_checkpoint_that_was_overwritten_starts_anew(run: Run, tmp_path: Path) -> None:
    """Nothing of the run is named otherwise, but its tables are of another model."""
    model = Path(shutil.copytree(run.model, tmp_path / "model"))
    again = replace(run, model=str(model))
    before = execute._model(again)
    assert before == execute._model(again)
    step = STEPS["answers"]
    of_old = execute._origin(again, step, {}, "words", before)
    folder = Folder(tmp_path / "run")
    folder.save(step.name, pd.DataFrame({"id": ["a"]}), of_old, 0.0)
    assert folder.load(step.name, of_old) is not None
    weights = next(model.glob("*.safetensors"))
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    of_new = execute._origin(again, step, {}, "words", execute._model(again))
    with pytest.warns(UserWarning, match="starts anew"):
        assert folder.load(step.name, of_new) is None
    assert FolderParts(tmp_path, "answers", of_old).folder != (
        FolderParts(tmp_path, "answers", of_new).folder
    )


def test_the_log_probabilities_are_those_that_scoring_finds(tables: dict) -> None:
    both = tables["answers"].merge(tables["scores"], on="id").dropna(subset=["epistemic"])
    for row in both.itertuples():
        mean = sum(row.answer_log_probabilities) / len(row.answer_log_probabilities)
        assert mean == pytest.approx(row.mean_log_probability, abs=2e-5)


def test_the_joined_table_accounts_for_every_question(run: Run, tables: dict) -> None:
    kept, dropped = joined(run, tables)
    assert len(kept) + len(dropped) == len(ids(run))
    assert not set(kept["id"]) & set(dropped["id"])
    assert kept.notna().all().all()
    assert counted(dropped)[DEMONSTRATION] == 2
    runs = evaluation.bootstrap(kept, runs=5)
    assert set(evaluation.summary(runs, kept)["n"]) == {len(kept)}


def test_an_empty_answer_leaves_for_that_reason(run: Run, tables: dict) -> None:
    first = tables["answers"]["id"][0]
    ids_of = [[], *tables["answers"]["answer_ids"][1:]]
    emptied = tables["answers"].assign(answer_ids=pd.Series(ids_of, dtype=object))
    _, dropped = joined(run, {**tables, "answers": emptied})
    assert dropped.set_index("id").loc[first, "reason"] == EMPTY


def nobody(run: Run, step: str, shards: Shards, tables: Tables) -> Iterator:
    assert not shards, f"{step} is computed again"
    yield from ()


def test_what_is_finished_is_only_read(run: Run, tmp_path: Path) -> None:
    once = finished(run, tmp_path)
    same(once, finished(run, tmp_path, workers=nobody))
    assert not list(tmp_path.rglob("parts/*"))


def test_another_setting_is_another_run(run: Run, tmp_path: Path) -> None:
    finished(run, tmp_path)
    other = replace(run, settings=replace(run.settings, seed=1))
    with pytest.raises(AssertionError, match="answers is computed again"):
        finished(other, tmp_path, workers=nobody)


def test_a_run_that_was_cut_off_goes_on(run: Run, tables: dict, tmp_path: Path) -> None:
    computed = []

    def failing(run: Run, step: str, shards: Shards, tables: Tables) -> Iterator:
        for key, rows in here(run, step, shards, tables):
            if step == "baselines" and key == "00004":
                raise OSError(28, "No space left on device")
            computed.append((step, key))
            yield key, rows

    def counting(run: Run, step: str, shards: Shards, tables: Tables) -> Iterator:
        computed.extend((step, key) for key in shards)
        yield from here(run, step, shards, tables)

    with pytest.raises(OSError, match="No space left"):
        finished(run, tmp_path, workers=failing)
    same(tables, finished(run, tmp_path, workers=counting))
    assert len(computed) == len(set(computed)) == 4 * 3


def test_a_torn_table_is_computed_again(run: Run, tables: dict, tmp_path: Path) -> None:
    finished(run, tmp_path)
    torn = tmp_path / "judged.parquet"
    torn.write_bytes(torn.read_bytes()[:-20])
    same(tables, finished(run, tmp_path))


def test_a_cluster_of_one_worker_gives_the_same_tables(
    run: Run, tables: dict, tmp_path: Path
) -> None:
    """The small form of what follows."""
    pytest.importorskip("ray")
    with on_ray("local", cpus=os.cpu_count() or 1) as workers:
        found = finished(run, tmp_path, workers=workers)
    same(tables, found)


@pytest.mark.weekly
def test_a_cluster_that_loses_a_worker_gives_the_same_tables(
    run: Run, tables: dict, tmp_path: Path
) -> None:
    """Two workers on this machine, one of them killed while it computes."""
    pytest.importorskip("ray")
    killed = []

    def progress(step: str, done: int, of: int) -> None:
        if step == "answers" and 0 < done < of and not killed:
            killed.append(_kill_a_worker())

    with on_ray("local", cpus=0.5) as workers:
        found = finished(run, tmp_path, workers=workers, progress=progress)
    assert killed[0] > 0
    same(tables, found)


def _kill_a_worker() -> int:
    import psutil

    for process in psutil.process_iter(["cmdline"]):
        if "ray::_shard" in " ".join(process.info["cmdline"] or []):
            os.kill(process.pid, signal.SIGKILL)
            return process.pid
    return 0


def test_every_step_says_what_it_reads() -> None:
    order: list[str] = []
    step: Step
    for step in STEPS.values():
        assert set(step.needs) <= set(order)
        order.append(step.name)
