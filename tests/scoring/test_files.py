"""A file of questions: every line is scored or says why not, and a stopped run goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import gnuq
from gnuq.scoring import files, finished_parts
from gnuq.scoring.errors import FileError, ScoreError
from gnuq.scoring.questions import few_shot
from gnuq.scoring.settings import Settings
from tests import tiny

TOKENIZER = tiny.tokenizer()


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny.model("llama")


def written(path: Path, rows: list[Any]) -> Path:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def run(source: Path, model: Any, settings: Settings | None = None, **options: Any) -> pd.DataFrame:
    target = options.get("target", source.with_suffix(".parquet"))
    seen = options.get("seen", [])
    return files.score_file(
        source,
        target,
        settings or Settings(max_new_tokens=5),
        options.get("load", lambda: (model, TOKENIZER)),
        lambda done, of: seen.append((done, of)),
    )


ROWS = [
    {"id": "a", "question": "what is France", "answer": "Paris"},
    {"prompt": "Q : what A :", "answer": " London yes"},
    {"prompt": [1, 5, 7], "answer_ids": [9, 11, 2]},
    {"messages": [{"role": "user", "content": "what is"}], "answer": "yes"},
    {"question": "what is the capital"},
]


def test_every_kind_of_line_is_scored_as_score_does(tmp_path: Path, model: Any) -> None:
    table = run(written(tmp_path / "in.jsonl", ROWS), model)
    assert list(table.line) == [1, 2, 3, 4, 5]
    assert table.error.isna().all()
    assert table.id[0] == "a"
    assert table.id[1:].isna().all()
    expected = gnuq.score(
        model,
        TOKENIZER,
        [few_shot("what is France"), "Q : what A :", [1, 5, 7], ROWS[3]["messages"]],
        [" Paris", " London yes", [9, 11], "yes"],
    )
    np.testing.assert_allclose(table.epistemic[:4], expected.epistemic, rtol=1e-6)
    assert table.length[4] > 0  # the model's own answer
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "in.parquet"), table)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.jsonl", "in.parquet"]


BAD = {
    "no JSON": "{'question': 1}",
    "no JSON object": "[1]",
    "exactly one of question, prompt, messages": {"answer": "Paris"},
    "exactly one of": {"question": "a", "prompt": "b", "answer": "c"},
    "both answer and answer_ids": {"question": "a", "answer": "b", "answer_ids": [5]},
    "the answer is empty": {"question": "what", "answer": " "},
    "outside the model's vocabulary": {"prompt": [1], "answer_ids": [99]},
    "do not fit the model's context": {"prompt": [1, *[6] * 249], "answer_ids": [5] * 9},
    "no JSON: maximum recursion": "[" * 200_000,
    "no JSON: Exceeds": '{"question": "a", "id": ' + "9" * 5000 + "}",
    "its answer is null; leave it out": {"question": "what", "answer": None},
    "the question must be a text": {"question": ["what"], "answer": "a"},
    "the question must be": {"question": "", "answer": "a"},
    "no valid Unicode": '{"question": "\\ud800", "answer": "a"}',
    "leave no room": {"prompt": [6] * 254},
    "not a text or ids": {"question": "what", "answer": 7},
    "needs a role": {"messages": [{"content": "no role"}], "answer": "x"},
}


def test_one_bad_line_is_reported_and_the_rest_is_scored(tmp_path: Path, model: Any) -> None:
    rows = [ROWS[0], *BAD.values(), ROWS[1]]
    table = run(written(tmp_path / "in.jsonl", rows), model)
    bad = table.iloc[1:-1]
    for told, error in zip(BAD, bad.error, strict=True):
        assert told in str(error)
    assert bad[["epistemic", "aleatoric", "length"]].isna().all(axis=None)
    assert table.iloc[[0, -1]].epistemic.notna().all()


def test_null_fields_are_as_if_absent(tmp_path: Path, model: Any) -> None:
    rows = [{"question": None, **ROWS[1], "messages": None}, {**ROWS[1], "id": "\ud800"}]
    table = run(written(tmp_path / "in.jsonl", rows), model)
    assert table.epistemic[0] == pytest.approx(table.epistemic[1])
    assert table.error.isna().all()


def test_the_model_is_looked_at_as_score_does(tmp_path: Path) -> None:
    import transformers as T

    bert = T.BertLMHeadModel(T.BertConfig(**tiny.SIZES)).eval()
    with pytest.raises(ScoreError, match="sees later tokens"):
        run(written(tmp_path / "in.jsonl", ROWS), bert)


def test_two_runs_of_one_file_do_not_meet(tmp_path: Path, model: Any) -> None:
    source = written(tmp_path / "in.jsonl", ROWS)

    def load() -> Any:
        with pytest.raises(FileError, match="another run is writing it"):
            run(source, model)
        return model, TOKENIZER

    assert run(source, model, load=load).error.isna().all()


def test_logits_that_are_not_finite_cost_one_line_only(tmp_path: Path) -> None:
    import torch

    model = tiny.model("gpt-neox", torch.float32)
    with torch.no_grad():
        model.gpt_neox.embed_in.weight[44] = 1e30
    rows = [ROWS[2], {"prompt": [1, 44], "answer_ids": [9]}, ROWS[1]]
    table = run(written(tmp_path / "in.jsonl", rows), model)
    assert list(table.error.isna()) == [True, False, True]
    assert "NaN" in table.error[1]
    assert table.epistemic.notna().tolist() == [True, False, True]


def test_a_stopped_run_goes_on(tmp_path: Path, model: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(files, "CHUNK", 2)
    source = written(tmp_path / "in.jsonl", ROWS)
    whole = run(source, model, target=tmp_path / "whole.parquet")
    calls: list[int] = []
    chunk = files._chunk

    def stopped(*arguments: Any) -> pd.DataFrame:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return chunk(*arguments)

    monkeypatch.setattr(files, "_chunk", stopped)
    with pytest.raises(KeyboardInterrupt):
        run(source, model)
    assert not (tmp_path / "in.parquet").exists()
    seen: list[tuple[int, int]] = []
    table = run(source, model, seen=seen)
    assert seen[0] == (2, 5)
    assert seen[-1] == (5, 5)
    assert len(calls) == 4  # the first chunk was not computed again
    pd.testing.assert_frame_equal(table, whole)


def test_parts_of_other_settings_are_not_mixed_in(tmp_path: Path, model: Any) -> None:
    target = tmp_path / "out.parquet"
    lines = files.read(written(tmp_path / "in.jsonl", ROWS[:3]))
    one = finished_parts.folder(target, repr((lines[:2], Settings())))
    assert one == finished_parts.folder(target, repr((lines[:2], Settings())))
    assert one != finished_parts.folder(target, repr((lines[:2], Settings(params="autograd"))))
    assert one != finished_parts.folder(target, repr((lines, Settings())))


@pytest.mark.parametrize(
    ("content", "target", "told"),
    [
        ("", "out.parquet", "has no lines"),
        (b"\xff\xfe", "out.parquet", "is not UTF-8"),
        (None, "out.parquet", "there is no file"),
        ("{}", "out.csv", "must end in .parquet"),
        ("{}", "none/out.parquet", "there is no folder"),
        ("{}", "there.parquet", "exists; remove it or name another"),
    ],
)
def test_files_that_cannot_be_used(
    tmp_path: Path, model: Any, content: str | bytes | None, target: str, told: str
) -> None:
    source = tmp_path / "in.jsonl"
    if content is not None:
        source.write_bytes(content if isinstance(content, bytes) else content.encode())
    (tmp_path / "there.parquet").write_bytes(b"kept")
    with pytest.raises(FileError, match=told):
        run(source, model, target=tmp_path / target)
    assert (tmp_path / "there.parquet").read_bytes() == b"kept"


def test_a_run_whose_model_has_changed_starts_anew(tmp_path: Path, monkeypatch: Any) -> None:
    """Another checkpoint under the same name: no table mixes the two."""
    monkeypatch.setattr(files, "CHUNK", 2)
    source = written(tmp_path / "in.jsonl", ROWS)
    first, second = tiny.model("llama"), tiny.model("llama", seed=1)
    expected = run(source, second, target=tmp_path / "expected.parquet")

    def stop(done: int, of: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    target, settings = tmp_path / "out.parquet", Settings(max_new_tokens=5)
    with pytest.raises(KeyboardInterrupt):
        files.score_file(source, target, settings, lambda: (first, TOKENIZER), stop)
    seen: list[tuple[int, int]] = []
    with pytest.warns(UserWarning, match=r"changed since 2 parts in .* the run starts anew"):
        table = run(source, second, target=target, seen=seen)
    assert seen[0] == (0, 5)
    pd.testing.assert_frame_equal(table, expected)
    assert not list(tmp_path.glob("*.parts"))


def test_parts_belong_to_a_tokenizer_too(tmp_path: Path, model: Any) -> None:
    other = tiny.tokenizer(template=False)
    one = finished_parts.of_model(tmp_path, model, TOKENIZER)
    assert one == finished_parts.of_model(tmp_path, model, tiny.tokenizer())
    assert one != finished_parts.of_model(tmp_path, model, other)


def test_a_torn_part_is_named(tmp_path: Path, model: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(files, "CHUNK", 4)
    source = written(tmp_path / "in.jsonl", ROWS)
    write, torn = files.write_whole, []

    def tear(path: Path, content: bytes) -> None:
        write(path, content[:100] if not torn else content)
        torn.append(path)

    monkeypatch.setattr(files, "write_whole", tear)
    with pytest.raises(FileError, match=r"00000000.parquet is torn .*remove it"):
        run(source, model)
    torn[0].unlink()
    assert run(source, model).error.isna().all()


def test_a_model_that_is_refused_leaves_no_folder(tmp_path: Path) -> None:
    source = written(tmp_path / "in.jsonl", ROWS)
    with pytest.raises(ScoreError, match=r"call model.eval\(\)"):
        run(source, tiny.model("llama").train())
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]
