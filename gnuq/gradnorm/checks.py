"""Errors that name the argument and the remedy, before and after a pass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from gnuq.gradnorm.recorder import Recorder, UnsupportedModuleError

_BATCH_STATISTICS = (nn.modules.batchnorm._BatchNorm,)


def split(model: nn.Module, inputs: Any, batch_size: int | None) -> list[Any]:
    """Check the model and its inputs; return the inputs in parts of at most `batch_size`."""
    ready(model)
    leaves, spec = tree_flatten(inputs)
    batch = batch_of(inputs)
    _same_device(model, leaves)
    for leaf in leaves:
        if isinstance(leaf, Tensor) and leaf.is_floating_point() and not _finite(leaf):
            raise ValueError("inputs: they contain NaN or infinity; clean or drop those examples.")
    if batch_size is None or batch_size >= batch:
        return [inputs]
    if batch_size < 1:
        raise ValueError(f"batch_size: {batch_size} is not a positive number.")
    cut = [
        leaf.split(batch_size) if isinstance(leaf, Tensor) and leaf.shape[:1] == (batch,) else None
        for leaf in leaves
    ]
    return [
        tree_unflatten(
            [
                leaf if pieces is None else pieces[i]
                for leaf, pieces in zip(leaves, cut, strict=True)
            ],
            spec,
        )
        for i in range(-(-batch // batch_size))
    ]


def ready(model: nn.Module) -> None:
    """The model has finite parameters and is deterministic, one example apart from another."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: expected a torch.nn.Module, got {type(model).__name__}.")
    parameters = dict(model.named_parameters())
    if not parameters:
        raise ValueError("model: it has no parameters, so there is no gradient to measure.")
    for name, parameter in parameters.items():
        if parameter.is_floating_point() and not _finite(parameter):
            raise ValueError(
                f"model: parameter {name!r} holds NaN or infinity; reload the weights."
            )
    for name, module in model.named_modules():
        if module.training and _random_or_coupled(module):
            raise ValueError(
                f"model: {name!r} ({type(module).__name__}) is in training mode, where its output "
                "is random or mixes examples; call model.eval() first."
            )


def _random_or_coupled(module: nn.Module) -> bool:
    """Whether training mode makes the module random, or its examples depend on each other."""
    dropout = getattr(module, "dropout", 0.0)
    return (
        isinstance(module, _BATCH_STATISTICS)
        or (isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0)
        or (isinstance(dropout, float) and dropout > 0)
    )


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


def call(model: nn.Module, inputs: Any) -> Any:
    """Call the model, and name the inputs when it refuses them."""
    try:
        if isinstance(inputs, Mapping):
            return model(**inputs)
        return model(*inputs) if isinstance(inputs, (tuple, list)) else model(inputs)
    except UnsupportedModuleError:
        raise
    except (RuntimeError, IndexError, ValueError) as error:
        tensors = [x for x in tree_flatten(inputs)[0] if isinstance(x, Tensor)]
        shapes = ", ".join(f"{tuple(x.shape)} {x.dtype}" for x in tensors)
        if "dtype" in str(error):
            raise TypeError(
                f"inputs: {shapes}; the model computes in {next(model.parameters()).dtype}: "
                f"convert them with .to({next(model.parameters()).dtype}). ({error})"
            ) from error
        raise ValueError(f"inputs: the model failed on {shapes}: {error}") from error


def objective(values: Any, batch: int) -> None:
    """The objective is one differentiable scalar per example, or K of them."""
    if not isinstance(values, Tensor):
        raise TypeError(f"objective: it returned a {type(values).__name__}, not a tensor.")
    if values.ndim not in (1, 2) or values.shape[0] != batch:
        raise ValueError(
            f"objective: it returned shape {tuple(values.shape)} for {batch} examples; return one "
            f"scalar per example, shape ({batch},), or K of them, shape ({batch}, K), without "
            "summing or averaging over the batch."
        )
    if not values.is_floating_point():
        raise TypeError(f"objective: it returned {values.dtype}; return floating-point values.")
    if not values.requires_grad:
        raise ValueError(
            "objective: its values do not depend on the model's parameters; do not detach them, "
            "and do not compute them under no_grad."
        )


def independent(recorder: Recorder, columns: Tensor) -> None:
    """Where a second dimension equals the batch size, prove that dimension 0 is the batch.

    The gradient of the first example's objective must be zero at every other example's rows.
    """
    batch = columns.shape[0]
    shapes = [x.shape for one in recorder.calls for x in one.outputs or one.tensors()[:1]]
    if batch == 1 or not any(batch in shape[1:-1] for shape in shapes):
        return
    recorder.arrived = None
    first = torch.zeros_like(columns)
    first[0] = 1
    recorder.run_backward(columns, first, last=False)
    for one in recorder.calls:
        if any(bool(delta[1:].any()) for delta in one.deltas.values()):
            raise UnsupportedModuleError(
                f"{one.described}: dimension 0 is not the batch (time first, or examples that "
                "depend on each other); put the batch first."
            )


def finite_result(model: nn.Module, values: Tensor, norms: Tensor) -> None:
    """No NaN is passed on as a score."""
    for name, tensor in (("objective", values), ("squared gradient norm", norms)):
        bad = (~torch.isfinite(tensor)).nonzero()
        if len(bad):
            raise ValueError(
                f"{name}: not finite for {len(bad)} entries, the first at example "
                f"{int(bad[0, 0])}; check the inputs, or use a wider data type than "
                f"{next(model.parameters()).dtype}."
            )


def _same_device(model: nn.Module, leaves: list[Any]) -> None:
    homes = {parameter.device for parameter in model.parameters()}
    for leaf in leaves:
        if isinstance(leaf, Tensor) and leaf.device not in homes:
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
