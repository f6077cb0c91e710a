"""What a model expects as the next token, for many prompts that begin alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gnuq.language_models import decoding as dec
from gnuq.language_models import prompts as given
from gnuq.language_models import rounds
from gnuq.language_models.load import Loaded
from gnuq.language_models.prefix import Prefix, read

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def next_token(
    model: PreTrainedModel | Loaded,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[given.Prompt],
    *,
    batch_size: int = 16,
) -> Float[Tensor, "prompts vocabulary"]:
    """What the model expects next: log p(token | prompt) for the whole vocabulary, in nats.

    What all prompts begin with is read once a call: give those that share a long beginning, as
    worked examples are, together.

    Args:
        model: a causal language model in evaluation mode, or what `load` returned.
        tokenizer: its tokenizer.
        prompts: texts, or token ids, begun as `generate` begins them.
        batch_size: prompts that are read together.

    Returns:
        The log-probabilities under the model itself, in float32, on the CPU.

    Raises:
        TypeError: `prompts` is a single text.
        ValueError: no prompts, an empty one, one that leaves no room for a token, `batch_size`
            below 1, or a model in training mode.
    """
    import torch

    network = dec.ready(model.model if isinstance(model, Loaded) else model, batch_size)
    encoded = given.encoded(network, tokenizer, prompts, 1)
    if not encoded:
        raise ValueError("prompts: there are none; give at least one.")
    prefix = read(network, encoded)
    step = batch_size if prefix else 1
    order = sorted(range(len(encoded)), key=lambda i: len(encoded[i]))  # little padding
    parts = [
        _together(network, [encoded[i] for i in order[start : start + step]], prefix)
        for start in range(0, len(order), step)
    ]
    return torch.cat(parts)[torch.tensor(order).argsort()]


def _together(model: Any, prompts: list[list[int]], prefix: Prefix | None) -> Tensor:
    """The same for some prompts: what transformers' `generate` has before its first token."""
    rows = rounds.begun(model, prompts, 1, 0, prefix)
    greedy = dec.Decoding(1, temperature=0.0, top_p=1.0, top_k=0, samples=1, stop=None)
    output = rounds.called(model, rows, dec.configuration(greedy, [], 0, 1))
    log_p: Tensor = output.logits[0].log_softmax(-1).cpu()
    return log_p
