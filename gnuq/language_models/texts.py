"""How texts become token ids, and how many a model takes: the same for generating and scoring."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def opened(tokenizer: Any, text: str) -> list[int]:
    """A text's ids, begun once and not closed.

    The tokenizer's first token (BOS) is added unless the text begins with it, as the output of a
    chat template may. An end-of-sequence token that the tokenizer puts behind is left out; one
    that the text itself ends in stays.
    """
    begun = bool(tokenizer.bos_token) and text.startswith(tokenizer.bos_token)
    ids = list(tokenizer(text, add_special_tokens=not begun)["input_ids"])
    plain = tokenizer(text, add_special_tokens=False)["input_ids"]
    closed = ids[-1:] == [tokenizer.eos_token_id] and plain[-1:] != ids[-1:]
    return ids[:-1] if closed else ids


def begin_fault(tokenizer: Any, ids: Sequence[int]) -> str | None:
    """What is wrong with where a prompt's begin-of-sequence tokens stand, or None.

    A second one, or white space before the first, is what comes of encoding the output of a chat
    template with special tokens added; no model was trained on it.

    Args:
        tokenizer: the tokenizer.
        ids: the prompt's token ids.
    """
    begin = tokenizer.bos_token_id
    again = next((i for i, token in enumerate(ids) if i and token == begin), None)
    if begin is None or again is None:
        return None
    between = [token for token in ids[:again] if token != begin]
    if between and str(tokenizer.decode(between)).strip():
        return None
    twice = "two begin-of-sequence tokens" if ids[0] == begin else "white space before its begin"
    return (
        f"begins with {twice} (token {begin}); leave one, at the very start (encode what a chat "
        "template wrote with add_special_tokens=False)"
    )


def context_of(model: Any) -> int | None:
    """The longest sequence that the model was made for, if its configuration says."""
    text = model.config.get_text_config() if hasattr(model.config, "get_text_config") else None
    for config in (text, model.config):
        for name in ("max_position_embeddings", "n_positions", "max_seq_len"):
            if isinstance(limit := getattr(config, name, None), int):
                return limit
    return None


def ends(model: Any, tokenizer: Any) -> list[int]:
    """Every token that ends a sequence, for the model's authors or for its tokenizer."""
    told = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    listed = told if isinstance(told, list) else [told]
    return sorted({x for x in [*listed, tokenizer.eos_token_id] if x is not None})
