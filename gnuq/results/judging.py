"""How far the judge of the records agrees with verdicts by hand (Appendix G.3)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from gnuq import artefacts
from gnuq.qa import study
from gnuq.qa.agreement import agreement
from gnuq.qa.discrimination import plain_auroc

#: Verdicts by hand on answers of the records, as text: a table to open in any editor.
BY_HAND = artefacts.ROOT / "data" / "qa_by_hand.csv"
KEYS = ["model", "benchmark", "id"]
#: What a verdict was for: choosing the judge's least cosine, or checking the judge.
USES = ("threshold", "check")
#: How a verdict is written; an empty cell is one that could not be reached by hand either.
VERDICTS: dict[str, Any] = {"true": True, "1": True, "false": False, "0": False, "": pd.NA}
#: The row over both benchmarks.
ALL = "both"


def by_hand(path: Path | None = None) -> pd.DataFrame:
    """The verdicts by hand.

    Args:
        path: a CSV file with columns model, benchmark, id, use (one of `USES`), correct; `BY_HAND`
            if omitted.

    Returns:
        Those columns; id as text, correct as "boolean", missing where the cell is empty.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a column is missing, a verdict or a use is none, or an answer stands twice.
    """
    path = path or BY_HAND
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: there are no verdicts by hand; restore the file from git, or write one with "
            "the columns model, benchmark, id, use, correct."
        )
    table = pd.read_csv(path, dtype="string", keep_default_na=False)
    for name in (*KEYS, "use", "correct"):
        if name not in table:
            raise ValueError(f"{path.name}: it has no column {name!r}.")
    told = table["correct"].str.strip().str.lower()
    if not (known := told.isin(VERDICTS)).all():
        raise ValueError(
            f"{path.name}: {table['correct'][~known].iloc[0]!r} is no verdict; write true or "
            "false, or leave the cell empty."
        )
    if not (known := table["use"].isin(USES)).all():
        raise ValueError(
            f"{path.name}: {table['use'][~known].iloc[0]!r} is no use; write {' or '.join(USES)}."
        )
    if (twice := table.duplicated(KEYS)).any():
        raise ValueError(f"{path.name}: {_named(table[twice])} stands there twice.")
    correct = told.map(VERDICTS).astype("boolean")
    return table[[*KEYS, "use"]].astype(object).assign(correct=correct)


def verdicts() -> pd.DataFrame:
    """The judge's verdicts in every finished run: model, benchmark, id, correct."""
    parts = []
    for model, benchmark in study.FINISHED:
        name = study.record(model, benchmark, "judged")
        found = artefacts.load("records", name).frame[["id", "correct"]]
        parts.append(found.assign(model=model, benchmark=benchmark)[[*KEYS, "correct"]])
    return pd.concat(parts, ignore_index=True)


def agreements(
    judged: pd.DataFrame | None = None, hand: pd.DataFrame | None = None
) -> pd.DataFrame:
    """The judge against verdicts by hand, on each benchmark and on both.

    Args:
        judged: the judge's verdicts; `verdicts()` if omitted.
        hand: those by hand; if omitted, those of `by_hand()` that check it, and not those by which
            its least cosine was chosen.

    Returns:
        benchmark (or "both") and what `gnuq.qa.agreement.agreement` tells of it.

    Raises:
        ValueError: an answer checked by hand is in no record; or as `agreement`.
    """
    judged = verdicts() if judged is None else judged
    if hand is None:
        read = by_hand()
        hand = read[read["use"] == "check"]
    unknown = hand[~_keyed(hand)["id"].isin(_keyed(judged)["id"])]
    if len(unknown):
        raise ValueError(
            f"hand: {_named(unknown)} is in no record ({len(unknown)} such in all); take answers "
            "of finished runs, with the ids of their records."
        )
    rows = []
    for name in [*hand["benchmark"].unique(), ALL]:
        part = hand if name == ALL else hand[hand["benchmark"] == name]
        rows.append({"benchmark": name, **agreement(_keyed(judged), _keyed(part))})
    return pd.DataFrame(rows)


def scores_by_hand(table: pd.DataFrame, hand: pd.DataFrame | None = None) -> pd.DataFrame:
    """AUROC of every raw score under verdicts by hand, and under the judge's of the same answers.

    Args:
        table: the joined table.
        hand: verdicts by hand; all of `by_hand()` if omitted.

    Returns:
        benchmark, verdicts ("by hand" or "the judge's"), and what `discrimination.plain_auroc`
        tells of each score.
    """
    hand = by_hand() if hand is None else hand
    decided = hand.dropna(subset=["correct"]).rename(columns={"correct": "by_hand"})
    both = table.merge(decided[[*KEYS, "by_hand"]], on=KEYS, validate="1:1")
    parts = []
    for benchmark, part in both.groupby("benchmark", sort=False):
        for verdicts, column in (("by hand", "by_hand"), ("the judge's", "correct")):
            found = plain_auroc(part.assign(correct=part[column].astype(bool)))
            parts.append(found.assign(benchmark=benchmark, verdicts=verdicts))
    return pd.concat(parts, ignore_index=True)


def _keyed(table: pd.DataFrame) -> pd.DataFrame:
    """The same with ids that are unique over models and benchmarks."""
    return table.assign(id=table[KEYS].astype(str).agg("/".join, axis=1))


def _named(table: pd.DataFrame) -> str:
    return "/".join(table[KEYS].iloc[0])
