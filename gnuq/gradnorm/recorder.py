"""Watches one forward pass: which module was called with what, and who used which parameter.

The recorder freezes the weights, notes every call of a module that owns parameters, and hooks
its outputs so that one backward pass to the activations delivers every output gradient δ. It
also watches every torch function for parameters that are used outside the module that owns them
(a functional tied head, say), because a use that no call accounts for would make the norm
silently too small.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList, is_parametrized
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_unflatten

from gnuq.gradnorm.factors import Factor
from gnuq.gradnorm.rules import Backward, Rule, find_rule, per_example


class UnsupportedModuleError(NotImplementedError):
    """A module, or a use of a parameter, whose gradient cannot be accounted for exactly."""


class _Attach(torch.autograd.Function):
    """Puts a copy of a tensor on the autograd graph, so that frozen layers have a backward.

    A copy, not the tensor itself: a linear layer's output may be a view, whose hooks would not
    fire. Only layers in front of which nothing is on the graph need it.
    """

    @staticmethod
    def forward(ctx: Any, output: Tensor, anchor: Tensor) -> Tensor:
        return output.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


@dataclass
class Call:
    """One call of one module in the forward pass.

    Attributes:
        name: the module's name in the model.
        module: the module.
        rule: its rule, or None for the generic fallback.
        args: positional and keyword arguments of the call.
        touched: parameters that the call used, by their name inside the module.
        outputs: the output tensors, detached (fallback only: the local run must reproduce them).
        deltas: gradients at the outputs, by output index, for the backward pass in progress.
    """

    name: str
    module: nn.Module
    rule: Rule | None
    args: tuple[tuple, dict] = ((), {})
    touched: dict[str, Tensor] = field(default_factory=dict)
    outputs: list[Tensor] = field(default_factory=list)
    versions: list[int] = field(default_factory=list)
    deltas: dict[int, Tensor] = field(default_factory=dict)
    backward: Backward | None = None

    @property
    def described(self) -> str:
        """The module as error messages name it."""
        return f"module {self.name or '(the model itself)'!r} ({type(self.module).__name__})"

    def tensors(self) -> list[Tensor]:
        """The tensors among the call's arguments."""
        return [leaf for leaf in tree_flatten(self.args)[0] if isinstance(leaf, Tensor)]

    def factors(self, batch: int) -> dict[str, Factor]:
        """Per-example gradients of the touched parameters, by their name inside the module.

        Args:
            batch: the number of examples, which dimension 0 must be.

        Raises:
            UnsupportedModuleError: the call does not keep the examples along dimension 0, its input
                was overwritten, or its rule cannot handle the module's options.
        """
        if [tensor._version for tensor in self.tensors()] != self.versions:
            raise UnsupportedModuleError(
                f"{self.described}: its input was changed in place after the call; replace the "
                "in-place operation (x += y) by x = x + y."
            )
        for delta in self.deltas.values():
            if delta.shape[:1] != (batch,):
                raise UnsupportedModuleError(
                    f"{self.described}: its output of shape {tuple(delta.shape)} does not keep "
                    f"the {batch} examples along dimension 0 (broadcast positions, flattened or "
                    "routed tokens, time first); give every example its own row."
                )
        if self.rule is not None:
            return self._by_rule(self.rule)
        return self._by_fallback(batch)

    def _by_rule(self, rule: Rule) -> dict[str, Factor]:
        if self.backward is None:
            try:
                self.backward = rule.prepare(self.module, self.tensors()[0].detach())
            except NotImplementedError as error:
                raise UnsupportedModuleError(f"{self.described}: {error}.") from error
        return {k: v for k, v in self.backward(self.deltas[0]).items() if k in self.touched}

    def _by_fallback(self, batch: int) -> dict[str, Factor]:
        leaves, spec = tree_flatten(self.args)
        split = [
            i for i, x in enumerate(leaves) if isinstance(x, Tensor) and x.shape[:1] == (batch,)
        ]

        def run(parameters: dict[str, Tensor], tensors: list[Tensor]) -> list[Tensor]:
            filled = list(leaves)
            for i, tensor in zip(split, tensors, strict=True):
                filled[i] = tensor
            args, kwargs = tree_unflatten(filled, spec)
            outputs = torch.func.functional_call(self.module, parameters, args, kwargs)
            return [differentiable(outputs)[i] for i in self.deltas]

        batched = [leaves[i].detach() for i in split]
        deltas = list(self.deltas.values())
        try:
            found, outputs = per_example(self.touched, (batched, run), deltas)
        except RuntimeError as error:
            raise UnsupportedModuleError(
                f"{self.described}: cannot run on one example: {error}"
            ) from error
        for i, got in zip(self.deltas, outputs, strict=True):
            if not close(self.outputs[i], got):
                raise UnsupportedModuleError(
                    f"{self.described}: run on one example at a time it gives other outputs than "
                    "on the batch, so its examples are not independent along dimension 0."
                )
        return found


def _computes_with_parameters(module: nn.Module) -> bool:
    """Whether to record a module: a parametrisation's list only serves the module around it."""
    if isinstance(module, ParametrizationList):
        return False
    owned = next(module.parameters(recurse=False), None) is not None
    return owned or is_parametrized(module)


def differentiable(outputs: Any) -> list[Tensor]:
    """The floating-point tensors in a module's output."""
    leaves = tree_flatten(outputs)[0]
    return [x for x in leaves if isinstance(x, Tensor) and x.is_floating_point()]


def close(x: Tensor, y: Tensor) -> bool:
    """Equal up to rounding: half the digits of the data type, relative to the largest entry."""
    tolerance = torch.finfo(x.dtype).eps ** 0.5
    if x.shape != y.shape:
        return False
    scale = max(float(x.abs().max()), 1e-30) if x.numel() else 1.0
    return bool(((x - y).abs() <= tolerance * scale).all())


class _Watch(TorchFunctionMode):
    """Reports every parameter among the arguments of a torch function that returns a tensor."""

    def __init__(self, owned: dict[int, str], report: Callable[[int, str], None]) -> None:
        super().__init__()
        self.owned, self.report = owned, report

    def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        """Run the function; report afterwards, since reading a shape is not a use."""
        result = func(*args, **(kwargs or {}))
        used = [x for x in _flat(args, kwargs) if id(x) in self.owned]
        if used and any(isinstance(x, Tensor) for x in tree_flatten(result)[0]):
            for parameter in used:
                self.report(id(parameter), getattr(func, "__name__", str(func)))
        return result


def _flat(args: tuple, kwargs: dict | None) -> Iterator[Any]:
    """Arguments, and the members of lists and tuples among them."""
    for x in (*args, *(kwargs or {}).values()):
        if isinstance(x, (list, tuple)):
            yield from x
        else:
            yield x


class Recorder:
    """Records one forward pass of a model, as a context manager; then drives backward passes.

    Attributes:
        calls: the calls in order, each with the parameters that it used.
        names: canonical name of every parameter, by identity; tied parameters share one.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.calls: list[Call] = []
        self.names = {id(p): name for name, p in model.named_parameters()}
        self.anchor = torch.zeros((), requires_grad=True)
        self.arrived: Callable[[Call], None] | None = None
        self.batch = 0
        self._running: list[Call] = []

    @contextmanager
    def watching(self) -> Generator[None]:
        """Freeze the weights and record every call inside the block."""
        with ExitStack() as stack:
            for parameter in self.model.parameters():
                if parameter.requires_grad:
                    parameter.requires_grad_(False)
                    stack.callback(parameter.requires_grad_, True)
            for name, module in self.model.named_modules():
                if _computes_with_parameters(module):
                    self._hook(stack, name, module)
            mha = torch.backends.mha  # its fast path hides which module uses which weight
            stack.callback(mha.set_fastpath_enabled, mha.get_fastpath_enabled())
            mha.set_fastpath_enabled(False)
            with torch.enable_grad(), _Watch(self.names, self._used):
                yield

    def _hook(self, stack: ExitStack, name: str, module: nn.Module) -> None:
        rule = find_rule(module)

        def enter(module: nn.Module, args: tuple, kwargs: dict) -> None:
            self._running.append(Call(name, module, rule))

        def leave(module: nn.Module, args: tuple, kwargs: dict, output: Any) -> Any:
            call = self._running.pop()
            call.args = (args, kwargs)
            call.versions = [tensor._version for tensor in call.tensors()]
            return self._finish(call, output)

        hook = module.register_forward_pre_hook(enter, with_kwargs=True, prepend=True)
        stack.enter_context(_removing(hook))
        hook = module.register_forward_hook(leave, with_kwargs=True, prepend=True)
        stack.enter_context(_removing(hook))

    def _used(self, parameter: int, function: str) -> None:
        """Charge a use to the innermost running call, or refuse it."""
        name = self.names[parameter]
        if not self._running:
            raise UnsupportedModuleError(
                f"parameter {name!r} is used by {function!r} outside the module that owns it; "
                "its gradient would be missed. Call the owning module, or move the use into one."
            )
        call = self._running[-1]
        own = call.module.named_parameters(recurse=call.rule is None, remove_duplicate=False)
        local = [key for key, value in own if id(value) == parameter]
        if not local:
            raise UnsupportedModuleError(
                f"{call.described} uses parameter {name!r}, which belongs to another module; "
                "its gradient would be missed. Register the parameter in this module too."
            )
        call.touched[local[0]] = call.module.get_parameter(local[0])

    def _finish(self, call: Call, output: Any) -> Any:
        """Put the outputs on the graph, hook their gradients, and keep the call."""
        if not torch.is_grad_enabled():
            raise UnsupportedModuleError(
                f"{call.described}: called under no_grad; remove that block."
            )
        if getattr(call.module, "batch_first", True) is False:
            raise UnsupportedModuleError(f"{call.described}: set batch_first=True.")
        leaves, spec = tree_flatten(output)
        index = 0
        for i, leaf in enumerate(leaves):
            if isinstance(leaf, Tensor) and leaf.is_floating_point():
                leaves[i] = self._attach(call, leaf, index)
                index += 1
        if call.touched:
            self.calls.append(call)
        return tree_unflatten(leaves, spec)

    def _attach(self, call: Call, output: Tensor, index: int) -> Tensor:
        if call.rule is None:
            call.outputs.append(output.detach().clone())
        if not output.requires_grad or call.rule is None:  # a fallback may return its own input
            output = _Attach.apply(output, self.anchor)
        if call.touched:
            output.register_hook(lambda delta: self._receive(call, index, delta))
        return output

    def _receive(self, call: Call, index: int, delta: Tensor) -> None:
        call.deltas[index] = delta
        if self.arrived is not None and call.rule is not None:
            self.arrived(call)

    def order(self, used: Container[str]) -> list[str]:
        """The names among `used`, in the model's own order of parameters."""
        return [name for name in self.names.values() if name in used]

    def run_backward(self, columns: Tensor, direction: Tensor, *, last: bool) -> None:
        """Send a gradient at the objectives back to the activations; hooks receive every δ."""
        for call in self.calls:
            call.deltas.clear()
        torch.autograd.grad(
            columns, self.anchor, direction, retain_graph=not last, allow_unused=True
        )


@contextmanager
def _removing(handle: torch.utils.hooks.RemovableHandle) -> Generator[None]:
    try:
        yield
    finally:
        handle.remove()
