"""`python -m gnuq.architectures [MODEL TYPE …]`: the sweep with the transformers that is installed.

Exit status 1 if any class is wrong; with the table's version of transformers or a later one also if
a class is exact no more.
"""

from __future__ import annotations

import sys

import pandas as pd

from gnuq import artefacts
from gnuq.architectures.sweep import sweep

NAME = "exact-classes"
KEY = ["task", "family", "name"]


def lost(found: pd.DataFrame, saved: pd.DataFrame) -> pd.DataFrame:
    """The rows that are wrong, or that were exact before and still exist, but are exact no more."""
    before = saved[saved["verdict"] == "exact"][KEY].assign(before=True)
    both = found.merge(before, on=KEY, how="left")
    worse = (both["verdict"] != "exact") & both["before"].eq(True)
    return both[(both["verdict"] == "wrong") | worse].drop(columns="before")


def main(only: list[str]) -> int:
    """Sweep, print, compare with the book's table."""
    import transformers
    from packaging.version import Version

    found = sweep(only or None)
    print(found[["task", "verdict"]].value_counts().sort_index().to_string())
    print(found[found["verdict"] != "exact"].drop(columns="difference").to_string(index=False))
    saved = artefacts.load("results", NAME).frame
    worse = found[found["verdict"] == "wrong"]
    if Version(transformers.__version__) >= Version(saved["transformers"].iloc[0]):
        worse = lost(found, saved)
    if len(worse):
        print(f"transformers {transformers.__version__}: wrong, or exact no more")
        print(worse.to_string())
    return int(len(worse) > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
