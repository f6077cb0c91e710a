"""Prompts that peft has learnt: prompt tuning, p-tuning, prefix tuning."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any


def learnt_positions(model: Any) -> int:
    """The length of the prompt that peft has learnt for the active adapter: 0 for other models."""
    config = getattr(model, "active_peft_config", None)
    return int(getattr(config, "num_virtual_tokens", None) or 0)


@contextmanager
def embedded(model: Any) -> Generator[None]:
    """Let a learnt prompt be looked up in its embedding, as any token is.

    For inference peft reads the embedding's weight itself, whose gradient no layer's call would
    account for. The values are the same.
    """
    if not learnt_positions(model) or not model.active_peft_config.inference_mode:
        yield
        return
    config = model.active_peft_config
    encoder = model.prompt_encoder[model.active_adapter]
    embedding = encoder.embedding
    config.inference_mode, encoder.forward = False, lambda indices: embedding(indices)
    try:
        yield
    finally:
        config.inference_mode = True
        del encoder.forward
