"""Inputs as a batch of examples: how many there are, and some of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten


def batch_of(inputs: Any) -> int:
    """The number of examples: dimension 0 of the first tensor."""
    if not isinstance(inputs, (Tensor, tuple, list, Mapping)):
        raise TypeError(
            f"inputs: expected a tensor, a tuple of arguments, or a mapping of keyword arguments, "
            f"got {type(inputs).__name__}."
        )
    tensors = [x for x in tree_flatten(inputs)[0] if isinstance(x, Tensor)]
    if not tensors or tensors[0].ndim == 0:
        raise ValueError("inputs: they hold no tensor with a batch dimension.")
    if tensors[0].shape[0] == 0:
        raise ValueError("inputs: the batch is empty; give at least one example.")
    return tensors[0].shape[0]


def tokens_of(inputs: Any) -> int:
    """The tokens of an example: dimension 1 of the first tensor, 0 if it has none."""
    first = next(x for x in tree_flatten(inputs)[0] if isinstance(x, Tensor))
    return int(first.shape[1]) if first.ndim > 1 else 0


def split(inputs: Any, batch_size: int | None) -> list[Any]:
    """The inputs in parts of at most `batch_size` examples."""
    batch = batch_of(inputs)
    if batch_size is None:
        return [inputs]
    if not isinstance(batch_size, int) or batch_size < 1:
        raise ValueError(f"batch_size: {batch_size} is not a positive whole number.")
    return [_cut(inputs, i, i + batch_size) for i in range(0, batch, batch_size)]


def one_of(inputs: Any, example: int) -> Any:
    """The inputs of one example, as a batch of one."""
    return _cut(inputs, example, example + 1)


def in_row(output: Any, example: int, batch: int) -> Any:
    """A model's output for one example in its row of the batch; constants in the other rows."""

    def place(x: Any) -> Any:
        if not isinstance(x, Tensor) or x.shape[:1] != (1,):
            return x
        rows = x.detach().expand(batch, *x.shape[1:]).clone()
        rows[example] = x[0]
        return rows

    return tree_map(place, output)


def _cut(inputs: Any, start: int, stop: int) -> Any:
    """Rows of every tensor that has as many as there are examples; the rest as it is."""
    batch = batch_of(inputs)
    leaves, spec = tree_flatten(inputs)
    rows = [
        x[start:stop] if isinstance(x, Tensor) and x.shape[:1] == (batch,) else x for x in leaves
    ]
    return tree_unflatten(rows, spec)
