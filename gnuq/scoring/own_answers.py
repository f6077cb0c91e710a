"""The model's own greedy answers, to questions that come without one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gnuq.language_models import generate, texts
from gnuq.scoring.attempts import Key
from gnuq.scoring.errors import ScoreError
from gnuq.scoring.examples import Example


def greedy(
    model: Any, tokenizer: Any, prompts: Mapping[int, tuple[int, ...]], room: int
) -> tuple[dict[int, Example], dict[int, str]]:
    """Answer prompts greedily, all together.

    Args:
        model: the model.
        tokenizer: its tokenizer.
        prompts: token ids by number.
        room: the longest answer.

    Returns:
        By number, the prompts with their answers; and why others have none.

    Raises:
        ScoreError: the model cannot generate.
    """
    fitting, wrong = with_room(model, prompts, room)
    try:
        given = generate(model, tokenizer, list(fitting.values()), max_new_tokens=room)
    except ValueError as error:
        raise ScoreError(str(error)) from error
    answers = {number: one.ids for number, one in zip(fitting, given, strict=True)}
    wrong |= {n: "the model's own answer is empty" for n, ids in answers.items() if not ids}
    return {n: Example(fitting[n], ids) for n, ids in answers.items() if ids}, wrong


def with_room(
    model: Any, prompts: Mapping[Key, tuple[int, ...]], room: int
) -> tuple[dict[Key, tuple[int, ...]], dict[Key, str]]:
    """The prompts that leave room for an answer; and why others do not.

    Args:
        model: the model.
        prompts: token ids by any key.
        room: the longest answer.
    """
    limit = texts.context_of(model)
    wrong, fitting = {}, {}
    for key, prompt in prompts.items():
        if not prompt:
            wrong[key] = "the prompt is empty and the tokenizer adds no token of its own"
        elif limit is not None and len(prompt) + room > limit:
            wrong[key] = (
                f"{len(prompt)} tokens of prompt leave no room for an answer of {room}, which is "
                f"more than the model's context of {limit}; shorten either"
            )
        else:
            fitting[key] = prompt
    return fitting, wrong
