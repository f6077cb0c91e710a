"""Rows of tokens that grow by a few tokens a call, so that those which have ended can leave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gnuq.language_models import prompts as given
from gnuq.language_models.decoding import nothing_else
from gnuq.language_models.prefix import Prefix, continued

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

#: Tokens a call: fewer, and calls cost more than rows that have ended but are carried on.
ROUND = 4


@dataclass(frozen=True)
class Rows:
    """Answers in the making.

    Attributes:
        ids: token ids, the prompt's included, padded on the left.
        mask: 0 at padding and 1 elsewhere.
        log_p: log-probability of each new token under the model itself, in nats.
        cache: what the model remembers of all tokens but the last; None if it reads all again.
    """

    ids: Int[Tensor, "rows length"]
    mask: Int[Tensor, "rows length"]
    log_p: Float[Tensor, "rows new"]
    cache: Any


def begun(
    model: Any, prompts: list[list[int]], samples: int, padding: int, prefix: Prefix | None
) -> Rows:
    """As many rows a prompt as it gets samples, read once a prompt."""
    import torch

    batch = given.rows(prompts, padding, model.device)
    ids, mask = (one.repeat_interleave(samples, 0) for one in batch)
    cache = continued(model, prefix, prompts) if prefix else None
    if cache is not None:
        cache.batch_repeat_interleave(samples)
    return Rows(ids, mask, torch.zeros(len(ids), 0, dtype=torch.float32), cache)


def longer(model: Any, rows: Rows, settings: Any, criteria: Sequence[Any]) -> Rows:
    """The rows after a call of transformers' `generate`: its tokens more, or fewer if all ended.

    Args:
        model: a causal language model.
        rows: where they stand.
        settings: transformers' configuration, which says how many tokens at most.
        criteria: what ends a row besides the end-of-sequence tokens.
    """
    import torch

    output = called(model, rows, settings, criteria)
    new = output.sequences[:, rows.ids.shape[1] :]
    mask = torch.cat([rows.mask, torch.ones_like(new)], 1)
    log_p = torch.cat([rows.log_p, _log_probabilities(output.logits, new)], 1)
    return Rows(output.sequences, mask, log_p, output.get("cache"))


def called(model: Any, rows: Rows, settings: Any, criteria: Sequence[Any] = ()) -> Any:
    """What transformers' `generate` returns."""
    told = {} if rows.cache is None else {"cache": rows.cache}
    with nothing_else(model):
        return model.generate(
            input_ids=rows.ids,
            attention_mask=rows.mask,
            generation_config=settings,
            stopping_criteria=list(criteria),
            **told,
        )


def _log_probabilities(logits: Sequence[Tensor], tokens: Tensor) -> Tensor:
    """The log-probability of each generated token, shape (rows, tokens), on the CPU."""
    import torch

    steps = [
        step.float().log_softmax(-1).gather(1, chosen[:, None].to(step.device)).cpu()
        for step, chosen in zip(logits, tokens.T, strict=True)
    ]
    return torch.cat(steps, 1)


def only(rows: Rows, kept: list[int]) -> Rows:
    """Some of the rows; the others are forgotten, by the cache as well."""
    import torch

    if len(kept) in (0, len(rows.ids)):
        return rows
    rows.cache.batch_select_indices(torch.tensor(kept))
    return Rows(rows.ids[kept], rows.mask[kept], rows.log_p[kept], rows.cache)
