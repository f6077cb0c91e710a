"""Watches one forward pass: which module was called with what, and who used which parameter.

The recorder freezes the weights, notes every call of a module that owns parameters, and hooks
its outputs so that one backward pass to the activations delivers every output gradient δ. It
also watches every torch function for parameters that are used outside the module that owns them
(a functional tied head, say), because a use that no call accounts for would make the norm
silently too small.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten
from torch.utils.checkpoint import CheckpointError
from torch.utils.hooks import RemovableHandle

from gnuq.gradnorm.broadcast import handed_over, one_row, without_rows
from gnuq.gradnorm.calls import Call
from gnuq.gradnorm.errors import UnsupportedModuleError
from gnuq.gradnorm.owners import (
    computes_with_parameters,
    encloses_parameters,
    packed,
    same_memory,
    stored_weights,
    whole_numbers,
)
from gnuq.gradnorm.rules import Rule, find_rule
from gnuq.gradnorm.watch import Attach, Watch


class Recorder:
    """Records one forward pass of a model inside `watching`; then drives backward passes.

    Attributes:
        calls: the calls in order, each with the parameters that it used.
        constants: calls under no_grad, whose results have no gradient.
        names: canonical name of every parameter, by identity; tied parameters share one.
        unseen: names of the parameters that a call may have used where nobody saw it.
        anchor: the one leaf of the autograd graph.
    """

    def __init__(self, model: nn.Module, *, flattened: int = 0, batch: int = 0) -> None:
        self.model, self.flattened, self.batch = model, flattened, batch
        self.rules = {module: find_rule(module) for module in model.modules()}
        self.calls: list[Call] = []
        self.constants: list[Call] = []
        self.names = {id(p): name for name, p in model.named_parameters()}
        self.stored = stored_weights(model)  # held: a layer may replace one, and ids are reused
        self.names = {id(stored): name for name, stored in self.stored.items()} | self.names
        self.anchor = torch.zeros((), requires_grad=True)
        self.unseen: set[str] = set()
        self._arrived: Callable[[Call], None] | None = None
        self._running: list[Call] = []
        self._expanded: list[Call] = []
        self._watching = False
        self._thread = threading.get_ident()  # another thread may serve the same model meanwhile
        self._handles: list[RemovableHandle] = []

    @contextmanager
    def watching(self) -> Generator[None]:
        """Freeze the weights and record every call inside the block."""
        with ExitStack() as stack:
            for parameter in self.model.parameters():
                if parameter.requires_grad:
                    parameter.requires_grad_(False)
                    stack.callback(parameter.requires_grad_, True)
            for name, module in self.model.named_modules():
                rule = self.rules[module]
                owner = computes_with_parameters(module, rule)
                if owner or encloses_parameters(module):
                    self._hook(stack, name, module, rule, owner=owner)
            self._watching = True
            stack.callback(setattr, self, "_watching", False)
            with torch.enable_grad(), Watch(self.names, self._used), self.explaining():
                yield
            if self._running:
                raise self._running[-1].refuse("it raised an error that the model swallowed.")

    @contextmanager
    def explaining(self) -> Generator[None]:
        """An error after one row has become a row for each example is perhaps of our making."""
        try:
            yield
        except (RuntimeError, IndexError, TypeError, ValueError) as error:
            if not self._expanded or isinstance(error, UnsupportedModuleError):
                raise
            raise self._expanded[0].refuse(
                "its result stands for all examples in one row, and what follows cannot take a "
                f"row for each; score one example at a time. ({error})"
            ) from error

    def _hook(
        self, stack: ExitStack, name: str, module: nn.Module, rule: Rule | None, *, owner: bool
    ) -> None:
        if isinstance(module, torch.jit.ScriptModule):
            raise Call(name, module, None).refuse("a scripted module hides what it uses.")

        def enter(module: nn.Module, args: tuple, kwargs: dict) -> None:
            if threading.get_ident() != self._thread:
                return
            self._running.append(
                Call(
                    name,
                    module,
                    rule,
                    flattened=self.flattened,
                    alone=self.batch == 1,
                    owner=owner,
                    start=len(self.calls),
                )
            )

        def leave(module: nn.Module, args: tuple, kwargs: dict, output: Any) -> Any:
            if threading.get_ident() != self._thread:
                return output
            call = self._running.pop()
            if call.module is not module:
                raise call.refuse("it raised an error that the model swallowed.")
            for weight, stored in packed(module, rule).items():  # kernels use it that are not seen
                call.touched[weight] = stored
                self.names.setdefault(id(stored), f"{name}.{weight}".lstrip("."))
            if not torch.is_grad_enabled():  # what it returns is a constant
                if call.owner or call.touched:
                    self.constants.append(call)
                return output
            call.owner = call.owner and not self._used_around(module)
            call.returned(args, kwargs)
            with torch.no_grad(), torch._C.DisableTorchFunction():
                call.look_at(output)
            self.unseen |= {self.names[id(call.touched[key])] for key in call.hidden}
            self.calls[call.start :] = call.without_my_uses(self.calls[call.start :])
            around = self._running[-1] if self._running else None
            if without_rows(output, self.batch, flattened=self.flattened > 0) and handed_over(
                call, around
            ):
                call.touched = {}
            used = {id(parameter) for parameter in call.touched.values()}
            if around is not None:
                around.nested |= used | call.nested
            return self._finish(call, output)

        before = module.register_forward_pre_hook(enter, with_kwargs=True, prepend=True)
        after = module.register_forward_hook(leave, with_kwargs=True, prepend=True)
        stack.callback(before.remove)
        stack.callback(after.remove)

    def _used_around(self, module: nn.Module) -> bool:
        """Whether a module around one uses all its parameters, and hands them to it."""
        charged = {id(p) for running in self._running for p in running.touched.values()}
        own = [p for p in module._parameters.values() if p is not None]
        return bool(charged) and bool(own) and all(id(p) in charged for p in own)

    def _used(self, parameter: int, function: str) -> None:
        """Charge a use to the innermost running call, or refuse it."""
        name = self.names[parameter]
        if not self._running:
            raise UnsupportedModuleError(
                f"parameter {name!r} is used by {function!r} outside the module that owns it; "
                "its gradient would be missed. Call the owning module, or move the use into one."
            )
        call = self._running[-1]
        if any(id(stored) == parameter for stored in packed(call.module, call.rule).values()):
            return  # counted when the call returns
        for running in reversed(self._running):  # the smallest module around owner and use
            if local := running.names_of(parameter):
                for key in local if running.rule is not None else local[:1]:
                    running.touched[key] = running.module.get_parameter(key)
                return
        raise call.refuse(
            f"it uses parameter {name!r}, which belongs to another module; its gradient "
            "would be missed. Register the parameter in this module too."
        )

    def _finish(self, call: Call, output: Any) -> Any:
        """Put the outputs on the graph, hook their gradients, and keep the call."""
        if not call.touched:
            return output
        if isinstance(output, Tensor) and output.is_floating_point():
            self.calls.append(call)
            return self._attach(call, output, 0)
        leaves, spec = tree_flatten(output)
        index = 0
        for i, leaf in enumerate(leaves):
            if isinstance(leaf, Tensor) and leaf.is_complex():
                raise call.refuse("complex outputs are not supported.")
            if isinstance(leaf, Tensor) and leaf.is_floating_point():
                leaves[i] = self._attach(call, leaf, index)
                index += 1
        if index == 0 and whole_numbers(leaves):  # they have no gradient
            return output
        if index == 0:
            raise call.refuse("it returns no tensor that can be seen; return tensors or tuples.")
        self.calls.append(call)
        return tree_unflatten(leaves, spec)

    def _attach(self, call: Call, output: Tensor, index: int) -> Tensor:
        whole = call.rule is not None and call.rule.whole
        if self._running and not whole and one_row(output, self.batch):
            call.expanded = True
            self._expanded.append(call)
            output = Attach.apply(output.expand(self.batch, *output.shape[1:]), self.anchor)
        if call.keeps_outputs:
            call.outputs.append(output.detach().clone())
        if call.rule is None or not output.requires_grad:  # a fallback may return its own input
            output = Attach.apply(output, self.anchor)
        base = output._base
        if base is not None and not (base.requires_grad and same_memory(base, output)):
            output, base = Attach.apply(output, self.anchor), None
        shape = output.shape

        def receive(delta: Tensor | None) -> None:
            if delta is None:
                raise call.refuse("what follows it has no backward pass (an inference kernel).")
            self._receive(call, index, delta.reshape(shape))

        # A later in-place change gives a view, but not its base, a new history without our hook.
        hooked = output if base is None else base
        self._handles.append(hooked.register_hook(receive))
        return output

    def _receive(self, call: Call, index: int, delta: Tensor) -> None:
        if self._watching:
            raise call.refuse("the model differentiates inside its forward pass.")
        if not call.touched:  # a call around it has taken over
            return
        call.demand_same_weights()  # they are what the layer's own backward pass is about to use
        call.deltas[index] = delta
        if self._arrived is not None and not call.waits:
            self._arrived(call)

    def run_backward(
        self, columns: Tensor, direction: Tensor, arrived: Callable[[Call], None], *, last: bool
    ) -> None:
        """Send a gradient at the objectives back to the activations.

        Args:
            columns: the objectives, shape (batch, K).
            direction: the gradient, shaped like them.
            arrived: called with each call whose δ have arrived.
            last: whether the autograd graph may be freed.
        """
        for call in self.calls:
            call.deltas.clear()
        self._arrived = arrived
        try:
            torch.autograd.grad(
                columns, self.anchor, direction, retain_graph=not last, allow_unused=True
            )
        except CheckpointError as error:
            raise UnsupportedModuleError(
                "model: its checkpointed activations cannot be recomputed; switch gradient "
                "checkpointing off."
            ) from error
        for call in self.calls:  # the others wait until all their outputs' δ are there
            if call.waits and call.deltas:
                arrived(call)

    def release(self) -> None:
        """Cut the cycle from tensors to hooks to tensors, which Python cannot collect."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self.calls.clear()
        self.constants.clear()
        self._expanded.clear()
