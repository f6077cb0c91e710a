"""Which model is this? A digest of all that its answers depend on.

It covers every entry of every weight, packed ones with their scales, adapters whether active or
not, which adapters are active and how strongly, and the configuration. It does not depend on the
device, on where the model was loaded from, or on passes that the model has run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from enum import Enum
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

#: 32-bit words that are summed together: their products stay in a core's cache.
ROW = 1 << 14
#: Words that another device than a CPU multiplies at once.
BLOCK = 1 << 26
#: Settings that change no probability, or that change when a model is saved and loaded.
INDIFFERENT = (
    *("architectures", "dtype", "torch_dtype", "transformers_version", "use_cache", "return_dict"),
    *("output_attentions", "output_hidden_states", "id2label", "label2id", "problem_type"),
    "initializer_range",
)
#: What tells of a layer of peft which adapters act, and how strongly.
ADAPTERS = ("active_adapter", "_active_adapter", "_disable_adapters", "merged_adapters", "scaling")


def fingerprint(model: nn.Module) -> str:
    """Tells one model from another: 16 hexadecimal digits.

    Two models that differ in any entry get the same one with a probability below 2⁻³⁰.

    Args:
        model: a model whose weights are in memory.
    """
    digest = hashlib.sha256(_described(model).encode())
    seen: dict[tuple, bytes] = {}
    for name, tensor in _tensors(model):
        place = (tensor.device, tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        if place not in seen or not tensor.numel():  # what is tied is read once
            seen[place] = _digest(tensor)
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(seen[place])
    return digest.hexdigest()[:16]


def tokenizer_fingerprint(tokenizer: Any) -> str:
    """Tells one tokenizer from another: 16 hexadecimal digits.

    Args:
        tokenizer: a Hugging Face tokenizer.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    words = sorted(tokenizer.get_vocab().items()) if backend is None else backend.to_str()
    special = sorted((name, str(token)) for name, token in tokenizer.special_tokens_map.items())
    told = [type(tokenizer).__qualname__, words, special, getattr(tokenizer, "chat_template", None)]
    return hashlib.sha256(json.dumps(told, default=str).encode()).hexdigest()[:16]


def _tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """What a checkpoint would hold: weights, buffers, and the scales of packed weights."""
    for name, held in model.state_dict(keep_vars=True).items():
        if isinstance(held, Tensor):
            yield name, held.detach()


def _digest(tensor: Tensor) -> bytes:
    """Of all bytes of a tensor.

    They are read as 32-bit words w_i, in rows. Of each row the sum Σ_i r_i w_i modulo 2⁶⁴, with
    fixed random r_i, is kept: Dietzfelbinger's multilinear hash, at the speed of the memory.
    """
    # a single entry counts as contiguous, whatever its stride
    whole = tensor.contiguous().as_strided((tensor.numel(),), (1,)).view(torch.uint8)
    if whole.storage_offset() % 4:  # a view that begins within a word
        whole = whole.clone()
    rows, left = divmod(len(whole), 4 * ROW)
    full = whole[: len(whole) - left].view(torch.int32).view(rows, ROW)
    rest = nn.functional.pad(whole[len(whole) - left :], (0, -left % 4)).view(torch.int32)
    sums = torch.cat([_sums(full), _sums(rest[None])])
    return hashlib.sha256(sums.cpu().numpy().tobytes()).digest()


def _sums(words: Tensor) -> Tensor:
    """Σ_i r_i w_i of each row, modulo 2⁶⁴; the same on every device."""
    if words.device.type == "cpu":
        given, factors = words.numpy(), _factors().numpy()[: words.shape[1]]
        found = [np.dot(row.astype(np.int64), factors) for row in given]
        return torch.from_numpy(np.array(found, dtype=np.int64))
    return _sums_by_blocks(words)


def _sums_by_blocks(words: Tensor) -> Tensor:
    """The same in few large steps, as a GPU is fast at."""
    factors = _factors().to(words.device)[: words.shape[1]]
    blocks = words.split(max(1, BLOCK // ROW))
    return torch.cat([(block.long() * factors).sum(1) for block in blocks])


@cache
def _factors() -> Tensor:
    """The random numbers r_i."""
    low, high = np.iinfo(np.int64).min, np.iinfo(np.int64).max
    return torch.from_numpy(np.random.default_rng(0).integers(low, high, ROW, dtype=np.int64))


def _described(model: nn.Module) -> str:
    """The model's kind, its configuration, and which adapters act."""
    config: Any = getattr(model, "config", None)
    told = {
        "kind": type(model).__qualname__,
        "configuration": _plain(config.to_dict() if hasattr(config, "to_dict") else config),
        "adapters": {name: found for name, found in _adapters(model) if found},
    }
    return json.dumps(told, sort_keys=True)


def _adapters(model: nn.Module) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, module in model.named_modules():
        if type(module).__module__.startswith("peft."):
            given = {key: vars(module)[key] for key in ADAPTERS if key in vars(module)}
            found = {k: [v] if isinstance(v, str) else _plain(v) for k, v in given.items()}
            if "forward" in vars(module):  # a learnt prompt is switched off so
                found["forward"] = vars(module)["forward"].__qualname__
            yield name, found


def _plain(value: Any) -> Any:
    """As JSON, without what changes no probability; an absent setting is as one that is None."""
    if isinstance(value, Mapping):
        kept = {str(key): _plain(entry) for key, entry in value.items() if entry is not None}
        return {k: v for k, v in kept.items() if k not in INDIFFERENT and not k.startswith("_")}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if isinstance(value, (set, frozenset)):
        return sorted(str(entry) for entry in value)
    if isinstance(value, (str, int, float, bool, type(None))) and not isinstance(value, Enum):
        return value
    if isinstance(value, (Enum, torch.dtype)):
        return str(value)
    return type(value).__qualname__  # an object's own text may hold its address
