"""How texts become token ids, and how many a model takes: the same for generating and scoring."""

from __future__ import annotations

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
