"""Answers from a language model: token ids, text and log-probabilities, in batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from gnuq.language_models import decoding as dec
from gnuq.language_models import texts
from gnuq.language_models.load import Loaded

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

#: A text, or token ids.
Prompt: TypeAlias = "str | Sequence[int]"


@dataclass(frozen=True)
class Generated:
    """One answer.

    Attributes:
        ids: the generated token ids, without prompt, padding, end-of-sequence token and what
            comes from the stop text on. Keep them: the text tokenised again may be others.
        text: what they spell; special tokens among them are left out.
        log_probabilities: log p(token | prompt, tokens before it) of each id, in nats, under the
            model itself: at temperature 1, over the whole vocabulary, however it was sampled.
        finished: whether it ended by itself or at the stop text, not at `max_new_tokens`.
    """

    ids: tuple[int, ...]
    text: str
    log_probabilities: tuple[float, ...]
    finished: bool


def generate(
    model: PreTrainedModel | Loaded,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    *,
    max_new_tokens: int = 50,
    temperature: float = 0.0,
    top_p: float = 1.0,
    top_k: int = 0,
    samples: int = 1,
    seed: int | None = None,
    stop: str | None = "\n",
    batch_size: int = 16,
) -> list[Generated]:
    """Continue each prompt, greedily or by sampling, with nothing else at work.

    Penalties and sampling settings that the model's authors ship do not act; their
    end-of-sequence tokens do. Prompts are padded on the left, so that each is continued from its
    end.

    Args:
        model: a causal language model in evaluation mode, or what `load` returned.
        tokenizer: its tokenizer.
        prompts: texts, or token ids. A text gets the special token that the tokenizer begins
            with, unless it begins with it already, as what a chat template wrote may.
        max_new_tokens: the longest answer.
        temperature: 0 takes the likeliest token each time; 1 samples from the model.
        top_p: sample from the likeliest tokens that together have this probability.
        top_k: sample from this many likeliest tokens; 0 for all.
        samples: answers per prompt.
        seed: makes sampling repeatable, for the same prompts and `batch_size`; the random state
            outside is left alone. None draws from that state.
        stop: end the answer before this text; a token that reaches into it is dropped whole.
        batch_size: answers that are generated together (all samples of a prompt always are);
            in half precision rounding, and so an answer, may depend on it.

    Returns:
        One `Generated` per prompt and sample; the samples of one prompt follow each other.

    Raises:
        TypeError: `prompts` is a single text.
        ValueError: a setting out of range, an empty prompt, one that leaves no room for an
            answer, or a model in training mode.
    """
    network: Any = model.model if isinstance(model, Loaded) else model
    settings = dec.Decoding(max_new_tokens, temperature, top_p, top_k, samples, stop)
    if batch_size < 1:
        raise ValueError(f"batch_size: {batch_size} is below 1.")
    if network.training:
        raise ValueError("model: it is in training mode; call model.eval() first.")
    encoded = _encoded(network, tokenizer, prompts, max_new_tokens)
    step = max(1, batch_size // samples)
    with dec.seeded(seed):
        return [
            answer
            for start in range(0, len(encoded), step)
            for answer in _together(network, tokenizer, encoded[start : start + step], settings)
        ]


def _encoded(model: Any, tokenizer: Any, prompts: Sequence[Prompt], room: int) -> list[list[int]]:
    """The prompts' token ids, none empty or too long."""
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
        if limit is not None and len(ids) + room > limit:
            raise ValueError(
                f"prompts: prompt {i} has {len(ids)} tokens, which with max_new_tokens={room} is "
                f"more than the model's {limit}; shorten either."
            )
        found.append(ids)
    return found


def _together(
    model: Any, tokenizer: Any, prompts: list[list[int]], settings: dec.Decoding
) -> Iterator[Generated]:
    """One call of transformers' generate, and its rows one by one."""
    import torch

    ends = texts.ends(model, tokenizer)
    padding = next(x for x in (tokenizer.pad_token_id, *ends, 0) if x is not None)
    width = max(map(len, prompts))
    ids = torch.tensor([[padding] * (width - len(one)) + one for one in prompts])
    mask = torch.tensor([[0] * (width - len(one)) + [1] * len(one) for one in prompts])
    with dec.nothing_else(model):
        output = model.generate(
            input_ids=ids.to(model.device),
            attention_mask=mask.to(model.device),
            generation_config=dec.configuration(settings, ends, padding),
            stopping_criteria=[dec.stopping(tokenizer, width, s)] if (s := settings.stop) else [],
        )
    new = output.sequences[:, width:].cpu()
    log_p = _log_probabilities(output.logits, new)
    for row, values in zip(new.tolist(), log_p.tolist(), strict=True):
        yield _answer(tokenizer, row, values, ends, settings.stop)


def _log_probabilities(logits: Sequence[Tensor], tokens: Tensor) -> Tensor:
    """The log-probability of each generated token, shape (rows, tokens)."""
    import torch

    steps = [
        step.float().log_softmax(-1).gather(1, chosen[:, None].to(step.device)).cpu()
        for step, chosen in zip(logits, tokens.T, strict=True)
    ]
    return torch.cat(steps, 1)


def _answer(
    tokenizer: Any, tokens: list[int], log_p: list[float], ends: list[int], stop: str | None
) -> Generated:
    """A row up to its end, or to the last token before the stop text."""
    length = next((i for i, token in enumerate(tokens) if token in ends), len(tokens))
    finished = length < len(tokens)
    if stop and (cut := dec.before(stop, tokenizer, tokens[:length])) is not None:
        length, finished = cut, True
    ids = tuple(tokens[:length])
    return Generated(ids, dec.text_of(tokenizer, ids), tuple(log_p[:length]), finished)
