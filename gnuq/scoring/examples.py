"""From prompts and answers to token ids: what is scored, and where it stands.

The prompt's tokens do not count. The end-of-sequence token counts only if asked for. Generated
ids are never turned into text and back: another segmentation would be another answer.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from jinja2 import TemplateError
from torch import Tensor

from gnuq.language_models import texts
from gnuq.scoring.errors import ExampleError, ScoreError
from gnuq.scoring.ids import SpecialTokens, whole_numbers

#: A text, the messages of a chat, or token ids.
Prompt: TypeAlias = "str | Sequence[Mapping[str, str]] | Sequence[int] | Tensor"
#: A text, or generated token ids.
Answer: TypeAlias = "str | Sequence[int] | Tensor"


@dataclass(frozen=True)
class Example:
    """One prompt and its answer, as token ids.

    Attributes:
        prompt: the prompt's ids, special tokens included.
        answer: the ids of the answer's tokens, all of which count.
    """

    prompt: tuple[int, ...]
    answer: tuple[int, ...]

    @property
    def ids(self) -> tuple[int, ...]:
        """The whole sequence."""
        return self.prompt + self.answer

    def __len__(self) -> int:
        return len(self.prompt) + len(self.answer)


@dataclass(frozen=True)
class Encoder:
    """Turns prompts and answers into examples.

    Attributes:
        tokenizer: a Hugging Face tokenizer.
        chat: wrap prompts that are texts into the tokenizer's chat template, as a user's message.
        end: count the token that ends the sequence as the answer's last: the one that was
            generated, or the tokenizer's own behind a text.
        ends: ids that end a sequence, the tokenizer's own included.
    """

    tokenizer: Any
    chat: bool = False
    end: bool = False
    ends: frozenset[int] = frozenset()

    def encode(self, prompt: Prompt, answer: Answer) -> Example:
        """One prompt and its answer.

        Raises:
            ExampleError: an empty prompt or answer, or a kind that is neither text nor ids.
        """
        text, ids = self._prompt(prompt)
        if not ids:
            raise ExampleError("the prompt is empty and the tokenizer adds no token of its own")
        special = self._special
        if isinstance(answer, str):
            _warn_of_whole_text(text, answer)
            found = special.answer(self._answer(text, ids, answer))
            found = (*found, self._end_token()) if self.end else found
        else:
            given = whole_numbers(answer, "answer")
            special.refuse_whole_output(ids, given)
            found = special.answer(given, keep_end=self.end)
        if not found or (isinstance(answer, str) and not answer):
            raise ExampleError("the answer is empty; score at least one token")
        return Example(ids, found)

    @property
    def _special(self) -> SpecialTokens:
        return SpecialTokens(self.tokenizer, self.ends)

    def prompt(self, prompt: Prompt) -> tuple[int, ...]:
        """The ids of a prompt that the model is to answer.

        Raises:
            ExampleError: as `encode`.
        """
        return self._prompt(prompt)[1]

    def _prompt(self, prompt: Prompt) -> tuple[str | None, tuple[int, ...]]:
        """The prompt as text, if it is one, and its ids."""
        text, ids = self._encoded(prompt)
        if (fault := texts.begin_fault(self.tokenizer, ids)) is not None:
            raise ExampleError(f"the prompt {fault}")
        return text, ids

    def _encoded(self, prompt: Prompt) -> tuple[str | None, tuple[int, ...]]:
        if isinstance(prompt, str) and self.chat:
            prompt = [{"role": "user", "content": prompt}]
        if _is_chat(prompt):
            prompt = self._rendered(prompt)
            return prompt, tuple(self._ids(prompt))
        if isinstance(prompt, str):
            return prompt, tuple(texts.opened(self.tokenizer, _sound(prompt, "prompt")))
        return None, self._special.prompt(whole_numbers(prompt, "prompt"))

    def _rendered(self, messages: Any) -> str:
        if not getattr(self.tokenizer, "chat_template", None):
            raise ExampleError("the tokenizer has no chat template; give the prompt as plain text")
        if not all(isinstance(m.get(k), str) for m in messages for k in ("role", "content")):
            raise ExampleError("each message of a chat needs a role and a content, both texts")
        try:
            text = self.tokenizer.apply_chat_template(
                list(messages), add_generation_prompt=True, tokenize=False
            )
        except TemplateError as error:
            raise ExampleError(f"the chat template refuses the messages: {error}") from error
        return _sound(str(text), "prompt")

    def _ids(self, text: str) -> list[int]:
        """No special token is added: a chat template has written its own."""
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _answer(self, prompt: str | None, ids: tuple[int, ...], answer: str) -> tuple[int, ...]:
        """The answer's ids as they come after the prompt.

        Tokenised together with it, so that a space before the first word falls where the model
        expects it; on its own if a token would straddle the border, or the prompt is ids.
        """
        _sound(answer, "answer")
        if prompt is not None:
            for whole in (
                self._ids(prompt + answer),
                texts.opened(self.tokenizer, prompt + answer),
            ):
                if tuple(whole[: len(ids)]) == ids:
                    return tuple(whole[len(ids) :])
        return tuple(self._ids(answer))

    def _end_token(self) -> int:
        if self.tokenizer.eos_token_id is None:
            raise ExampleError("the tokenizer has no end-of-sequence token; leave out end=True")
        return int(self.tokenizer.eos_token_id)


def _sound(text: str, name: str) -> str:
    """Half of a surrogate pair, as broken JSON may hold, is no text."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ExampleError(f"the {name} is no valid Unicode text") from error
    return text


def _warn_of_whole_text(prompt: str | None, answer: str) -> None:
    """Pipelines return the prompt and its completion as one text; a model may repeat a prompt."""
    if prompt is not None and len(prompt.split()) > 1 and answer.strip().startswith(prompt.strip()):
        warnings.warn(
            f"an answer begins with the whole text of its prompt ({prompt.strip()[:40]!r}…), which "
            "is scored as part of it; if it is a pipeline's full text, cut the prompt off.",
            stacklevel=2,
        )


def _is_chat(prompt: Any) -> bool:
    if isinstance(prompt, Tensor) or not isinstance(prompt, Sequence):
        return False
    return len(prompt) > 0 and all(isinstance(message, Mapping) for message in prompt)


def encode_all(
    encoder: Encoder, prompts: Sequence[Prompt], answers: Sequence[Answer] | Tensor
) -> list[Example]:
    """All examples; an error names the first that cannot be scored.

    Raises:
        ScoreError: no prompts, or prompts and answers of different number.
        ExampleError: as `Encoder.encode`.
    """
    prompts, answers = _listed("prompts", prompts), _listed("answers", answers)
    if len(prompts) != len(answers):
        raise ScoreError(
            f"answers: {len(answers)} of them for {len(prompts)} prompts; give one answer for each "
            "prompt, and repeat a prompt that has several answers."
        )
    if len(prompts) == 0:
        raise ScoreError("prompts: there are none; give at least one prompt and its answer.")
    found = []
    for i, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        try:
            found.append(encoder.encode(prompt, answer))
        except ExampleError as error:
            raise ExampleError(error.reason, i) from error
    return found


def _listed(name: str, given: Any) -> list[Any]:
    """A list, a tuple, a column of a table or a tensor of ids, as a list."""
    tabular = hasattr(given, "columns")  # a table as a list is its columns' names
    if isinstance(given, (str, bytes, Mapping, set)) or tabular or not hasattr(given, "__len__"):
        raise ScoreError(
            f"{name}: expected a list with one entry for each answer, got a "
            f"{type(given).__name__}; for a single answer, give lists of one, and of a table one "
            "column."
        )
    return list(given)
