"""Questions come whole and from the right file, or an error names the file, the row, the remedy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from gnuq.qa import benchmarks, datasets
from gnuq.qa.datasets import DatasetError


def written(path: Path, *rows: dict[str, Any]) -> str:
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    file = written(
        tmp_path / "mine.jsonl",
        {"id": "a", "question": " Which? ", "correct": ["this", " that "], "incorrect": ["none"]},
        {"id": "b", "question": "Who?", "correct": "he; she", "incorrect": "they"},
    )
    found = benchmarks.named(file)
    table = found.read()
    assert found.name == "mine"
    assert found.criterion == "similarity"
    assert table["question"].tolist() == ["Which?", "Who?"]
    assert table["correct"].tolist() == [["this", "that"], ["he", "she"]]


def test_without_incorrect_answers_aliases_decide(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text('question,correct\n"What, then?",yes; no\n')
    found = benchmarks.named(str(tmp_path / "mine.csv"))
    assert found.criterion == "alias"
    assert found.read()["id"].tolist() == ["0"]


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([{"question": "Q?", "answer": "a"}], "no column 'correct'.*there are question, answer"),
        ([{"asked": "Q?", "correct": "a"}], "no column 'question'"),
        (
            [{"question": "Q?", "correct": "a"}, {"question": "", "correct": "b"}],
            "row 2 has no que",
        ),
        ([{"question": "Q?", "correct": []}], "row 1 has no correct answer"),
        ([{"id": 1, "question": q, "correct": "a"} for q in "QR"], "the id '1' twice"),
    ],
)
def test_a_file_with_a_gap_is_refused(rows: list, told: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=told):
        benchmarks.named(written(tmp_path / "bad.jsonl", *rows))


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text("not json")
    with pytest.raises(DatasetError, match="neither CSV nor JSON lines"):
        benchmarks.named(str(tmp_path / "bad.jsonl"))


def test_an_unknown_name_lists_what_there_is() -> None:
    with pytest.raises(DatasetError, match="none of truthfulqa, triviaqa, and no file"):
        benchmarks.named("squad")


@pytest.mark.parametrize("name", ["truthfulqa", "triviaqa"])
def test_another_file_is_refused(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / datasets.DATASETS[name].file).write_text("Question\nWhat?")
    monkeypatch.setenv("GNUQ_DATA", str(tmp_path))
    with pytest.raises(DatasetError, match="another version of the file"):
        benchmarks.named(name).read()


@pytest.mark.parametrize("name", ["truthfulqa", "triviaqa"])
def test_without_a_network_the_error_says_where_the_file_is(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("GNUQ_DATA", raising=False)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(datasets, "folder", lambda: tmp_path)

    def unreachable(*_: Any, **__: Any) -> str:
        raise OSError("no network")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", unreachable)
    with pytest.raises(DatasetError, match=rf"{name}: cannot download .*\(no network\).*GNUQ_DATA"):
        benchmarks.named(name).read()


def test_a_download_with_other_questions_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("GNUQ_DATA", raising=False)
    monkeypatch.setattr(datasets, "folder", lambda: tmp_path)
    table = pd.DataFrame(
        {"question": ["Q?"], "correct_answers": [["a"]], "incorrect_answers": [["b"]]}
    )
    table.to_parquet(tmp_path / "hub.parquet")
    path = str(tmp_path / "hub.parquet")
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *_, **__: path)
    with pytest.raises(DatasetError, match="has other questions or answers"):
        benchmarks.named("truthfulqa").read()


def test_a_digest_knows_neither_format_nor_order() -> None:
    one = pd.DataFrame(
        {"id": ["0"], "question": ["Q? "], "correct": [["a", "b"]], "incorrect": [["c."]]}
    )
    other = one.assign(question="Q?", correct=[["b.", " a"]], incorrect=[["c"]])
    assert benchmarks.digest(one) == benchmarks.digest(other)
    assert benchmarks.digest(one) != benchmarks.digest(one.assign(correct=[["a"]]))


def test_the_real_files_are_read_whole() -> None:
    if not all(map(datasets.available, benchmarks.BENCHMARKS)):
        pytest.skip("the benchmarks are not at hand")
    for name, rows in (("truthfulqa", 817), ("triviaqa", 1000)):
        table = benchmarks.named(name).read()
        assert len(table) == table["id"].nunique() == rows
        assert table["question"].map(bool).all()
        assert table["correct"].map(bool).all()
    chosen = benchmarks.CHOSEN.read_text().split()
    assert chosen == benchmarks.named("triviaqa").read()["id"].tolist()
