"""The few answers that the website quotes with their questions, chosen by a rule."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from gnuq import artefacts
from gnuq.walkthrough.single_questions import Single, view

#: Their record (`gnuq.pipeline.examples`, which states the rule).
EXAMPLES = "qa/examples"

#: What an answer is an example of → one of each benchmark.
Quoted = Mapping[str, list[Single]]


def quoted() -> Quoted:
    """The quoted answers, with their tokens' shares of ‖∇p̄‖².

    Raises:
        ArtefactError: their record, or one of the run that they come from, is missing or torn.
    """
    saved = artefacts.load("records", EXAMPLES).frame
    keys = ["kind", "model", "benchmark", "id", "question", "accepted"]
    found: dict[str, list[Single]] = {}
    for told, rows in saved.groupby(keys, sort=False):
        kind, model, benchmark, i, text, accepted = map(str, told)
        one = replace(
            view(model, benchmark, i),
            question=text,
            accepted=accepted,
            tokens=rows.drop(columns=keys).reset_index(drop=True),
        )
        found.setdefault(kind, []).append(one)
    return found


def extremes(answers: Quoted) -> tuple[float, float]:
    """Percentiles of ‖∇p̄‖²: of the most confident wrong answer, of the most uncertain right one.

    Args:
        answers: as `quoted` gives them; NaN where none is wrong, or right.
    """
    ranks = [
        (one.correct, float(one.scores["percentile"]["epistemic"]))
        for several in answers.values()
        for one in several
    ]
    wrong = min((rank for correct, rank in ranks if correct is False), default=math.nan)
    return wrong, max((rank for correct, rank in ranks if correct), default=math.nan)
