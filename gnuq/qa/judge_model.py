"""A language model judges: whether an answer is correct, and whether two answers mean the same.

Correctness as in Appendix G.3: "an LLM judge checks whether the generated answer means the same as
one of the reference answers in the context of the question." What the judge writes is read, and
anything but yes or no leaves the question undecided. Of two answers it says by its next token
whether one implies the other. The prompts are ours.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gnuq.language_models import generate, texts
from gnuq.qa import options
from gnuq.qa.judge import Verdict, undecided
from gnuq.qa.words import one_line

TASK = (
    "Judge answers to questions. Say yes if the proposed answer means the same as one of the "
    "expected answers to the question, and no if it does not."
)
#: Question, expected answers, proposed answer, verdict.
WORKED = (
    ("Who wrote the play Hamlet?", ("William Shakespeare", "Shakespeare"), "It was him, W. "
     "Shakespeare", "yes"),
    ("What is the capital of Japan?", ("Tokyo",), "Kyoto", "no"),
    ("Do penguins fly?", ("No, penguins cannot fly", "Penguins only swim"), "They fly short "
     "distances", "no"),
    ("How many legs does a spider have?", ("8", "eight"), "Eight legs", "yes"),
    ("Who painted the ceiling?", ("Michelangelo",), "A painter", "no"),
    ("What happens to water at 100 degrees Celsius?", ("It boils", "It turns into steam"),
     "It starts boiling", "yes"),
)  # fmt: skip
#: Expected answers that a judge is shown; some questions of TriviaQA have hundreds.
MOST = 20
#: Tokens in which a verdict must come.
ROOM = 8
TOO_LONG = "the judge's prompt is too long for it"
NEITHER = "the judge said neither yes nor no"


def prompt(question: str, correct: Sequence[str], answer: str) -> str:
    """What the judge is asked: the task, worked verdicts, the question; the verdict comes next."""
    worked = [f"{_asked(q, expected, given)} {told}" for q, expected, given, told in WORKED]
    return "\n\n".join([TASK, *worked, _asked(question, correct[:MOST], answer)])


def meaning(said: str) -> bool | None:
    """What a judge's first line says: True for yes, False for no, None for anything else.

    It must begin with yes or no as a word of its own, end there or go on behind punctuation, and
    not say the other one as well.
    """
    line = said.strip().partition("\n")[0].casefold()
    found = re.fullmatch(r"(yes|no)\s*(?:[^\w\s].*)?", line)
    if found is None or len(set(re.findall(r"\b(?:yes|no)\b", line))) > 1:
        return None
    return found.group(1) == "yes"


def by_model(
    model: Any,
    tokenizer: Any,
    questions: Sequence[str],
    answers: Sequence[str],
    correct: Sequence[Sequence[str]],
    batch_size: int = 16,
) -> list[Verdict]:
    """Ask a judge about every answer, greedily.

    Args:
        model: a causal language model in evaluation mode.
        tokenizer: its tokenizer.
        questions: the questions.
        answers: the answer to each.
        correct: the expected answers to each.
        batch_size: prompts that are run together.

    Returns:
        One verdict an answer; its evidence is `said`, the judge's text.
    """
    prompts, reasons = {}, {}
    limit = (texts.context_of(model) or float("inf")) - ROOM
    for i, (question, answer, known) in enumerate(zip(questions, answers, correct, strict=True)):
        if reason := undecided(answer, correct=known):
            reasons[i] = reason
            continue
        prompts[i] = texts.opened(tokenizer, prompt(question, known, answer))
        if len(prompts[i]) > limit:
            del prompts[i]
            reasons[i] = TOO_LONG
    given = generate(
        model, tokenizer, list(prompts.values()), max_new_tokens=ROOM, batch_size=batch_size
    )
    said = {i: one.text.strip() for i, one in zip(prompts, given, strict=True)}
    return [_verdict(said.get(i), reasons.get(i)) for i in range(len(answers))]


def _verdict(said: str | None, reason: str | None) -> Verdict:
    correct = None if said is None else meaning(said)
    if said is not None and correct is None:
        reason = NEITHER
    return Verdict(correct, reason, {"said": said})


def _asked(question: str, correct: Sequence[str], answer: str) -> str:
    return (
        f"Question: {one_line(question)}\nExpected answers: {'; '.join(map(one_line, correct))}\n"
        f"Proposed answer: {one_line(answer)}\nDoes it mean the same?"
    )


IMPLIES = "Two people answer the same question. Say whether what the first says implies the second."
#: Question, first answer, second answer, and whether the first implies the second.
IMPLIED = (
    ("Who wrote the play Hamlet?", "William Shakespeare", "Shakespeare wrote it", "yes"),
    ("When did the Titanic sink?", "In the 20th century", "In 1912", "no"),
    ("When did the Titanic sink?", "In 1912", "In the 20th century", "yes"),
    ("What is the capital of Japan?", "Tokyo", "Kyoto", "no"),
    ("Do penguins fly?", "No, they swim", "They fly well", "no"),
    ("How many legs does a spider have?", "Eight", "8 legs", "yes"),
)


@dataclass(frozen=True)
class Judged:
    """Two answers mean the same if a language model says that each implies the other.

    It is asked by worked examples, and its next token decides: yes if that is likelier than no.

    Attributes:
        model: a causal language model in evaluation mode.
        tokenizer: its tokenizer.
        batch_size: prompts that are run together.

    Source:
        Farquhar et al. 2024, entailment by a language model; the prompt is ours.
    """

    model: Any
    tokenizer: Any
    batch_size: int = 16

    def __call__(self, question: str, sample: str, heads: Sequence[str]) -> list[bool]:
        """One truth value for each head; raises what `gnuq.qa.options` raises."""
        pairs = [pair for head in heads for pair in ((sample, head), (head, sample))]
        prompts = [implication(question, *pair) for pair in pairs]
        yes, no = options.log_probabilities(
            self.model, self.tokenizer, prompts, ("yes", "no"), self.batch_size
        ).T
        found: list[bool] = (yes > no).reshape(-1, 2).all(1).tolist()
        return found


def implication(question: str, first: str, second: str) -> str:
    """The prompt that asks whether the first answer implies the second."""
    worked = [f"{_implication(*told)} {label}" for *told, label in IMPLIED]
    return "\n\n".join([IMPLIES, *worked, _implication(question, first, second)])


def _implication(question: str, first: str, second: str) -> str:
    return (
        f"Question: {one_line(question)}\nFirst: {one_line(first)}\n"
        f"Second: {one_line(second)}\nDoes the first imply the second?"
    )
