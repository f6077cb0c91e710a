"""Questions to a model that are answered by one token: A or B, yes or no."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from gnuq.language_models import next_token, texts

#: Prompts whose log-probabilities over the whole vocabulary are held in memory together.
CHUNK = 256


def log_probabilities(
    model: Any, tokenizer: Any, prompts: Sequence[str], options: Sequence[str], batch_size: int
) -> Float[np.ndarray, "prompts options"]:
    """How likely each option is to be the next word, in nats, over the whole vocabulary.

    Args:
        model: a causal language model in evaluation mode.
        tokenizer: its tokenizer.
        prompts: texts that an option follows after a blank, as in their worked examples; what they
            begin with in common is computed once.
        options: words of one token each.
        batch_size: prompts that are run together.

    Raises:
        ValueError: an option that is not a single token, two with the same token, a prompt too
            long for the model, or a log-probability that is not finite.
    """
    if not prompts:
        return np.empty((0, len(options)))
    lead, tokens = option_tokens(tokenizer, prompts[0], options)
    encoded = [texts.opened(tokenizer, prompt + lead) for prompt in prompts]
    limit = texts.context_of(model) or np.inf
    for i, ids in enumerate(encoded):
        if len(ids) > limit:
            raise ValueError(
                f"prompts: prompt {i} has {len(ids)} tokens, the model reads {limit}; shorten it."
            )
    found = [
        next_token(model, tokenizer, encoded[i : i + CHUNK], batch_size=batch_size)[:, tokens]
        for i in range(0, len(encoded), CHUNK)
    ]
    values = np.concatenate([part.double().cpu().numpy() for part in found])
    if not np.isfinite(values).all():
        raise ValueError("model: it gives log-probabilities that are not finite; widen its dtype.")
    return values


def option_tokens(tokenizer: Any, prompt: str, options: Sequence[str]) -> tuple[str, list[int]]:
    """Which token each option is right behind a prompt, and where the blank between them goes.

    Most tokenizers put the blank before a word into the word's token; where it is a token of its
    own, the prompt must end with it.

    Args:
        tokenizer: of the model that will be asked.
        prompt: without a blank at its end.
        options: the words that may follow.

    Returns:
        What to append to the prompt (nothing, or a blank), and the options' tokens.

    Raises:
        ValueError: an option takes several tokens, or two have the same.
    """
    for lead in ("", " "):
        before = texts.opened(tokenizer, prompt + lead)
        whole = [texts.opened(tokenizer, f"{prompt} {option}") for option in options]
        tokens = [ids[-1] for ids in whole if ids[:-1] == before]
        if len(tokens) == len(set(tokens)) == len(options):
            return lead, tokens
    raise ValueError(
        f"tokenizer: {' and '.join(options)} are not a single token each, or the same one, behind "
        f"{prompt[-20:]!r}; the model cannot be asked so."
    )
