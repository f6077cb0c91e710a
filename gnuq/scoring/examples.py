"""From prompts and answers to token ids: what is scored, and where it stands.

The prompt's tokens do not count. The end-of-sequence token counts only if asked for. Generated
ids are never turned into text and back: another segmentation would be another answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from jinja2 import TemplateError
from torch import Tensor

#: A text, the messages of a chat, or token ids.
Prompt: TypeAlias = "str | Sequence[Mapping[str, str]] | Sequence[int] | Tensor"
#: A text, or generated token ids.
Answer: TypeAlias = "str | Sequence[int] | Tensor"


class ScoreError(ValueError):
    """What cannot be scored, and what to do about it."""


class ExampleError(ScoreError):
    """A prompt or an answer that cannot be scored.

    Attributes:
        reason: what is wrong with it.
    """

    def __init__(self, reason: str, example: int | None = None) -> None:
        where = "" if example is None else f"example {example}: "
        super().__init__(f"{where}{reason}.")
        self.reason = reason


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
class _Prompt:
    """A prompt's text, if it is one; its ids; whether the tokenizer adds special tokens to it."""

    text: str | None
    ids: tuple[int, ...]
    special: bool


@dataclass(frozen=True)
class Encoder:
    """Turns prompts and answers into examples.

    Attributes:
        tokenizer: a Hugging Face tokenizer.
        chat: wrap prompts that are texts into the tokenizer's chat template, as a user's message.
        end: count the end-of-sequence token as the answer's last token.
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
        given = self._prompt(prompt)
        found = self._answer(given, answer) if isinstance(answer, str) else self._generated(answer)
        if not given.ids:
            raise ExampleError("the prompt is empty and the tokenizer adds no token of its own")
        if not found:
            raise ExampleError("the answer is empty; score at least one token")
        return Example(given.ids, (*found, self._end_token()) if self.end else found)

    def prompt(self, prompt: Prompt) -> tuple[int, ...]:
        """The ids of a prompt that the model is to answer.

        Raises:
            ExampleError: as `encode`.
        """
        return self._prompt(prompt).ids

    def _prompt(self, prompt: Prompt) -> _Prompt:
        if isinstance(prompt, str) and not self.chat:
            return _Prompt(prompt, self._open_ended(self.tokenizer(prompt)["input_ids"]), True)
        if isinstance(prompt, str):
            prompt = [{"role": "user", "content": prompt}]
        if _is_chat(prompt):
            text = self._rendered(prompt)
            return _Prompt(text, self._plain(text), False)
        return _Prompt(None, self._without_padding(_whole_numbers(prompt, "prompt")), False)

    def _without_padding(self, ids: tuple[int, ...]) -> tuple[int, ...]:
        """Ids without padding before them, where a padding token cannot be anything else."""
        padding = self.tokenizer.pad_token_id
        if padding is None or padding in (self.tokenizer.bos_token_id, self.tokenizer.eos_token_id):
            return ids
        first = next((i for i, token in enumerate(ids) if token != padding), len(ids))
        return ids[first:]

    def _rendered(self, messages: Any) -> str:
        if not getattr(self.tokenizer, "chat_template", None):
            raise ExampleError("the tokenizer has no chat template; give the prompt as plain text")
        if not all({"role", "content"} <= message.keys() for message in messages):
            raise ExampleError("each message of a chat needs a role and a content")
        try:
            return str(
                self.tokenizer.apply_chat_template(
                    list(messages), add_generation_prompt=True, tokenize=False
                )
            )
        except TemplateError as error:
            raise ExampleError(f"the chat template refuses the messages: {error}") from error

    def _plain(self, text: str) -> tuple[int, ...]:
        """No special token is added: a chat template has written its own."""
        return tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _open_ended(self, ids: Sequence[int]) -> tuple[int, ...]:
        """The ids without an end-of-sequence or separator token that the tokenizer put behind."""
        closing = {self.tokenizer.eos_token_id, getattr(self.tokenizer, "sep_token_id", None)}
        added = len(ids) > 1 and ids[-1] in closing - {None}
        return tuple(ids[:-1] if added else ids)

    def _answer(self, prompt: _Prompt, answer: str) -> tuple[int, ...]:
        """The answer's ids as they come after the prompt.

        Tokenised together with it, so that a space before the first word falls where the model
        expects it; on its own if a token would straddle the border, or the prompt is ids.
        """
        if prompt.text is not None:
            text = prompt.text + answer
            ids = self.tokenizer(text)["input_ids"] if prompt.special else self._plain(text)
            whole = self._open_ended(ids) if prompt.special else tuple(ids)
            if whole[: len(prompt.ids)] == prompt.ids:
                return whole[len(prompt.ids) :]
        return self._plain(answer)

    def _generated(self, answer: Any) -> tuple[int, ...]:
        """Generated ids without padding and without the end-of-sequence token that closes them."""
        ids = list(_whole_numbers(answer, "answer"))
        ends = self.ends | {self.tokenizer.eos_token_id}
        first = next((i for i, token in enumerate(ids) if token in ends), None)
        if first is not None:
            rest = set(ids[first + 1 :])
            if rest - ends - {self.tokenizer.pad_token_id}:
                raise ExampleError("the answer goes on after its end-of-sequence token")
            return tuple(ids[:first])
        while ids and ids[-1] == self.tokenizer.pad_token_id:
            ids.pop()
        return tuple(ids)

    def _end_token(self) -> int:
        if self.tokenizer.eos_token_id is None:
            raise ExampleError("the tokenizer has no end-of-sequence token; leave out end=True")
        return int(self.tokenizer.eos_token_id)


def _is_chat(prompt: Any) -> bool:
    if isinstance(prompt, Tensor) or not isinstance(prompt, Sequence):
        return False
    return len(prompt) > 0 and all(isinstance(message, Mapping) for message in prompt)


def _whole_numbers(ids: Any, name: str) -> tuple[int, ...]:
    if isinstance(ids, Tensor):
        if ids.ndim != 1 or ids.is_floating_point():
            raise ExampleError(f"the {name} has shape {tuple(ids.shape)} and {ids.dtype}, not ids")
        return tuple(int(i) for i in ids.tolist())
    try:
        values = list(ids)
        if any(isinstance(i, (str, bytes, float, bool)) or int(i) != i for i in values):
            raise TypeError
        return tuple(int(i) for i in values)
    except (TypeError, ValueError) as error:
        raise ExampleError(f"the {name} is a {type(ids).__name__}, not a text or ids") from error


def encode_all(
    encoder: Encoder, prompts: Sequence[Prompt], answers: Sequence[Answer] | Tensor
) -> list[Example]:
    """All examples; an error names the first that cannot be scored.

    Raises:
        ScoreError: no prompts, or prompts and answers of different number.
        ExampleError: as `Encoder.encode`.
    """
    for name, given in (("prompts", prompts), ("answers", answers)):
        if isinstance(given, str) or not (isinstance(given, Sequence) or torch.is_tensor(given)):
            raise ScoreError(
                f"{name}: expected a list with one entry for each answer, got a "
                f"{type(given).__name__}; for a single answer, give lists of one."
            )
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
