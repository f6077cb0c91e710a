"""The tensors among arguments and results: as torch's pytree finds them, without its price.

Every torch function of a forward pass is looked at; nearly all take tensors, numbers and tuples.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten

#: What surely holds no tensor.
PLAIN = (bool, int, float, str, type(None), torch.dtype, torch.device, torch.Size, slice)


def tensors(tree: Any) -> list[Tensor]:
    """The tensors in nested tuples, lists, dictionaries and all that pytree knows, in order."""
    found: list[Tensor] = []
    _collect(tree, found)
    return found


def _collect(tree: Any, found: list[Tensor]) -> None:
    if isinstance(tree, Tensor):
        found.append(tree)
    elif isinstance(tree, PLAIN):
        return
    elif type(tree) is tuple or type(tree) is list:
        for part in tree:
            _collect(part, found)
    elif type(tree) is dict:
        for part in tree.values():
            _collect(part, found)
    else:
        found += [leaf for leaf in tree_flatten(tree)[0] if isinstance(leaf, Tensor)]
