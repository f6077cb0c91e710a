"""What prompts have in common is read once: few-shot questions share nearly all their tokens.

What a model remembers of tokens is its cache, the keys and values of each attention layer. That of
the shared beginning is made once a call and copied for every prompt; what each prompt adds is read
once a prompt, not once a sample. Rows end up exactly as transformers' own `generate` has them,
padded on the left: padding anywhere else would count among the positions that a sliding window
looks back on.
"""

from __future__ import annotations

import copy
import inspect
from dataclasses import dataclass
from itertools import takewhile
from typing import Any


@dataclass(frozen=True)
class Prefix:
    """The beginning that prompts share.

    Attributes:
        length: how many tokens it has; each prompt has at least one more.
        cache: what the model remembers of them, one row.
    """

    length: int
    cache: Any


def read(model: Any, prompts: list[list[int]]) -> Prefix | None:
    """Run the model over what the prompts share.

    Args:
        model: a causal language model.
        prompts: their token ids, none empty.

    Returns:
        The prefix, perhaps of no token; None if what this model remembers cannot be copied and
        picked row by row, as that of recurrent models.
    """
    alike = takewhile(lambda tokens: len(set(tokens)) == 1, zip(*prompts, strict=False))
    length = min(sum(1 for _ in alike), min(map(len, prompts)) - 1)
    seen = prompts[0][: max(length, 1)]
    cache = _run(model, [seen], None)
    if not _divisible(cache, len(seen)):
        return None
    if length == 0:
        cache.reset()
    return Prefix(length, cache)


def _run(model: Any, ids: list[list[int]], cache: Any) -> Any:
    """What the model remembers after some more tokens a row; None if it does not say."""
    import torch

    owner = model.get_base_model() if hasattr(model, "get_base_model") else model
    told: dict[str, Any] = {} if cache is None else {"cache": cache}
    if "logits_to_keep" in inspect.signature(owner.forward).parameters:
        told["logits_to_keep"] = 1
    with torch.no_grad():
        output = model(
            input_ids=torch.tensor(ids, device=model.device),
            use_cache=True,
            return_dict=True,
            **told,
        )
    return output.get("cache")


def _divisible(cache: Any, length: int) -> bool:
    """Whether rows of a cache can be copied, picked and shifted, and it has one slot a token.

    The kinds of layers are compared, not tested as instances: those derived from them keep more
    than keys and values (a recurrent state, a quantised part), which would not be carried along.
    A tuned prompt before the tokens takes slots of its own.
    """
    if cache is None:  # transformers before 5.24 gives it under another name
        return False
    from transformers.cache_utils import (
        DummyLayer,
        DynamicCache,
        DynamicLayer,
        DynamicSlidingWindowLayer,
    )

    known = (DynamicLayer, DynamicSlidingWindowLayer, DummyLayer)
    return (
        type(cache) is DynamicCache
        and all(type(layer) in known for layer in cache.layers)
        and cache.get_seq_length() == length
    )


def continued(model: Any, prefix: Prefix, prompts: list[list[int]]) -> Any:
    """The cache of the prompts, a row each, all tokens but the last, padded on the left.

    They are read with the padding on the right, where no token sees it, and then shifted.

    Args:
        model: the model that read the prefix.
        prefix: what all of them begin with.
        prompts: their token ids.
    """
    cache = copy.deepcopy(prefix.cache)
    cache.batch_repeat_interleave(len(prompts))
    rests = [one[prefix.length : -1] for one in prompts]
    longest = max(map(len, rests))
    if longest:
        # a sliding window would else forget what the shorter rows still need
        cache.activate_past_recording()
        cache = _run(model, [one + [0] * (longest - len(one)) for one in rests], cache)
        _shift(cache, [longest - len(one) for one in rests])
    return cache


def _shift(cache: Any, by: list[int]) -> None:
    """Move each row to the right; what stands in front then is masked as padding."""
    import torch

    for layer in cache.layers:
        if layer.keys is None:  # it shares another layer's
            continue
        moved = torch.tensor(by, device=layer.keys.device)
        slots = torch.arange(layer.keys.shape[2], device=layer.keys.device) - moved[:, None]
        places = slots.clamp(min=0)[:, None, :, None]
        layer.keys = layer.keys.gather(2, places.expand_as(layer.keys))
        layer.values = layer.values.gather(2, places.expand_as(layer.values))
