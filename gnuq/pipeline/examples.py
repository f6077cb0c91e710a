"""The record of the answers that the website quotes, each with its tokens' shares of ‖∇p̄‖².

It is the one record that holds questions' texts: one of each kind and benchmark, as quotations.
The rule that chooses them looks at scores and verdicts only.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from gnuq import artefacts
from gnuq.language_models import find
from gnuq.pipeline.comparisons import significant
from gnuq.qa import benchmarks, study
from gnuq.qa.joined import joined
from gnuq.qa.steps import STEPS
from gnuq.qa.token_shares import token_shares
from gnuq.qa.tools import tools
from gnuq.results.question_answering import tables_of
from gnuq.walkthrough.quoted_answers import EXAMPLES

#: Whose answers are quoted: the model that everybody can run.
MODEL = "smollm2-135m"
#: The score by which an answer is confident (least of all) or uncertain (most of all).
SCORE = "epistemic"
#: Kind → verdict, and whether the score is the largest among such answers or the least.
CORNERS = {
    "confident and right": (True, False),
    "confident and wrong": (False, False),
    "uncertain and right": (True, True),
    "uncertain and wrong": (False, True),
}
#: The kind whose ranks by the score and by semantic entropy lie furthest apart.
AT_ODDS = "score and samples at odds"
#: Answers of each benchmark that a replay splits again.
REPLAYED = 1


def finished() -> bool:
    """Whether the runs are there from which the answers are taken."""
    return all((MODEL, benchmark) in study.FINISHED for benchmark in study.BENCHMARKS)


def described() -> dict[str, Any]:
    """What the stage says of itself: outputs, entries, configuration, inputs, model, dataset."""
    run = study.run(MODEL, study.BENCHMARKS[0])
    found = find(run.model)
    steps = [study.record(MODEL, name, step) for name in study.BENCHMARKS for step in STEPS]
    return {
        "outputs": (f"records/{EXAMPLES}",),
        "entries": (f"{__name__}.example_tokens",),
        "configuration": {"model": MODEL, "score": SCORE, "kinds": [*CORNERS, AT_ODDS]},
        "inputs": tuple(f"records/{name}" for name in steps),
        "tolerance": {"largest difference": 1e-3},
        "dtype": run.dtype or found.dtype,
        "model": f"{found.name} ({found.repository}, {found.revision})",
        "dataset": "; ".join(benchmarks.named(name).revision for name in study.BENCHMARKS),
    }


def choose(table: pd.DataFrame) -> dict[str, str]:
    """One answer for each kind.

    Args:
        table: evaluated answers of one model and benchmark, indexed by question: correct, the
            score, semantic_entropy.

    Returns:
        Kind → question; the first of equals.

    Raises:
        ValueError: fewer than three right or three wrong answers.
    """
    if table["correct"].value_counts().reindex([True, False], fill_value=0).min() < 3:
        raise ValueError("table: fewer than 3 right or 3 wrong answers; answer more questions.")
    score, found = table[SCORE], {}
    for kind, (correct, largest) in CORNERS.items():
        those = score[table["correct"] == correct]
        found[kind] = str(those.idxmax() if largest else those.idxmin())
    apart = (score.rank(pct=True) - table["semantic_entropy"].rank(pct=True)).abs()
    return found | {AT_ODDS: str(apart.drop(list(found.values())).idxmax())}


def example_tokens(limit: int | None = None) -> pd.DataFrame:
    """The record: one row a token of each quoted answer.

    Only answers are quoted that the model ended by itself: a text that breaks off at the limit
    says little to a reader.

    Args:
        limit: kinds of each benchmark, from the first; all if omitted.

    Returns:
        kind, model, benchmark, id, question, accepted (the first accepted answer), and the
        columns of `token_shares`.
    """
    parts = []
    for benchmark in study.BENCHMARKS:
        tables = tables_of(MODEL, benchmark)
        evaluated, _ = joined(study.run(MODEL, benchmark), tables)
        answers = tables["answers"].set_index("id")
        ended = answers.loc[answers["finished"], ["answer_ids"]]
        table = evaluated.set_index("id").join(ended, how="inner")
        for kind, i in list(choose(table).items())[:limit]:
            parts.append(_quotation(benchmark, kind, i, table["answer_ids"][i]))
    return significant(pd.concat(parts, ignore_index=True))


def replayed() -> tuple[pd.DataFrame, pd.DataFrame]:
    """The saved rows of a few answers, and the same computed again."""
    saved, new = artefacts.load("records", EXAMPLES).frame, example_tokens(REPLAYED)
    there = saved.set_index(["benchmark", "kind"]).index
    again = new.set_index(["benchmark", "kind"]).index
    return saved[there.isin(again)].reset_index(drop=True), new


def _quotation(benchmark: str, kind: str, i: str, answer_ids: list[int]) -> pd.DataFrame:
    run = study.run(MODEL, benchmark)
    asked = tools(run).questions[i]
    told = {
        "kind": kind,
        "model": MODEL,
        "benchmark": benchmark,
        "id": i,
        "question": asked.question,
        "accepted": asked.correct[0],
    }
    shares = token_shares(run, i, answer_ids)
    return pd.DataFrame(told, index=shares.index).join(shares)
