"""How a question is put to a model when nothing else is said: an instruction and worked pairs.

The paper's models too see worked pairs before the question (§4.2); these are our own. Small models
give no answer worth scoring without them.
"""

from __future__ import annotations

from typing import Any

from gnuq.scoring.examples import Answer, ExampleError, Prompt

WORKED = (
    ("What is the capital of Japan?", "Tokyo"),
    ("How many legs does a spider have?", "Eight legs"),
    ("Do penguins fly?", "No, penguins swim but cannot fly"),
    ("Who wrote the play Hamlet?", "William Shakespeare"),
    ("What happens to water at 100 degrees Celsius?", "It boils and turns into steam"),
)
INSTRUCTION = "Answer each question briefly and truthfully."


def few_shot(question: str) -> str:
    """The prompt of a question: the instruction, the worked pairs, the question, and "A:"."""
    pairs = [f"Q: {q}\nA: {a}" for q, a in WORKED]
    return "\n\n".join([INSTRUCTION, *pairs, f"Q: {question}\nA:"])


def asked(told: dict[str, Any], chat: bool) -> tuple[Prompt, Answer | None]:
    """The prompt and the answer of one row.

    Args:
        told: one of `question`, `prompt`, `messages`; perhaps `answer` or `answer_ids`.
        chat: the question will go into the chat template, so it is left as it is.

    Returns:
        The prompt, and the answer or None. After "A:" an answer's text begins with a space.

    Raises:
        ExampleError: the question is no text, or empty.
    """
    answer = told.get("answer_ids", told.get("answer"))
    if "question" not in told:
        return told["prompt"] if "prompt" in told else told["messages"], answer
    question = told["question"]
    if not isinstance(question, str) or not question.strip():
        raise ExampleError("the question must be a text")
    if isinstance(answer, str) and not chat:
        answer = " " + answer.lstrip() if answer.strip() else ""
    return (question if chat else few_shot(question)), answer
