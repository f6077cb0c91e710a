"""Prompts as token ids: checked, and side by side as rows that end together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from gnuq.language_models import texts

if TYPE_CHECKING:
    from torch import Tensor

#: A text, or token ids.
Prompt: TypeAlias = "str | Sequence[int]"


def encoded(model: Any, tokenizer: Any, prompts: Sequence[Prompt], room: int) -> list[list[int]]:
    """The prompts' token ids, none empty or too long.

    Args:
        model: its configuration says how many tokens it takes.
        tokenizer: its tokenizer.
        prompts: texts, or token ids.
        room: how many tokens will follow (`max_new_tokens`).

    Raises:
        TypeError: `prompts` is a single text.
        ValueError: a prompt is empty, begins twice, or leaves no room.
    """
    if isinstance(prompts, str):
        raise TypeError("prompts: it is one text; put it into a list.")
    limit = texts.context_of(model)
    found = []
    for i, prompt in enumerate(prompts):
        ids = (
            texts.opened(tokenizer, prompt) if isinstance(prompt, str) else [int(x) for x in prompt]
        )
        if not ids:
            raise ValueError(f"prompts: prompt {i} is empty; give it at least one token.")
        if (fault := texts.begin_fault(tokenizer, ids)) is not None:
            raise ValueError(f"prompts: prompt {i} {fault}.")
        if limit is not None and len(ids) + room > limit:
            raise ValueError(
                f"prompts: prompt {i} has {len(ids)} tokens, which with max_new_tokens={room} is "
                f"more than the model's {limit}; shorten either."
            )
        found.append(ids)
    return found


def rows(prompts: list[list[int]], padding: int, device: Any) -> tuple[Tensor, Tensor]:
    """Token ids and attention mask, shape (prompts, longest), padded on the left."""
    import torch

    width = max(map(len, prompts))
    ids = torch.tensor([[padding] * (width - len(one)) + one for one in prompts])
    mask = torch.tensor([[0] * (width - len(one)) + [1] * len(one) for one in prompts])
    return ids.to(device), mask.to(device)


def padding_of(tokenizer: Any, ends: list[int]) -> int:
    """The token that fills rows: the tokenizer's, else one that ends a sequence, else the first."""
    return next(x for x in (tokenizer.pad_token_id, *ends, 0) if x is not None)
