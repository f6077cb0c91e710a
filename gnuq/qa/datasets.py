"""The questions of the benchmarks, from the folder in `GNUQ_DATA` or from `data/raw`.

The texts are other people's work and are not part of this repository; records name a question by
its id and hold only what our own runs produced.
"""

from __future__ import annotations

import hashlib
import io
import os
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from gnuq import artefacts


class DatasetError(RuntimeError):
    """A data set is missing, or not the file that the records were made from."""


@dataclass(frozen=True)
class Dataset:
    """One file of questions.

    Attributes:
        name: what the command line and the records call it.
        file: the file's name in the data folder.
        sha256: of its bytes.
        home: where it can be had.
    """

    name: str
    file: str
    sha256: str
    home: str

    @property
    def revision(self) -> str:
        """Name and checksum, for provenance."""
        return f"{self.name} {self.sha256[:12]}"


DATASETS = {
    one.name: one
    for one in (
        Dataset(
            "truthfulqa",
            "truthfulqa.csv",
            "99d6ae7755e3b435eade956068c9de7c0c474770344237aeb66b56519ba4b697",
            "https://github.com/sylinrl/TruthfulQA (TruthfulQA.csv)",
        ),
        Dataset(
            "triviaqa",
            "triviaqa_1000.jsonl",
            "4a46971e676400b102885b4690f26014cbfed71d6d9785f134b22182170e58e3",
            "https://huggingface.co/datasets/RUC-NLPIR/FlashRAG_datasets (triviaqa/test.jsonl, "
            "the 1 000 questions of data/triviaqa_ids.txt)",
        ),
    )
}


def folder() -> Path:
    """Where data sets lie: `GNUQ_DATA`, or `data/raw`."""
    chosen = os.environ.get("GNUQ_DATA")
    return Path(chosen).expanduser() if chosen else artefacts.ROOT / "data" / "raw"


def available(name: str) -> bool:
    """Whether the file of a data set is there."""
    return (folder() / DATASETS[name].file).is_file()


def truthfulqa() -> pd.DataFrame:
    """TruthfulQA's 817 questions: columns `id` (the row, from 0) and `question`.

    Raises:
        DatasetError: the file is missing or another one.
    """
    table = pd.read_csv(io.BytesIO(content(DATASETS["truthfulqa"])))
    return pd.DataFrame({"id": range(len(table)), "question": table["Question"].str.strip()})


def content(dataset: Dataset) -> bytes:
    """The bytes of a data set's file.

    Raises:
        DatasetError: the file is missing or another one.
    """
    path = folder() / dataset.file
    try:
        found = path.read_bytes()
    except FileNotFoundError as error:
        raise DatasetError(
            f"{dataset.name}: there is no {path}. Get it from {dataset.home}, save it as "
            f"{dataset.file} in a folder, and set GNUQ_DATA to that folder."
        ) from error
    checksum = hashlib.sha256(found).hexdigest()
    if checksum != dataset.sha256:
        raise DatasetError(
            f"{dataset.name}: {path} has the checksum {checksum[:12]}…, not "
            f"{dataset.sha256[:12]}…: it is another version of the file, and the records would "
            "not match."
        )
    return found
