"""Errors that name the argument and the remedy, before and after a pass."""

from __future__ import annotations

import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from gnuq.gradnorm.calls import UnsupportedModuleError


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
    outside()
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


def outside() -> None:
    """No surrounding block changes how a pass computes.

    Raises:
        ValueError: called under inference_mode or autocast.
    """
    if torch.is_inference_mode_enabled():
        raise ValueError(
            "called under torch.inference_mode(), which forbids backward passes: call it outside "
            "that block (torch.no_grad() does no harm)."
        )
    kinds = {"cpu", *(("cuda",) if torch.cuda.is_available() else ())}
    if any(torch.is_autocast_enabled(kind) for kind in kinds):
        raise ValueError(
            "called under torch.autocast, which rounds some layers and not others: call it "
            "outside that block, on a model of the data type that you want (model.to(dtype))."
        )


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
    _own_memory(model)
    for name, module in model.named_modules():
        if _random_or_coupled(module):
            raise ValueError(
                f"model: {name!r} ({type(module).__name__}) is random or mixes examples as it "
                "stands; call model.eval() first, and give batch norm running statistics."
            )


def _own_memory(model: nn.Module) -> None:
    """No two weights, or scales of packed weights, share memory without being one tensor.

    Layers that are streamed through one buffer do: at the backward pass it holds another layer.
    """
    named: dict[str, Tensor] = dict(model.named_parameters())
    for name, module in model.named_modules():
        state = getattr(getattr(module, "weight", None), "quant_state", None)
        if isinstance(scales := getattr(state, "absmax", None), Tensor):
            named[f"{name}.weight.quant_state.absmax"] = scales
    seen: set[int] = set()
    ranges = []
    for name, x in named.items():
        if id(x) not in seen and x.layout == torch.strided and x.numel():
            seen.add(id(x))
            extent = sum((n - 1) * s for n, s in zip(x.shape, x.stride(), strict=True)) + 1
            start = x.data_ptr()
            ranges.append((str(x.device), start, start + extent * x.element_size(), name))
    ranges.sort()
    for (home, _, stop, first), (other, start, _, second) in pairwise(ranges):
        if home == other and start < stop:
            raise UnsupportedModuleError(
                f"parameters {first!r} and {second!r} share memory, but are two tensors, so that "
                "one's gradient is not the whole gradient. Tie them as one (b.weight = a.weight); "
                "or, if layers are streamed through one buffer, load the model whole."
            )


def _random_or_coupled(module: nn.Module) -> bool:
    """Whether the module is random, or its examples depend on each other, in its present mode."""
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        return module.training or module.running_mean is None
    dropout = getattr(module, "dropout", 0.0)
    rate = module.p if isinstance(module, nn.modules.dropout._DropoutNd) else dropout
    return module.training and isinstance(rate, float) and rate > 0


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


@contextmanager
def eager() -> Generator[None]:
    """Run functions under torch.compile as they were written: compiled, nobody sees their uses."""
    dynamo = sys.modules.get("torch._dynamo")
    if dynamo is None:
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield


@contextmanager
def deterministic() -> Generator[None]:
    """Refuse a block that draws random numbers: its gradient would be of one random model."""
    before = torch.get_rng_state()
    yield
    if not torch.equal(before, torch.get_rng_state()):
        raise ValueError("model: its forward pass draws random numbers; call model.eval() first.")


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
