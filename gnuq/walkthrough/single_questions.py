"""Single questions from the records: answer, verdict, samples, scores and tokens of each."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from gnuq.qa import benchmarks, datasets, study
from gnuq.qa.columns import DIRECTION
from gnuq.qa.token_shares import token_shares
from gnuq.results.question_answering import tables_of

#: Scores by their column. The normalised norms are missing: within one model ‖θ‖² is a constant,
#: so they rank its answers as ‖∇p̄‖² does.
LABELS = {
    "epistemic": "Epistemic ‖∇p̄‖²",
    "length_free": "T‖∇p̄‖²",
    "aleatoric": "Aleatoric, mean p(1 − p)",
    "p_true": "P(True)",
    "semantic_entropy": "Semantic entropy, nats",
    "discrete_semantic_entropy": "Discrete semantic entropy, nats",
    "naive_entropy": "Naive entropy, nats",
    "mean_probability": "Mean probability p̄",
    "mean_log_probability": "Mean log p, nats",
    "length": "Length T",
}
#: Percentiles of uncertainty up to which an answer counts as confident, from which as uncertain.
CONFIDENT, UNCERTAIN = 0.2, 0.8
#: Difference of two percentiles from which two scores are at odds.
APART = 0.6


@dataclass(frozen=True)
class Single:
    """What the records say of one question.

    Attributes:
        model: a key of the study.
        benchmark: likewise.
        id: the question's.
        question: its text; None where the benchmark's file is not at hand.
        accepted: the first of the answers that count as correct; None likewise.
        answer: the model's.
        finished: whether the model ended it within the tokens that it had.
        correct: the verdict; None if undecided.
        evidence: what the verdict rests on, by the criterion's columns.
        reasons: why something is missing, one text each.
        samples: text, cluster (−1: none), mean_log_probability (nats; NaN without a token).
        scores: by column: value, percentile of uncertainty.
        tokens: probability, aleatoric; token, squared_norm and share once `split`.
    """

    model: str
    benchmark: str
    id: str
    question: str | None
    accepted: str | None
    answer: str
    finished: bool
    correct: bool | None
    evidence: dict[str, Any]
    reasons: tuple[str, ...]
    samples: pd.DataFrame
    scores: pd.DataFrame
    tokens: pd.DataFrame


@dataclass(frozen=True)
class Ranked:
    """A run's questions with what the filters ask for; series are indexed by question.

    Attributes:
        table: as `answers_of`.
        rank: percentile of uncertainty by the chosen score.
        samples: the same by semantic entropy.
    """

    table: pd.DataFrame
    rank: pd.Series
    samples: pd.Series

    def judged(self, correct: bool) -> pd.Series:
        """Whether the verdict is this one."""
        return self.table["correct"].eq(correct).fillna(False).astype(bool)


#: Name → a key of each question that is meant; they are shown by rising key.
FILTERS: Mapping[str, Callable[[Ranked], pd.Series]] = {
    "all questions": lambda of: pd.Series(range(len(of.table)), of.table.index),
    "confident and right": lambda of: of.rank[of.judged(True) & (of.rank <= CONFIDENT)],
    "confident and wrong": lambda of: of.rank[of.judged(False) & (of.rank <= CONFIDENT)],
    "uncertain and right": lambda of: -of.rank[of.judged(True) & (of.rank >= UNCERTAIN)],
    "uncertain and wrong": lambda of: -of.rank[of.judged(False) & (of.rank >= UNCERTAIN)],
    "samples disagree": lambda of: -of.samples[of.samples >= UNCERTAIN],
    "samples agree, answer wrong": lambda of: of.rank[of.judged(False) & _one_cluster(of.table)],
    "score and samples at odds": lambda of: _apart(of.rank, of.samples),
    "undecided or incomplete": lambda of: of.rank.fillna(1)[of.table["reasons"].map(len) > 0],
}


@cache
def answers_of(model: str, benchmark: str) -> pd.DataFrame:
    """One row a question, indexed by its id: the columns of every step.

    The criterion's columns are one dictionary, `evidence`; reasons are one tuple, `reasons`.

    Raises:
        ArtefactError: a record is missing or torn.
    """
    steps = {name: table.set_index("id") for name, table in tables_of(model, benchmark).items()}
    evidence = steps["judged"].drop(columns=["correct", "reason"])
    steps["judged"] = steps["judged"][["correct", "reason"]]
    reasons = pd.DataFrame({name: table.pop("reason") for name, table in steps.items()})
    told = [tuple(dict.fromkeys(row[row.notna()])) for _, row in reasons.iterrows()]
    return pd.concat(steps.values(), axis=1).assign(
        evidence=pd.Series(evidence.to_dict("records"), evidence.index, dtype=object),
        reasons=pd.Series(told, reasons.index, dtype=object),
    )


@cache
def percentiles(model: str, benchmark: str) -> pd.DataFrame:
    """Where each answer stands among all of the run: one column a score, by question.

    Returns:
        The share of the answers that the score finds less uncertain; ties, and the answer
        itself, count half. NaN where a score is missing.
    """
    table = answers_of(model, benchmark)[list(LABELS)].astype(float)
    uncertain = table * pd.Series(DIRECTION)[list(LABELS)]
    return (uncertain.rank() - 0.5) / uncertain.count()


def chosen(model: str, benchmark: str, name: str, score: str = "epistemic") -> list[str]:
    """The questions that a filter lets through, most telling first.

    Args:
        model: of a finished run.
        benchmark: likewise.
        name: a key of `FILTERS`.
        score: the column by which answers are confident or uncertain.

    Raises:
        ValueError: no such filter or score.
    """
    for argument, value, known in (("name", name, FILTERS), ("score", score, LABELS)):
        if value not in known:
            raise ValueError(f"{argument}: {value!r} is none of {', '.join(known)}.")
    ranks = percentiles(model, benchmark)
    of = Ranked(answers_of(model, benchmark), ranks[score], ranks["semantic_entropy"])
    return [str(i) for i in FILTERS[name](of).sort_values(kind="stable").index]


def view(model: str, benchmark: str, question: str) -> Single:
    """Everything that the records hold of one question.

    Args:
        model: of a finished run.
        benchmark: likewise.
        question: its id.

    Raises:
        ValueError: the run has no such question.
    """
    table = answers_of(model, benchmark)
    if question not in table.index:
        raise ValueError(f"question: {model} was not asked {question!r} of {benchmark}.")
    row: dict[str, Any] = dict(table.loc[question])
    scores = {"value": row, "percentile": percentiles(model, benchmark).loc[question]}
    text, accepted = _asked(benchmark).get(question, (None, None))
    p = np.exp(np.asarray(row["answer_log_probabilities"], float))
    return Single(
        model=model,
        benchmark=benchmark,
        id=question,
        question=text,
        accepted=accepted,
        answer=row["answer"],
        finished=bool(row["finished"]),
        correct=None if pd.isna(row["correct"]) else bool(row["correct"]),
        evidence=row["evidence"],
        reasons=row["reasons"],
        samples=_samples(row),
        scores=pd.DataFrame(scores, index=list(LABELS), dtype=float),
        tokens=pd.DataFrame({"probability": p, "aleatoric": p * (1 - p)}),
    )


@cache
def split(model: str, benchmark: str, question: str) -> pd.DataFrame:
    """The tokens of one answer with their shares of ‖∇p̄‖²; loads the model (`token_shares`)."""
    ids = answers_of(model, benchmark)["answer_ids"][question]
    return token_shares(study.run(model, benchmark), question, ids)


def _samples(row: Mapping[str, Any]) -> pd.DataFrame:
    means = [np.mean(one) if len(one) else math.nan for one in row["sample_log_probabilities"]]
    return pd.DataFrame(
        {
            "text": list(row["samples"]),
            "cluster": list(row["clusters"]),
            "mean_log_probability": means,
        }
    )


def _one_cluster(table: pd.DataFrame) -> pd.Series:
    return table["clusters"].map(lambda found: len({*found} - {-1}) == 1)


def _apart(one: pd.Series, other: pd.Series) -> pd.Series:
    distance = (one - other).abs()
    return -distance[distance >= APART]


@cache
def _asked(benchmark: str) -> dict[str, tuple[str, str]]:
    """Text and first accepted answer of each question, where the benchmark's file is at hand."""
    if benchmark not in datasets.DATASETS or not datasets.available(benchmark):
        return {}
    table = benchmarks.named(benchmark).read()
    rows = zip(table["id"], table["question"], table["correct"], strict=True)
    return {i: (question, (correct or [""])[0]) for i, question, correct in rows}
