"""How a question is put to a model when nothing else is said."""

from __future__ import annotations

from typing import Any

from gnuq.scoring.examples import Answer, Prompt

#: Plain, with no examples before it: as short as a prompt can be that asks for an answer.
QUESTION = "Q: {question}\nA:"


def asked(told: dict[str, Any], chat: bool) -> tuple[Prompt, Answer | None]:
    """The prompt and the answer of one row.

    Args:
        told: one of `question`, `prompt`, `messages`; perhaps `answer` or `answer_ids`.
        chat: the question will go into the chat template, so it is left as it is.

    Returns:
        The prompt, and the answer or None. After "A:" an answer's text begins with a space.
    """
    if "question" not in told:
        return told.get("prompt") or told["messages"], told.get("answer_ids", told.get("answer"))
    question = str(told["question"])
    prompt = question if chat else QUESTION.format(question=question)
    answer = told.get("answer_ids", told.get("answer"))
    if isinstance(answer, str) and not chat:
        answer = " " + answer.lstrip() if answer.strip() else ""
    return prompt, answer
