"""Token ids as they are given: without padding, and with special tokens where they belong."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gnuq.scoring.errors import ExampleError


@dataclass(frozen=True)
class SpecialTokens:
    """What a tokenizer's special tokens say about ids.

    Attributes:
        tokenizer: a Hugging Face tokenizer.
        ends: ids that end a sequence, beside the tokenizer's own.
    """

    tokenizer: Any
    ends: frozenset[int] = frozenset()

    @property
    def _padding(self) -> int | None:
        found: int | None = self.tokenizer.pad_token_id
        return found

    @property
    def _ends(self) -> set[int | None]:
        return {*self.ends, self.tokenizer.eos_token_id} - {None}

    def prompt(self, ids: tuple[int, ...]) -> tuple[int, ...]:
        """A prompt's ids without the padding around them.

        Raises:
            ExampleError: the padding token has another use too, and stands at an end where the
                tokenizer itself puts none.
        """
        padding = self._padding
        if padding is None:
            return ids
        if padding in {self.tokenizer.bos_token_id, *self._ends}:
            own = self.tokenizer("a")["input_ids"][:1] == [padding]  # as OPT's texts begin
            if ids[: 1 + own] == (padding,) * (1 + own) or ids[-1:] == (padding,):
                raise ExampleError(
                    f"the prompt seems to be padded with token {padding}, which has another use "
                    "too; give its ids without padding (or, if the token belongs to the prompt, "
                    "set tokenizer.pad_token to None)"
                )
            return ids
        return _stripped(ids, padding)

    def answer(self, ids: tuple[int, ...], *, keep_end: bool = False) -> tuple[int, ...]:
        """An answer without padding, and without the token that ended it unless that counts.

        Of several end tokens at the end the first was generated, and the others are padding.

        Raises:
            ExampleError: something stands behind the end, or the begin token before all.
        """
        ends, padding = self._ends, self._padding
        if padding not in ends:
            ids = _stripped(ids, padding)
        first = next((i for i, token in enumerate(ids) if token in ends), len(ids))
        if set(ids[first:]) - ends - {padding}:
            padded = first == 0 and ids[0] == padding
            raise ExampleError(
                "the answer seems to be padded on the left; give its ids without padding"
                if padded
                else "the answer goes on after its end-of-sequence token"
            )
        found = ids[: first + 1] if keep_end else ids[:first]
        begin = self.tokenizer.bos_token_id
        if begin is not None and found[:1] == (begin,):
            raise ExampleError(
                f"the answer begins with the begin-of-sequence token {begin}, which no answer "
                "does; leave it out"
            )
        return found

    def refuse_whole_output(self, prompt: tuple[int, ...], answer: tuple[int, ...]) -> None:
        """An answer is what was generated, without the prompt.

        Raises:
            ExampleError: it begins with the prompt, as the output of `model.generate` does.
        """
        start = next((i for i, token in enumerate(answer) if token != self._padding), 0)
        for begin in {start, 0}:
            behind = begin + len(prompt)
            if answer[begin:behind] != prompt:
                continue
            if len(prompt) > 1 or prompt == (self.tokenizer.bos_token_id,):
                raise ExampleError(
                    "the answer's ids begin with the prompt's, as a whole output of generate() "
                    f"does; give the ids behind it, output[{behind}:]"
                )
            warnings.warn(
                f"an answer begins with token {prompt[0]}, which is all of its prompt; if it is a "
                f"whole output of generate(), give output[{behind}:].",
                stacklevel=2,
            )


def _stripped(ids: tuple[int, ...], padding: int | None) -> tuple[int, ...]:
    """Without the padding at both ends."""
    real = [i for i, token in enumerate(ids) if token != padding]
    return ids[real[0] : real[-1] + 1] if real else ()


def whole_numbers(ids: Any, name: str) -> tuple[int, ...]:
    """Token ids, in any form that holds whole numbers.

    Raises:
        ExampleError: it is of another kind; the message has the argument's name.
    """
    if isinstance(ids, (Tensor, np.ndarray)):
        whole = (
            not ids.dtype.is_floating_point if isinstance(ids, Tensor) else ids.dtype.kind in "iu"
        )
        if ids.ndim != 1 or not whole or ids.dtype == torch.bool:
            raise ExampleError(f"the {name} has shape {tuple(ids.shape)} and {ids.dtype}, not ids")
        return tuple(int(i) for i in ids.tolist())
    try:
        if isinstance(ids, (bytes, set, frozenset, Mapping)):
            raise TypeError
        values = list(ids)
        if any(isinstance(i, (str, bytes, float, bool)) or int(i) != i for i in values):
            raise TypeError
        return tuple(int(i) for i in values)
    except (TypeError, ValueError) as error:
        raise ExampleError(f"the {name} is a {type(ids).__name__}, not a text or ids") from error
