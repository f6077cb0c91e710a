"""What stands on an autograd graph."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from torch import Tensor
from torch.autograd.function import BackwardCFunction


def custom_functions(values: Iterable[Tensor]) -> Iterator[BackwardCFunction]:
    """The functions with a backward pass of their own that lie behind some tensors."""
    waiting, seen = [value.grad_fn for value in values], set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if isinstance(node, BackwardCFunction):
            yield node
        waiting += [following for following, _ in node.next_functions]
