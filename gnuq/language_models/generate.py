"""Answers from a language model: token ids, text and log-probabilities, in batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gnuq.language_models import decoding as dec
from gnuq.language_models import prompts as given
from gnuq.language_models import rounds, texts
from gnuq.language_models.load import Loaded
from gnuq.language_models.prefix import Prefix, read

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


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
    prompts: Sequence[given.Prompt],
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
    end. What all prompts begin with is read once, and each prompt's rest once for all its samples,
    where the model's cache can be copied; where not, prompts are continued one by one.

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
        ValueError: a setting out of range, a prompt that is empty, begins twice or leaves no room
            for an answer, a model in training mode, or one with a prompt that peft has learnt.
    """
    settings = dec.Decoding(max_new_tokens, temperature, top_p, top_k, samples, stop)
    network = dec.ready(model.model if isinstance(model, Loaded) else model, batch_size)
    dec.refuse_learnt_prompt(network)
    encoded = given.encoded(network, tokenizer, prompts, max_new_tokens)
    if not encoded:
        return []
    prefix = read(network, encoded)
    step = max(1, batch_size // samples) if prefix else 1
    with dec.seeded(seed):
        return [
            answer
            for start in range(0, len(encoded), step)
            for answer in _together(
                network, tokenizer, encoded[start : start + step], settings, prefix
            )
        ]


def _together(
    model: Any,
    tokenizer: Any,
    prompts: list[list[int]],
    settings: dec.Decoding,
    prefix: Prefix | None,
) -> list[Generated]:
    """The answers to some prompts: one batch, which each answer leaves soon after its end."""
    ends, stop = texts.ends(model, tokenizer), settings.stop
    padding = given.padding_of(tokenizer, ends)
    rows = rounds.begun(model, prompts, settings.samples, padding, prefix)
    width, left = rows.ids.shape[1], settings.max_new_tokens
    criteria = [dec.stopping(tokenizer, width, stop)] if stop else []
    answers: dict[int, Generated] = {}
    going = list(range(len(rows.ids)))
    while going:
        tokens = min(left, rounds.ROUND) if prefix else left
        told = dec.configuration(settings, ends, padding, tokens)
        rows = rounds.longer(model, rows, told, criteria)
        new = zip(rows.ids[:, width:].tolist(), rows.log_p.tolist(), strict=True)
        found = [_answer(tokenizer, row, log_p, ends, stop) for row, log_p in new]
        answers |= dict(zip(going, found, strict=True))
        left -= tokens
        kept = [i for i, one in enumerate(found) if left and not one.finished]
        going, rows = [going[i] for i in kept], rounds.only(rows, kept)
    return list(answers.values())


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
