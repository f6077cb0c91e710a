"""The generic rule for a call: the module itself, run on one example after the other.

What it gives must be what the call gave.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from gnuq.gradnorm.errors import UnsupportedModuleError
from gnuq.gradnorm.factors import Factor
from gnuq.gradnorm.rules import Run, per_example
from gnuq.gradnorm.trees import tensors

if TYPE_CHECKING:
    from gnuq.gradnorm.calls import Call


def of_one_example(call: Call) -> dict[str, Factor]:
    """By the fallback: whatever stands along dimension 0, all of it is the only example's."""
    args, kwargs = tree_map(_detached, call.arguments)

    def run(parameters: dict[str, Tensor], _: list[Tensor]) -> list[Tensor]:
        outputs = torch.func.functional_call(_Forward(call.module), parameters, args, kwargs)
        return [y[None] for y in _among(call, outputs)]

    return _locally(call, run, [], [delta[None] for delta in call.deltas.values()])


def one_by_one(call: Call, batch: int, tokens: int) -> dict[str, Factor]:
    """The generic rule on one example after the other.

    A constant may have as many rows as there are examples by accident; so if the module does
    not give what the call gave, it is tried with such tensors left whole.
    """
    leaves, spec = tree_flatten(call.arguments)
    lengths = [x.shape[0] if isinstance(x, Tensor) and x.ndim else 0 for x in leaves]
    rows = [i for i, n in enumerate(lengths) if n in (batch, batch * tokens)]
    constant = [i for i in rows if not leaves[i].requires_grad]
    leaves = [_detached(x) for x in leaves]
    refused = None
    for kept in ([], *([i] for i in constant), *([constant] if len(constant) > 1 else [])):
        split = [i for i in rows if i not in kept]
        try:
            return _split(call, leaves, spec, split, batch, tokens)
        except UnsupportedModuleError as error:
            refused = refused or error
    assert refused is not None
    raise refused


def _split(
    call: Call, leaves: list[Any], spec: Any, split: list[int], batch: int, tokens: int
) -> dict[str, Factor]:
    in_a_row = [i for i in split if tokens > 1 and leaves[i].shape[0] == batch * tokens]
    local = _Forward(call.module)

    def run(parameters: dict[str, Tensor], tensors: list[Tensor]) -> list[Tensor]:
        filled = list(leaves)
        for i, tensor in zip(split, tensors, strict=True):
            filled[i] = tensor.flatten(0, 1) if i in in_a_row else tensor
        args, kwargs = tree_unflatten(filled, spec)
        outputs = torch.func.functional_call(local, parameters, args, kwargs)
        found = _among(call, outputs)
        return found if tokens == 1 else [y[None] for y in found]

    batched = [grouped(leaves[i], batch, tokens) for i in split]
    return _locally(
        call, run, batched, [grouped(delta, batch, tokens) for delta in call.deltas.values()]
    )


def _among(call: Call, outputs: Any) -> list[Tensor]:
    """Those of a local run's outputs that a gradient arrived at."""
    found = floating(outputs)
    return [found[i] for i in call.deltas]


def _locally(
    call: Call, run: Run, batched: list[Tensor], deltas: list[Tensor]
) -> dict[str, Factor]:
    """The generic rule; its run must give what the call gave."""
    try:
        touched = {f"module.{name}": value for name, value in call.touched.items()}
        found, outputs = per_example(run, touched, batched, deltas)
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        raise call.refuse(f"it cannot run on one example: {error}") from error
    for i, delta, got in zip(call.deltas, deltas, outputs, strict=True):
        if not close(call.outputs[i].reshape(delta.shape), got):
            raise call.refuse(
                "run on one example at a time it gives other outputs than on the batch, so "
                "its examples are not independent along dimension 0, or a hook changes them."
            )
    factors = {name: found[f"module.{name}"] for name in call.touched}
    if call.hidden and call.hidden == call.touched.keys():
        _demand_a_gradient(call, factors)
    return factors


def _demand_a_gradient(call: Call, found: dict[str, Factor]) -> None:
    """A module whose parameters nobody saw in use, and that have no gradient, hides it."""
    if not any(bool(factor.dense().any()) for factor in found.values()):
        raise call.refuse(
            "it owns parameters, but no use of them was seen (a custom kernel, another "
            "thread); its gradient would be missed."
        )


class _Forward(nn.Module):
    """A module's forward method, given what its hooks had made of the arguments in the pass.

    They run again, since the old form of weight normalisation computes its weight in one, but what
    they make of the arguments now is not used. One that is for the whole batch only, as scoring
    takes the answers' positions before a head, says so and is left out.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module's own forward method returns."""
        for key, hook in self.module._forward_pre_hooks.items():
            if not getattr(hook, "of_the_whole_batch", False):
                with_kwargs = key in self.module._forward_pre_hooks_with_kwargs
                hook(self.module, args, *([kwargs] if with_kwargs else []))
        return self._changed(args, kwargs, self.module.forward(*args, **kwargs))

    def _changed(self, args: tuple, kwargs: dict, output: Any) -> Any:
        """What hooks of all modules make of it; this module's own run after it was recorded."""
        everywhere = nn.modules.module
        for key, hook in everywhere._global_forward_hooks.items():
            with_kwargs = key in everywhere._global_forward_hooks_with_kwargs
            given = (args, kwargs) if with_kwargs else (args,)
            changed = hook(self.module, *given, output)  # type: ignore[operator]
            output = output if changed is None else changed
        return output


def grouped(x: Tensor, batch: int, tokens: int) -> Tensor:
    """Tokens that stand in a row, by example; any other tensor as it is."""
    in_a_row = tokens > 1 and x.shape[:1] == (batch * tokens,)
    return x.reshape(batch, tokens, *x.shape[1:]) if in_a_row else x


def _detached(x: Any) -> Any:
    return x.detach() if isinstance(x, Tensor) else x


def floating(outputs: Any) -> list[Tensor]:
    """The floating-point tensors in a module's output."""
    return [x for x in tensors(outputs) if x.is_floating_point()]


def close(x: Tensor, y: Tensor) -> bool:
    """Equal up to rounding, relative to the largest entry.

    Half the digits of the data type, in float64 six: many norm layers compute in float32 always.
    """
    if x.shape != y.shape:
        return False
    finite = x.abs()[torch.isfinite(x)]
    scale = float(finite.max()) if finite.numel() else 0.0
    tolerance = max(torch.finfo(x.dtype).eps, 1e-12) ** 0.5 * max(scale, 1e-30)
    return bool(((x == y) | ((x - y).abs() <= tolerance)).all())
