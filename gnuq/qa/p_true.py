"""P(True): a model is asked whether its own answer is true (Kadavath et al. 2022).

It sees some questions that are answered and marked, each with the answers that it would have given
("brainstormed"), then the question at hand with its answer. The score is the probability of the
token for A, "True", at that one position, over the whole vocabulary; it falls with uncertainty.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from gnuq.language_models import texts
from gnuq.qa import options
from gnuq.qa.words import one_line

TRUE, FALSE = "A", "B"
#: Tokens that the demonstrations leave for the question at hand: ten answers of fifty, and more.
ROOM = 768


@dataclass(frozen=True)
class Demonstration:
    """A question whose answer is marked, to show what is asked for.

    Attributes:
        question: the question.
        samples: the model's sampled answers to it.
        answer: the answer that was judged.
        correct: the verdict.
    """

    question: str
    samples: Sequence[str]
    answer: str
    correct: bool


def choose_demonstrations(judged: pd.DataFrame, count: int, seed: int) -> list[str]:
    """Draw the questions to demonstrate with, half of them answered rightly, half wrongly.

    Of either kind at most half of those there are taken, so that as many are left to evaluate.
    These questions must not be evaluated: leave them out for every score.

    Args:
        judged: verdicts, columns id and correct; undecided questions are passed over.
        count: how many; fewer come back where a kind is rare.
        seed: of the draw.

    Returns:
        Their ids, right and wrong in turn.

    Raises:
        ValueError: a negative count.
    """
    if count < 0:
        raise ValueError(f"count: {count} is negative; 0 asks without demonstrations.")
    decided = judged.dropna(subset=["correct"])
    generator = np.random.default_rng(seed)
    drawn = []
    for correct, most in ((True, (count + 1) // 2), (False, count // 2)):
        ids = sorted(decided.loc[decided["correct"] == correct, "id"].astype(str))
        drawn.append(generator.permutation(ids)[: min(most, len(ids) // 2)].tolist())
    return [name for pair in zip_longest(*drawn) for name in pair if name is not None]


def prompt(
    demonstrations: Sequence[Demonstration], question: str, samples: Sequence[str], answer: str
) -> str:
    """What the model is asked: the demonstrations, then the question; A or B comes next.

    Args:
        demonstrations: the same for all questions, so that they are read once.
        question: the question at hand.
        samples: the model's sampled answers to it.
        answer: the answer in question.
    """
    shown = [
        f"{_asked(one.question, one.samples, one.answer)} {TRUE if one.correct else FALSE}"
        for one in demonstrations
    ]
    return "\n\n".join([*shown, _asked(question, samples, answer)])


def shortened(
    model: Any, tokenizer: Any, demonstrations: Sequence[Demonstration]
) -> list[Demonstration]:
    """The first demonstrations, as many as leave room for a question in the model's context.

    Args:
        model: the model that will be asked.
        tokenizer: its tokenizer.
        demonstrations: all of them.
    """
    limit = (texts.context_of(model) or np.inf) - ROOM
    for count in range(len(demonstrations), 0, -1):
        shown = prompt(demonstrations[:count], "", [], "")
        if len(texts.opened(tokenizer, shown)) <= limit:
            return list(demonstrations[:count])
    return []


def fitting(
    model: Any,
    tokenizer: Any,
    demonstrations: Sequence[Demonstration],
    question: str,
    samples: Sequence[str],
    answer: str,
) -> tuple[str, int]:
    """The prompt with as many sampled answers of the question as the model's context holds.

    Args:
        model: the model that will be asked.
        tokenizer: its tokenizer.
        demonstrations: what it is shown before, never left out.
        question: the question at hand.
        samples: the model's sampled answers to it; the last are left out first.
        answer: the answer in question.

    Returns:
        The prompt, and how many sampled answers it shows.

    Raises:
        ValueError: it is too long without any; the message is the reason that a table should give.
    """
    limit = texts.context_of(model) or np.inf
    for count in range(len(samples), -1, -1):
        made = prompt(demonstrations, question, samples[:count], answer)
        # the blank before A may be a token of its own
        length = len(texts.opened(tokenizer, f"{made} "))
        if length <= limit:
            return made, count
    raise ValueError(
        f"demonstrations: with them the question takes {length} tokens and the model reads "
        f"{limit}; show fewer (shortened)."
    )


def p_true(
    model: Any, tokenizer: Any, prompts: Sequence[str], batch_size: int = 8
) -> Float[np.ndarray, " prompts"]:
    """The probability of "A" behind each prompt, over the whole vocabulary.

    Args:
        model: a causal language model in evaluation mode.
        tokenizer: its tokenizer.
        prompts: as `fitting` returns them.
        batch_size: prompts that are run together.

    Raises:
        ValueError: "A" and "B" are not single tokens, a prompt is too long, or a probability is
            not finite.

    Source:
        Appendix G.2; Kadavath et al. 2022, §3.3, few-shot as in Farquhar et al. 2024.
    """
    found = options.log_probabilities(model, tokenizer, prompts, (TRUE, FALSE), batch_size)
    probability: np.ndarray = np.exp(found[:, 0])
    return probability


def believed(
    model: Any,
    tokenizer: Any,
    demonstrations: Sequence[Demonstration],
    asked: Sequence[tuple[str, Sequence[str], str]],
    batch_size: int = 8,
) -> list[tuple[float, str | None]]:
    """P(True) of some answers, with what kept one from being asked in full.

    Args:
        model: a causal language model in evaluation mode.
        tokenizer: its tokenizer.
        demonstrations: what it is shown, as many of them as its context holds.
        asked: question, sampled answers and answer of each.
        batch_size: prompts that are run together.

    Returns:
        For each the probability and None; or the probability and a remark that it saw fewer
        sampled answers or demonstrations; or NaN and the reason.

    Raises:
        ValueError: as `p_true`.
    """
    shown = shortened(model, tokenizer, demonstrations)
    prompts: dict[int, str] = {}
    remarks: dict[int, str | None] = {}
    for i, (question, samples, answer) in enumerate(asked):
        if not answer.strip():
            remarks[i] = "P(True): the answer is blank"
            continue
        try:
            prompts[i], count = fitting(model, tokenizer, shown, question, samples, answer)
        except ValueError as error:
            remarks[i] = f"P(True): {error}"
            continue
        remarks[i] = _fewer(count, len(samples), len(shown), len(demonstrations))
    values = p_true(model, tokenizer, list(prompts.values()), batch_size).tolist()
    found = dict(zip(prompts, values, strict=True))
    return [(found.get(i, np.nan), remarks[i]) for i in range(len(asked))]


def _fewer(samples: int, of_samples: int, shown: int, of_shown: int) -> str | None:
    if samples == of_samples and shown == of_shown:
        return None
    return (
        f"P(True): the context held {samples} of {of_samples} sampled answers and {shown} of "
        f"{of_shown} demonstrations"
    )


def _asked(question: str, samples: Sequence[str], answer: str) -> str:
    """One question up to the place of the mark, each text on a line of its own."""
    ideas = ["Brainstormed answers:", *map(one_line, samples)] if samples else []
    return "\n".join(
        [
            f"Question: {one_line(question)}",
            *ideas,
            f"Possible answer: {one_line(answer)}",
            "Is the possible answer true or false?",
            f"{TRUE}) True",
            f"{FALSE}) False",
            "It is:",
        ]
    )
