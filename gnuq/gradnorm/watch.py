"""What a recorder puts between torch and a model: copies on the graph, and a look at functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import BackwardCFunction
from torch.overrides import TorchFunctionMode

from gnuq.gradnorm.trees import PLAIN, tensors


class Attach(torch.autograd.Function):
    """Puts a copy of a tensor on the autograd graph, so that frozen layers have a backward."""

    @staticmethod
    def forward(ctx: Any, output: Tensor, anchor: Tensor) -> Tensor:
        """The copy."""
        return output.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """The gradient as it comes."""
        return gradients[0], None


#: The node that this function leaves on the autograd graph.
ATTACHED: type[BackwardCFunction] = Attach._backward_cls  # type: ignore[attr-defined]


class Watch(TorchFunctionMode):
    """Reports every parameter among the arguments of a torch function that yields a tensor."""

    def __init__(self, owned: dict[int, str], report: Callable[[int, str], None]) -> None:
        super().__init__()
        self.owned, self.report = owned, report

    def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        """Run the function; report afterwards, since reading a shape is not a use."""
        result = func(*args, **kwargs) if kwargs else func(*args)
        used = self._owned_among(args)
        if kwargs:
            used += self._owned_among(kwargs.values())
        if used and (result is None or tensors(result)):  # None: an assignment to a slice
            for parameter in used:
                self.report(id(parameter), getattr(func, "__name__", str(func)))
        return result

    def _owned_among(self, arguments: Iterable[Any]) -> list[Tensor]:
        """Nearly every argument is a tensor or a number, so those are looked at first."""
        found = []
        for x in arguments:
            if isinstance(x, Tensor):
                if id(x) in self.owned:
                    found.append(x)
            elif not isinstance(x, PLAIN):
                found += [y for y in tensors(x) if id(y) in self.owned]
        return found
