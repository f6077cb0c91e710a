"""Tables from the sweep over transformers' classes: exact, refused, not built."""

from __future__ import annotations

import re

import pandas as pd

from gnuq import artefacts

NAME = "exact-classes"
#: In the order of a reader's interest.
VERDICTS = ("exact", "wrong", "refused", "not built")
TASKS = ("language model", "text classifier", "image classifier", "audio classifier")


def outcomes() -> pd.DataFrame:
    """One row a class: see `gnuq.architectures.outcomes.Outcome`.

    Some classes stand in transformers' tables with several configurations; the worst verdict on
    one that was built counts.
    """
    found = artefacts.load("results", NAME).frame.fillna({"sentence": ""})
    order = found["verdict"].map({"wrong": 0, "refused": 1, "exact": 2, "not built": 3})
    return (
        found.loc[order.sort_values(kind="stable").index]
        .drop_duplicates(["task", "name"])
        .sort_index()
        .reset_index(drop=True)
    )


def release() -> str:
    """The version of transformers that was swept."""
    return str(outcomes()["transformers"].iloc[0])


def counts() -> pd.DataFrame:
    """How many classes of each task came out how; of the exact ones, how many in batches."""
    found = outcomes()
    table = pd.crosstab(found["task"], found["verdict"])
    table = table.reindex(index=list(TASKS), columns=list(VERDICTS), fill_value=0)
    exact = found[found["verdict"] == "exact"]
    table.insert(1, "of them in batches", exact[exact["batch"] > 1]["task"].value_counts())
    table["of them in batches"] = table["of them in batches"].fillna(0).astype(int)
    return table.rename_axis(index=None, columns=None)


def exact() -> pd.DataFrame:
    """The classes that are exact, by task: in batches, and one example at a time."""
    found = outcomes()
    found = found[found["verdict"] == "exact"]
    found = found.assign(how=found["batch"].gt(1).map({True: "in batches", False: "one at a time"}))
    table = found.pivot_table(
        "name", "task", "how", aggfunc=lambda group: ", ".join(sorted(group)), fill_value="–"
    )
    table = table.reindex(index=list(TASKS), columns=["in batches", "one at a time"])
    return table.fillna("–").rename_axis(index=None, columns=None)


def refused() -> pd.DataFrame:
    """The classes that are refused, with the sentence that says why."""
    return _sentences("refused")


def not_built() -> pd.DataFrame:
    """The classes of which there is no small random model, with transformers' own reason."""
    return _sentences("not built")


def _sentences(verdict: str) -> pd.DataFrame:
    found = outcomes()
    found = found[found["verdict"] == verdict].set_index("name")
    sentences = found["sentence"].map(lambda text: re.sub(r"^\w+Error: ", "", text))
    return sentences.to_frame().rename_axis(index=None)
