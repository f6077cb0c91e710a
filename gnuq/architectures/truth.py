"""The slow truth: one plain backward pass for each example, alone, in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


class InDouble(TorchFunctionMode):
    """Inside the block, float64 stands wherever a class asks for float32.

    Many classes compute norm layers, routers or states in float32 whatever their weights are. Two
    exact gradients then differ by 1e-7 and more, which hides small mistakes.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        """Run the function with the wider type."""
        func = torch.Tensor.double if func is torch.Tensor.float else func
        kwargs = {name: _wide(value) for name, value in (kwargs or {}).items()}
        return func(*map(_wide, args), **kwargs)


def _wide(value: Any) -> Any:
    return torch.float64 if value is torch.float32 else value


def squared_norms(model: nn.Module, value: Callable[[], Tensor]) -> dict[str, float]:
    """‖∂ value / ∂θ_j‖² by parameter name; what no gradient reaches is left out.

    Args:
        model: whose parameters θ are.
        value: runs the model on one example and returns one scalar.
    """
    kept = {name: p.requires_grad for name, p in model.named_parameters()}
    model.requires_grad_(True)
    parameters = dict(model.named_parameters())
    found = torch.autograd.grad(value(), list(parameters.values()), allow_unused=True)
    for name, parameter in parameters.items():
        parameter.requires_grad_(kept[name])
    return {
        name: float(gradient.double().square().sum())
        for name, gradient in zip(parameters, found, strict=True)
        if gradient is not None
    }


def largest_difference(found: dict[str, float], expected: dict[str, float]) -> float:
    """By how much the norm of any parameter, or their sum, is off, relative to the sum."""
    total = sum(expected.values())
    names = {*found, *expected}
    parts = [abs(found.get(name, 0.0) - expected.get(name, 0.0)) for name in names]
    return max(*parts, abs(sum(found.values()) - total)) / total
