"""Whether an answer is correct, by criteria that need no judge model.

Appendix G.3 asks a language model (`gnuq.qa.judge_model`). Here an answer is compared with the
references by words (TriviaQA) or by a sentence encoder (TruthfulQA).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gnuq.qa.embeddings import Encoder, added
from gnuq.qa.words import normalised

#: The least cosine with a correct reference that counts as its meaning: below it an answer is only
#: less far from the correct references than from the incorrect ones. Chosen on the verdicts by
#: hand that say "threshold" in data/qa_by_hand.csv.
LEAST_COSINE = 0.5
BLANK = "the answer is blank"
NO_REFERENCES = "the benchmark has no {} answers to this question"


@dataclass(frozen=True)
class Verdict:
    """What a criterion says of one answer.

    Attributes:
        correct: whether it is; None if undecided.
        reason: why it is undecided; None if it is not.
        evidence: what the verdict rests on, by the columns' names; never a text of the benchmark.
    """

    correct: bool | None
    reason: str | None
    evidence: dict[str, Any]

    def as_row(self) -> dict[str, Any]:
        """Its columns in the table of verdicts."""
        return {"correct": self.correct, "reason": self.reason, **self.evidence}


def alias_match(answer: str, aliases: Sequence[str]) -> bool:
    """Whether one of the aliases stands in an answer as whole words, spelling aside.

    Looser than the exact match of TriviaQA's own evaluation, because models answer in sentences:
    "it was Paris, not Rome" matches both cities.

    Args:
        answer: what the model said.
        aliases: what counts as correct.
    """
    said = f" {normalised(answer)} "
    return any(words and f" {words} " in said for words in map(normalised, aliases))


def by_alias(answer: str, correct: Sequence[str]) -> Verdict:
    """Correct if an accepted answer stands in the given one (`alias_match`).

    Args:
        answer: what the model said.
        correct: the accepted answers.

    Returns:
        The verdict; its evidence is `matches`, the number of accepted answers that stand there.
    """
    if reason := undecided(answer, correct=correct):
        return Verdict(None, reason, {"matches": 0})
    matches = sum(alias_match(answer, [one]) for one in correct)
    return Verdict(matches > 0, None, {"matches": matches})


def by_similarity(
    encoder: Encoder, question: str, answer: str, correct: Sequence[str], incorrect: Sequence[str]
) -> Verdict:
    """Correct if close to a correct reference, and closer than to any incorrect one.

    Closeness is the cosine of what they add to the question (`gnuq.qa.embeddings.added`), and close
    is `LEAST_COSINE` or more. A tie counts as incorrect.

    Args:
        encoder: embeds texts (`gnuq.qa.embeddings.sentence_encoder`).
        question: what was asked.
        answer: what the model said.
        correct: references that are true.
        incorrect: references that are false.

    Returns:
        The verdict; its evidence is `to_correct` and `to_incorrect`, the two largest cosines.
    """
    if reason := undecided(answer, correct=correct, incorrect=incorrect):
        return Verdict(None, reason, {"to_correct": np.nan, "to_incorrect": np.nan})
    vectors = added(encoder, question, [answer, *correct, *incorrect])
    cosines, border = vectors[1:] @ vectors[0], len(correct)
    near, far = float(cosines[:border].max()), float(cosines[border:].max())
    correct_is = near >= LEAST_COSINE and near > far
    return Verdict(correct_is, None, {"to_correct": near, "to_incorrect": far})


def undecided(answer: str, **references: Sequence[str]) -> str | None:
    """Why nothing can be said of an answer: it is blank, or references are missing; else None."""
    if not answer.strip():
        return BLANK
    empty = [name for name, texts in references.items() if not len(texts)]
    return NO_REFERENCES.format(empty[0]) if empty else None
