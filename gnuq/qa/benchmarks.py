"""The benchmarks of §4.2: questions with the answers that count as correct, and those that do not.

TruthfulQA and TriviaQA come from the folder in `GNUQ_DATA`, or from the Hugging Face hub; a file
of one's own is a benchmark too. Texts are never saved with results: a record names a question by
its id.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from gnuq import artefacts
from gnuq.qa import datasets, own_questions
from gnuq.qa.datasets import DatasetError
from gnuq.qa.own_questions import answers

Criterion = Literal["alias", "similarity"]
COLUMNS = ("id", "question", "correct", "incorrect")
#: The questions of TriviaQA that the records answer.
CHOSEN = artefacts.ROOT / "data" / "triviaqa_ids.txt"


@dataclass(frozen=True)
class Benchmark:
    """Questions, and how their answers are judged without a judge model.

    Attributes:
        name: what the command line and the records call it.
        revision: name and checksum of its content, for provenance.
        criterion: alias: an accepted answer stands in the given one; similarity: it is close to
            a correct reference, and closer than to any incorrect one.
        read: its questions, columns as `COLUMNS`.
    """

    name: str
    revision: str
    criterion: Criterion
    read: Callable[[], pd.DataFrame]


@dataclass(frozen=True)
class _Published:
    """Where a benchmark can be had when its file is not at hand.

    Attributes:
        repository: on the Hugging Face hub.
        file: in the repository.
        content: digest of its questions and answers (`digest`), whatever the file's format.
        rows: from the downloaded file to `COLUMNS`.
    """

    repository: str
    file: str
    content: str
    rows: Callable[[Path], pd.DataFrame]


def named(name: str) -> Benchmark:
    """A benchmark by its name, or a file of one's own.

    A file is JSON lines, or CSV with `; ` between answers, with columns `question` and `correct`
    (accepted answers) and perhaps `id` and `incorrect`.

    Raises:
        DatasetError: there is neither.
    """
    if name in BENCHMARKS:
        return BENCHMARKS[name]
    path = Path(name).expanduser()
    if not path.is_file():
        raise DatasetError(
            f"--benchmark: {name!r} is none of {', '.join(BENCHMARKS)}, and no file; a file of "
            "your own has the columns question and correct."
        )
    table = own_questions.read(path)
    criterion: Criterion = "similarity" if table["incorrect"].map(bool).all() else "alias"
    revision = f"{path.stem} {digest(table)[:12]}"
    return Benchmark(path.stem, revision, criterion, lambda: table)


def digest(table: pd.DataFrame) -> str:
    """SHA-256 of questions and answers, whatever file they came from: order of answers, a full
    stop at an answer's end and white space do not count.
    """
    columns = (table[name] for name in COLUMNS)
    rows = [
        [str(i), question.strip(), _plain(correct), _plain(incorrect)]
        for i, question, correct, incorrect in zip(*columns, strict=True)
    ]
    return hashlib.sha256(json.dumps(rows, ensure_ascii=False).encode()).hexdigest()


def _plain(answers: list[str]) -> list[str]:
    return sorted({text.strip().removesuffix(".") for text in answers if text.strip()})


def _read(name: str, rows: Callable[[bytes], pd.DataFrame], published: _Published) -> pd.DataFrame:
    """The saved file if it is there or was promised, else what the hub has."""
    dataset = datasets.DATASETS[name]
    if datasets.available(name) or os.environ.get("GNUQ_DATA"):
        return rows(datasets.content(dataset))
    table = published.rows(_downloaded(name, published))
    if (found := digest(table)) != published.content:
        raise DatasetError(
            f"{name}: {published.repository} now has other questions or answers (digest "
            f"{found[:12]}…, not {published.content[:12]}…), and the records would not match. Get "
            f"{dataset.file} from {dataset.home} and set GNUQ_DATA to its folder."
        )
    return table


def _downloaded(name: str, published: _Published) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        found = hf_hub_download(published.repository, published.file, repo_type="dataset")
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        dataset = datasets.DATASETS[name]
        raise DatasetError(
            f"{name}: cannot download {published.file} from {published.repository} ({error}). Try "
            f"again with a network, or put {dataset.file} ({dataset.home}) into a folder and set "
            "GNUQ_DATA to it."
        ) from error
    return Path(found)


def _truthfulqa(content: bytes) -> pd.DataFrame:
    table = pd.read_csv(io.BytesIO(content))
    return _truthful(table["Question"], table["Correct Answers"], table["Incorrect Answers"])


def _truthfulqa_on_the_hub(path: Path) -> pd.DataFrame:
    table = pd.read_parquet(path)
    return _truthful(table["question"], table["correct_answers"], table["incorrect_answers"])


def _truthful(questions: Any, correct: Any, incorrect: Any) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "id": [str(i) for i in range(len(questions))],
            "question": [text.strip() for text in questions],
            "correct": [answers(given) for given in correct],
            "incorrect": [answers(given) for given in incorrect],
        }
    )


def _triviaqa(content: bytes) -> pd.DataFrame:
    rows = [json.loads(line) for line in content.decode().splitlines()]
    return pd.DataFrame(
        {
            "id": [row["id"] for row in rows],
            "question": [_unquoted(row["question"].strip()) for row in rows],
            "correct": [answers(row["golden_answers"]) for row in rows],
            "incorrect": [[] for _ in rows],
        }
    )


def _triviaqa_on_the_hub(path: Path) -> pd.DataFrame:
    """The chosen questions, in the order of their list."""
    wanted = CHOSEN.read_text().split()
    table = _triviaqa(path.read_bytes()).set_index("id", drop=False)
    return table.loc[[i for i in wanted if i in table.index]].reset_index(drop=True)


def _unquoted(text: str) -> str:
    """Without the quotation marks of a CSV cell, which some questions have kept."""
    inner = text[1:-1]
    kept = text[:1] == text[-1:] == '"' and '"' not in inner.replace('""', "")
    return inner.replace('""', '"') if kept else text


BENCHMARKS = {
    "truthfulqa": Benchmark(
        "truthfulqa",
        datasets.DATASETS["truthfulqa"].revision,
        "similarity",
        lambda: _read(
            "truthfulqa",
            _truthfulqa,
            _Published(
                "truthfulqa/truthful_qa",
                "generation/validation-00000-of-00001.parquet",
                "63da1b500c146657f1a070f3f5290d011580135fa9155570e342e66933e35ff6",
                _truthfulqa_on_the_hub,
            ),
        ),
    ),
    "triviaqa": Benchmark(
        "triviaqa",
        datasets.DATASETS["triviaqa"].revision,
        "alias",
        lambda: _read(
            "triviaqa",
            _triviaqa,
            _Published(
                "RUC-NLPIR/FlashRAG_datasets",
                "triviaqa/test.jsonl",
                "da7cd30f701192564b20c97ec1418b6d628b812de67712d2bbd2e0da33ce0db0",
                _triviaqa_on_the_hub,
            ),
        ),
    ),
}
