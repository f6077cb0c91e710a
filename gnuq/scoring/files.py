"""Score a file of questions and answers: resumable, one bad row does not stop the rest.

Each line of the input is a JSON object with one of `question` (asked as Q: … A:), `prompt` (a
text, or token ids) or `messages` (a chat), and one of `answer` (a text) or `answer_ids`; without
either, the model's own greedy answer is scored. An `id` is kept. The output is a parquet table
with one row a line, in order, and a column `error` for lines that could not be scored.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from gnuq.artefacts.files import parquet, write_whole
from gnuq.language_models import texts
from gnuq.scoring import finished_parts, models
from gnuq.scoring.attempts import attempted
from gnuq.scoring.errors import ExampleError, FileError
from gnuq.scoring.examples import Encoder, Example
from gnuq.scoring.exclusive import exclusive
from gnuq.scoring.own_answers import greedy
from gnuq.scoring.questions import asked
from gnuq.scoring.settings import Settings

#: Lines that are scored, and kept, together.
CHUNK = 256


@dataclass(frozen=True)
class Line:
    """One line of the input: its number, from 1, and what it holds, or why it cannot be read."""

    number: int
    told: dict[str, Any]
    error: str | None = None


def read(path: Path) -> list[Line]:
    """The lines of a JSONL file; empty lines are passed over.

    Raises:
        FileError: no such file, not UTF-8, or no lines.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise FileError(f"--input: there is no file {path}.") from error
    except OSError as error:
        raise FileError(f"--input: {path} cannot be read ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise FileError(f"--input: {path} is not UTF-8 ({error}); save it as UTF-8.") from error
    lines = [_line(i, row) for i, row in enumerate(text.split("\n"), 1) if row.strip()]
    if not lines:
        raise FileError(f"--input: {path} has no lines; give one JSON object a line.")
    return lines


def _line(number: int, row: str) -> Line:
    try:
        told = json.loads(row)
    except (ValueError, RecursionError) as error:
        return Line(number, {}, f"no JSON: {error}")
    if not isinstance(told, dict):
        return Line(number, {}, 'no JSON object; write {"question": …, "answer": …}')
    for key in ("answer", "answer_ids"):
        if key in told and told[key] is None:
            return Line(number, told, f"its {key} is null; leave it out to score the model's own")
    told = {key: value for key, value in told.items() if value is not None}
    prompts = [key for key in ("question", "prompt", "messages") if key in told]
    if len(prompts) != 1:
        return Line(number, told, "it needs exactly one of question, prompt, messages")
    if "answer" in told and "answer_ids" in told:
        return Line(number, told, "it has both answer and answer_ids; keep one")
    return Line(number, told)


def score_file(
    source: Path,
    target: Path,
    settings: Settings,
    load: Callable[[], tuple[Any, Any]],
    progress: Callable[[int, int], None],
) -> pd.DataFrame:
    """Score every line of a file and save the table; a run that was stopped goes on.

    Args:
        source: the input, JSON lines.
        target: the output, parquet.
        settings: how to score.
        load: loads the model and its tokenizer.
        progress: called with the numbers of lines done and of all.

    Returns:
        The table: `line`, `id`, the scores, `answer`, `error`.

    Raises:
        FileError: the input cannot be read, or the output exists or is no parquet file.
    """
    lines = read(source)
    if target.suffix != ".parquet":
        raise FileError(f"--output: {target} must end in .parquet.")
    if target.exists():
        raise FileError(f"--output: {target} exists; remove it or name another file.")
    if not target.parent.is_dir():
        raise FileError(f"--output: there is no folder {target.parent}.")
    parts = finished_parts.folder(target, repr((lines, settings)))
    with finished_parts.alone(parts):
        try:
            table = _scored(lines, parts, settings, load(), progress)
            write_whole(target, parquet(table))
        finally:
            if target.exists() or not any(parts.glob("*.parquet")):
                shutil.rmtree(parts)
    return table


def _scored(
    lines: list[Line],
    parts: Path,
    settings: Settings,
    loaded: tuple[Any, Any],
    progress: Callable[[int, int], None],
) -> pd.DataFrame:
    """All rows, from parts that one model has scored."""
    models.right_kinds(*loaded)
    with exclusive(loaded[0]):
        models.ready(*loaded)
        paths = _paths(lines, parts / finished_parts.of_model(parts, *loaded))
        _finish(lines, paths, settings, loaded, progress)
    return pd.concat([finished_parts.read(path) for path in paths], ignore_index=True)


def _paths(lines: list[Line], start: Path) -> list[Path]:
    """The files of all parts, whose names begin alike."""
    firsts = range(0, len(lines), CHUNK)
    return [start.with_name(f"{start.name}-{first:08d}.parquet") for first in firsts]


def _finish(
    lines: list[Line],
    paths: list[Path],
    settings: Settings,
    loaded: tuple[Any, Any],
    progress: Callable[[int, int], None],
) -> None:
    chunks = [lines[first : first + CHUNK] for first in range(0, len(lines), CHUNK)]
    missing = [(c, p) for c, p in zip(chunks, paths, strict=True) if not p.exists()]
    done = len(lines) - sum(len(chunk) for chunk, _ in missing)
    progress(done, len(lines))
    for chunk, path in missing:
        write_whole(path, parquet(_chunk(*loaded, chunk, settings)))
        done += len(chunk)
        progress(done, len(lines))


def _chunk(model: Any, tokenizer: Any, lines: list[Line], settings: Settings) -> pd.DataFrame:
    """The rows of some lines."""
    ends = frozenset(texts.ends(model, tokenizer))
    encoder = Encoder(tokenizer, chat=settings.chat, end=settings.end, ends=ends)
    wrong = {line.number: line.error for line in lines if line.error is not None}
    examples: dict[int, Example] = {}
    waiting: dict[int, tuple[int, ...]] = {}
    whole = [line for line in lines if line.error is None]
    for line in whole:
        try:
            prompt, answer = asked(line.told, settings.chat)
            if answer is None:
                waiting[line.number] = encoder.prompt(prompt)
            else:
                examples[line.number] = encoder.encode(prompt, answer)
        except ExampleError as error:
            wrong[line.number] = error.reason
    own, failed = greedy(model, tokenizer, waiting, settings.max_new_tokens)
    rows, unscored = attempted(model, tokenizer, examples | own, settings)
    return _table(lines, rows.rename_axis("line").reset_index(), wrong | failed | unscored)


def _table(lines: list[Line], rows: pd.DataFrame, wrong: dict[int, str]) -> pd.DataFrame:
    frame = pd.DataFrame(
        {
            "line": [line.number for line in lines],
            "id": pd.array([_id(line.told) for line in lines], dtype="string"),
            "error": pd.array([wrong.get(line.number) for line in lines], dtype="string"),
        }
    )
    return frame if rows.empty else frame.merge(rows, on="line", how="left")


def _id(told: dict[str, Any]) -> str | None:
    """As text; half of a surrogate pair becomes a question mark."""
    found = told.get("id")
    return None if found is None else str(found).encode("utf-8", "replace").decode()
