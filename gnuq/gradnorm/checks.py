"""Errors that name the argument and the remedy, before and after a pass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_map

from gnuq.gradnorm.errors import UnsupportedModuleError
from gnuq.gradnorm.examples import batch_of
from gnuq.gradnorm.surroundings import demand_own_memory, demand_plain_mode


class NotFiniteError(ValueError):
    """An objective or a norm that is NaN or infinite.

    Attributes:
        example: the first example that has one.
    """

    def __init__(self, message: str, example: int) -> None:
        super().__init__(message)
        self.example = example


def prepared(model: nn.Module, inputs: Any, *, weights: bool = True) -> Any:
    """Check the model and its inputs; return the inputs detached, a mapping as a dict."""
    demand_plain_mode()
    ready(model, weights=weights)
    inputs = dict(inputs) if isinstance(inputs, Mapping) else inputs
    leaves = [x for x in tree_flatten(inputs)[0] if isinstance(x, Tensor)]
    for leaf in leaves:
        if leaf.layout != torch.strided or leaf.is_nested:
            kind = "nested" if leaf.is_nested else str(leaf.layout)
            raise ValueError(f"inputs: a {kind} tensor; give dense ones, padded, with a mask.")
    batch_of(inputs)
    _same_device(model, leaves)
    for leaf in leaves:
        if leaf.is_inference():
            raise ValueError("inputs: made under inference_mode; make them outside of it.")
        if leaf.is_floating_point() and not _finite(leaf):
            raise ValueError(
                "inputs: they contain NaN or infinity; drop those examples (or, in an additive "
                "mask, use a large negative number)."
            )
    return tree_map(lambda x: x.detach() if isinstance(x, Tensor) else x, inputs)


def ready(model: nn.Module, *, weights: bool = True) -> None:
    """The model has finite parameters and is deterministic, one example apart from another.

    Args:
        model: the model.
        weights: whether to look at every weight.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: expected a torch.nn.Module, got {type(model).__name__}.")
    parameters = dict(model.named_parameters())
    if not parameters:
        raise ValueError("model: it has no parameters, so there is no gradient to measure.")
    for name, parameter in parameters.items():
        if isinstance(parameter, nn.parameter.UninitializedParameter):
            raise ValueError(
                f"model: parameter {name!r} has no shape yet (a lazy layer); run the model once."
            )
        if parameter.device.type == "meta":
            raise ValueError(
                f"model: parameter {name!r} is not in memory (offloaded, or on the meta device); "
                "load the model whole, or quantised."
            )
        if parameter.numel() == 0:
            raise ValueError(f"model: parameter {name!r} has no entries; remove that layer.")
        if parameter.is_inference():
            raise ValueError(f"model: parameter {name!r} was made under inference_mode; reload it.")
        if weights and parameter.is_floating_point() and not _finite(parameter):
            raise ValueError(f"model: parameter {name!r} has NaN or infinity; reload the weights.")
    demand_own_memory(model)
    for name, module in model.named_modules():
        if _random_or_coupled(module):
            raise ValueError(
                f"model: {name!r} ({type(module).__name__}) is random or mixes examples as it "
                "stands; call model.eval() first, and give batch norm running statistics."
            )


def _random_or_coupled(module: nn.Module) -> bool:
    """Whether the module is random, or its examples depend on each other, in its present mode."""
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        return module.training or module.running_mean is None
    dropout = getattr(module, "dropout", 0.0)
    rate = module.p if isinstance(module, nn.modules.dropout._DropoutNd) else dropout
    return module.training and isinstance(rate, float) and rate > 0


def call(model: nn.Module, inputs: Any) -> Any:
    """Call the model, and name the inputs when it refuses them."""
    try:
        if isinstance(inputs, Mapping):
            return model(**inputs)
        return model(*inputs) if isinstance(inputs, (tuple, list)) else model(inputs)
    except UnsupportedModuleError:
        raise
    except (RuntimeError, IndexError, TypeError, ValueError) as error:
        tensors = [x for x in tree_flatten(inputs)[0] if isinstance(x, Tensor)]
        shapes = ", ".join(f"{tuple(x.shape)} {x.dtype}" for x in tensors)
        expected = {p.dtype for p in model.parameters()}
        if "dtype" in str(error) and not any(x.dtype in expected for x in tensors):
            wanted = sorted(map(str, expected))[0]
            raise TypeError(
                f"inputs: {shapes}; the model computes in {wanted}: convert them with "
                f".to({wanted}). ({error})"
            ) from error
        raise ValueError(f"inputs: the model failed on {shapes}: {error}") from error


def objective(values: Any, batch: int, anchor: Tensor) -> list[Any]:
    """The objective is one differentiable scalar per example, or K of them; its graph's nodes."""
    if not isinstance(values, Tensor):
        raise TypeError(f"objective: it returned a {type(values).__name__}, not a tensor.")
    if values.ndim not in (1, 2) or values.shape[0] != batch or values.numel() == 0:
        raise ValueError(
            f"objective: it returned shape {tuple(values.shape)} for {batch} examples (rows of "
            f"the first input); return one scalar per example, shape ({batch},), or K of them, "
            f"shape ({batch}, K), without summing or averaging over the batch."
        )
    if not values.is_floating_point():
        raise TypeError(f"objective: it returned {values.dtype}; return floating-point values.")
    if not values.requires_grad:
        raise ValueError(
            "objective: its values do not depend on the model's parameters; do not detach them, "
            "and do not compute them under no_grad."
        )
    return _one_leaf(values, anchor)


def _one_leaf(values: Tensor, anchor: Tensor) -> list[Any]:
    """No tensor but ours may start the autograd graph: behind it no δ would be delivered."""
    waiting, seen = [values.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", anchor)
        if leaf is not anchor:
            raise UnsupportedModuleError(
                f"a tensor of shape {tuple(leaf.shape)} that requires grad, but is no parameter "
                "of a module (a stored view of a weight, say), reaches the objective; use the "
                "parameter itself, or detach the tensor."
            )
        waiting += [following for following, _ in node.next_functions]
    return list(seen)


def finite_result(model: nn.Module, values: Tensor, norms: Tensor, start: int = 0) -> None:
    """No NaN is passed on as a score; `start` is the number of the first example."""
    for name, tensor in (("objective", values), ("squared gradient norm", norms)):
        bad = (~torch.isfinite(tensor)).nonzero()
        if len(bad):
            first = start + int(bad[0, 0])
            raise NotFiniteError(
                f"{name}: not finite for {len(bad)} entries, the first at example {first}; check "
                f"the inputs, or use a wider data type than {next(model.parameters()).dtype}.",
                first,
            )


def _same_device(model: nn.Module, leaves: list[Tensor]) -> None:
    homes = {parameter.device for parameter in model.parameters()}
    for leaf in leaves:
        if leaf.device not in homes:
            home = sorted(str(device) for device in homes)[0]
            raise ValueError(
                f"inputs: they are on {leaf.device}, the model on {home}; move them with "
                f".to({home!r})."
            )


def _finite(tensor: Tensor) -> bool:
    """A finite sum proves finite entries; only an infinite one needs the entries looked at."""
    if tensor.device.type == "meta":
        return True
    return bool(torch.isfinite(tensor.sum())) or bool(torch.isfinite(tensor).all())
