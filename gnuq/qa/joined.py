"""The finished steps as one table to evaluate, with an account of every question that is not in it.

The paper's counts fall from 817 questions to 501 and 455 for two of its models (Table 14), without
a word; here a question leaves for a reason, and the reasons are counted.
"""

from __future__ import annotations

import pandas as pd

from gnuq.qa.p_true import choose_demonstrations
from gnuq.qa.settings import Run
from gnuq.qa.steps import EMPTY, SCORES, Tables

BASELINES = ("naive_entropy", "semantic_entropy", "discrete_semantic_entropy", "p_true")
DEMONSTRATION = "it demonstrates P(True)"
UNDECIDED = "the judge is undecided"
UNSCORED = "no gradient norm"
FEW = "too few samples have a token"
UNBELIEVED = "no P(True)"


def joined(run: Run, tables: Tables) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One row a question that has everything, and why the others are left out.

    Args:
        run: which.
        tables: of its steps.

    Returns:
        The table, columns id, correct (bool) and every score; and id, reason of those left out.
    """
    frame = tables["judged"][["id", "correct"]].copy()
    for name, columns in (("baselines", BASELINES), ("scores", SCORES)):
        frame = frame.merge(tables[name][["id", *columns]], on="id", how="left", validate="1:1")
    demonstrations = choose_demonstrations(
        tables["judged"], run.demonstrations(len(frame)), run.settings.seed
    )
    empty = tables["answers"].set_index("id").loc[frame["id"], "answer_ids"].map(len) == 0
    reason = pd.Series(pd.NA, index=frame.index, dtype="string")
    for told, holds in (
        (EMPTY, empty.to_numpy()),
        (UNDECIDED, frame["correct"].isna()),
        (DEMONSTRATION, frame["id"].isin(demonstrations)),
        (UNSCORED, frame["epistemic"].isna()),
        (FEW, frame["naive_entropy"].isna()),
        (UNBELIEVED, frame["p_true"].isna()),
    ):
        reason = reason.mask(reason.isna() & holds, told)
    kept = frame[reason.isna()].astype({"correct": bool}).reset_index(drop=True)
    dropped = pd.DataFrame({"id": frame["id"], "reason": reason})[reason.notna()]
    return kept, dropped.reset_index(drop=True)


def counted(dropped: pd.DataFrame) -> dict[str, int]:
    """How many questions were left out, by reason."""
    return {str(reason): int(n) for reason, n in dropped["reason"].value_counts().items()}
