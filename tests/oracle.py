"""The slow truth: a plain loop of backward passes, one example and one objective at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn


def gradients(
    model: nn.Module, inputs: Tensor | tuple | Mapping, objective: Callable
) -> dict[str, Tensor]:
    """∂s_bk/∂θ_j for every example b and objective k, shape (batch, K, *parameter)."""
    parameters = dict(model.named_parameters())
    frozen = {name: p.requires_grad for name, p in parameters.items()}
    model.requires_grad_(True)
    rows = []
    for b in range(_batch(inputs)):
        values = objective(_call(model, _example(inputs, b))).reshape(-1)
        rows.append([_one(value, list(parameters.values())) for value in values])
    for name, parameter in parameters.items():
        parameter.requires_grad_(frozen[name])
    return {
        name: torch.stack([torch.stack([column[j] for column in row]) for row in rows])
        for j, name in enumerate(parameters)
    }


def squared_norms(model: nn.Module, inputs: Tensor | tuple | Mapping, objective: Callable) -> dict:
    """‖∂s_bk/∂θ_j‖² by parameter name, shape (batch, K)."""
    found = gradients(model, inputs, objective)
    return {n: g.reshape(*g.shape[:2], -1).square().sum(2) for n, g in found.items()}


def _one(value: Tensor, parameters: list[Tensor]) -> list[Tensor]:
    if not value.requires_grad:
        return [torch.zeros_like(p) for p in parameters]
    found = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for g, p in zip(found, parameters, strict=True)]


def _batch(inputs: Tensor | tuple | Mapping) -> int:
    first = inputs if isinstance(inputs, Tensor) else next(iter(_values(inputs)))
    return first.shape[0]


def _values(inputs: tuple | Mapping):
    return inputs.values() if isinstance(inputs, Mapping) else inputs


def _example(inputs: Tensor | tuple | Mapping, b: int):
    if isinstance(inputs, Tensor):
        return inputs[b : b + 1]
    if isinstance(inputs, Mapping):
        return {key: value[b : b + 1] for key, value in inputs.items()}
    return tuple(value[b : b + 1] for value in inputs)


def _call(model: nn.Module, inputs: Tensor | tuple | Mapping):
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, tuple) else model(inputs)
