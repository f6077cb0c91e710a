"""A benchmark of one's own: a file of questions and accepted answers, checked before it is used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from gnuq.qa.datasets import DatasetError


def read(path: Path) -> pd.DataFrame:
    """The questions of a file: columns id, question, correct, incorrect.

    Args:
        path: CSV with `; ` between answers, or JSON lines; columns question and correct, perhaps
            id and incorrect.

    Raises:
        DatasetError: not such a file, a column is missing, or a row has a gap or another's id.
    """
    try:
        table = pd.read_csv(path) if path.suffix == ".csv" else pd.read_json(path, lines=True)
    except (ValueError, UnicodeDecodeError) as error:
        raise DatasetError(
            f"--benchmark: {path} is neither CSV nor JSON lines ({error})."
        ) from error
    for column in ("question", "correct"):
        if column not in table:
            there = ", ".join(map(str, table.columns)) or "none"
            raise DatasetError(
                f"--benchmark: {path} has no column {column!r} (there are {there}); it needs "
                "question and correct."
            )
    incorrect: Any = table["incorrect"] if "incorrect" in table else [[]] * len(table)
    found = pd.DataFrame(
        {
            "id": table["id"].astype(str) if "id" in table else [str(i) for i in range(len(table))],
            "question": table["question"].map(_text),
            "correct": [answers(given) for given in table["correct"]],
            "incorrect": [answers(given) for given in incorrect],
        }
    )
    _must_be_whole(path, found)
    return found


def _must_be_whole(path: Path, table: pd.DataFrame) -> None:
    """Refuse a benchmark with a question or its answers missing, or with an id twice."""
    for column, told in (("question", "no question"), ("correct", "no correct answer")):
        empty = table[~table[column].map(bool)]
        if len(empty):
            row = empty.index[0] + 1
            raise DatasetError(f"--benchmark: {path}, row {row} has {told}; complete or remove it.")
    if table["id"].duplicated().any():
        twice = table["id"][table["id"].duplicated()].iloc[0]
        raise DatasetError(f"--benchmark: {path} has the id {twice!r} twice; make ids unique.")


def _text(given: Any) -> str:
    return given.strip() if isinstance(given, str) else ""


def answers(given: Any) -> list[str]:
    """A list of answers, or a text with `; ` between them."""
    if isinstance(given, float):  # an empty cell
        return []
    parts = given.split(";") if isinstance(given, str) else list(given)
    return [text for part in parts if (text := str(part).strip())]
