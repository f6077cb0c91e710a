"""Which modules own weights, and what stands for weights that a layer keeps packed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList, is_parametrized

from gnuq.gradnorm.rules import Rule, find_rule
from gnuq.gradnorm.trees import PLAIN


def computes_with_parameters(module: nn.Module, rule: Rule | None) -> bool:
    """Whether to record a module: a parametrisation's list only serves the module around it."""
    if isinstance(module, ParametrizationList):
        return False
    owned = any(parameter is not None for parameter in module._parameters.values())
    return owned or is_parametrized(module) or (rule is not None and bool(rule.stored))


def encloses_parameters(module: nn.Module) -> bool:
    """Whether modules inside it own parameters: it may use one of them itself."""
    if isinstance(module, ParametrizationList | torch.jit.ScriptModule):
        return False
    return next(module.parameters(), None) is not None


def whole_numbers(leaves: list[Any]) -> bool:
    """Whether a result is made of tensors without a gradient, such as chosen positions."""
    return any(isinstance(x, Tensor) for x in leaves) and all(
        isinstance(x, (Tensor, *PLAIN)) for x in leaves
    )


def stored_weights(model: nn.Module) -> dict[str, Tensor]:
    """The weights that layers keep packed in buffers, by the name that the weight would have."""
    return {
        f"{name}.{weight}".lstrip("."): stored
        for name, module in model.named_modules()
        for weight, stored in packed(module, find_rule(module)).items()
    }


def packed(module: nn.Module, rule: Rule | None) -> dict[str, Tensor]:
    """What stands for a layer's packed weights, by weight; a bias may be absent."""
    if rule is None or not rule.stored:
        return {}
    found = {k: getattr(module, v) for k, v in rule.stored.items()}
    return {weight: stored for weight, stored in found.items() if stored is not None}


def same_memory(base: Tensor, view: Tensor) -> bool:
    """Whether a view shows all of its base, in the same order."""
    return base.numel() == view.numel() and base.is_contiguous() and view.is_contiguous()
