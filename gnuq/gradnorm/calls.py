"""One call of one module: what it was given, what it used, and its parameters' gradients."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from gnuq.gradnorm.factors import Factor
from gnuq.gradnorm.rules import Backward, Rule, per_example


class UnsupportedModuleError(NotImplementedError):
    """A module, or a use of a parameter, whose gradient cannot be accounted for exactly."""


@dataclass
class Call:
    """One call of one module in the forward pass.

    Attributes:
        name: the module's name in the model.
        module: the module.
        rule: its rule, or None for the generic fallback.
        arguments: positional and keyword arguments of the call.
        versions: how often each argument had been written to in place when the call returned.
        touched: parameters that the call used, by their name inside the module.
        nested: identities of the parameters that calls inside this one used.
        outputs: the output tensors, detached (fallback only: the local run must reproduce them).
        deltas: gradients at the outputs, by output index, for the backward pass in progress.
        backward: the prepared rule, shared by all backward passes.
    """

    name: str
    module: nn.Module
    rule: Rule | None
    arguments: tuple[tuple, dict] = ((), {})
    versions: list[int] = field(default_factory=list)
    touched: dict[str, Tensor] = field(default_factory=dict)
    nested: set[int] = field(default_factory=set)
    outputs: list[Tensor] = field(default_factory=list)
    deltas: dict[int, Tensor] = field(default_factory=dict)
    backward: Backward | None = None

    def refuse(self, reason: str) -> UnsupportedModuleError:
        """The error that names this module."""
        kind = type(self.module).__name__
        return UnsupportedModuleError(f"module {self.name or '(the model)'!r} ({kind}): {reason}")

    def tensors(self) -> list[Tensor]:
        """The tensors among the call's arguments."""
        return [leaf for leaf in tree_flatten(self.arguments)[0] if isinstance(leaf, Tensor)]

    def returned(self, args: tuple, kwargs: dict) -> None:
        """Note the arguments as they are when the call returns.

        Raises:
            UnsupportedModuleError: the call cannot be differentiated, or what it used is unseen.
        """
        self.arguments = (args, kwargs)
        self.versions = [tensor._version for tensor in self.tensors()]
        used = {id(parameter) for parameter in self.touched.values()}
        if not torch.is_grad_enabled():
            raise self.refuse("called under no_grad; remove that block.")
        if getattr(self.module, "batch_first", True) is False:
            raise self.refuse("set batch_first=True.")
        if not used and (self.rule is not None or not self.nested):
            raise self.refuse(
                "it owns parameters, but no use of them was seen (a custom kernel, another "
                "thread); its gradient would be missed."
            )
        if used & self.nested:
            raise self.refuse(
                "it uses a parameter that a module called inside it uses too; call the tied "
                "layer as a child module instead of using its weight."
            )

    def factors(self, batch: int) -> dict[str, Factor]:
        """Per-example gradients of the touched parameters, by their name inside the module.

        Args:
            batch: the number of examples, which dimension 0 must be.

        Raises:
            UnsupportedModuleError: the call does not keep the examples along dimension 0, its
                input was overwritten, or its rule cannot handle the module's options.
        """
        if [tensor._version for tensor in self.tensors()] != self.versions:
            raise self.refuse(
                "its input was changed in place after the call; replace the in-place operation "
                "(x += y) by x = x + y."
            )
        for delta in self.deltas.values():
            if delta.ndim < 2 or delta.shape[0] != batch:
                raise self.refuse(
                    f"its output of shape {tuple(delta.shape)} does not keep the {batch} examples "
                    "along dimension 0 (broadcast positions, flattened or routed tokens, time "
                    "first); give every example its own row, position_ids included."
                )
        return self._by_fallback(batch) if self.rule is None else self._by_rule(self.rule)

    def _by_rule(self, rule: Rule) -> dict[str, Factor]:
        try:
            if self.backward is None:
                self.backward = rule.prepare(self.module, self.tensors()[0].detach())
            found = self.backward(self.deltas[0])
        except NotImplementedError as error:
            raise self.refuse(f"{error}.") from error
        if missing := self.touched.keys() - found.keys():
            raise self.refuse(f"its rule returned no gradient of {', '.join(sorted(missing))}.")
        return {name: found[name] for name in self.touched}

    def _by_fallback(self, batch: int) -> dict[str, Factor]:
        leaves, spec = tree_flatten(self.arguments)
        split = [
            i for i, x in enumerate(leaves) if isinstance(x, Tensor) and x.shape[:1] == (batch,)
        ]

        def run(parameters: dict[str, Tensor], tensors: list[Tensor]) -> list[Tensor]:
            filled = list(leaves)
            for i, tensor in zip(split, tensors, strict=True):
                filled[i] = tensor
            args, kwargs = tree_unflatten(filled, spec)
            outputs = torch.func.functional_call(self.module, parameters, args, kwargs)
            return [floating(outputs)[i] for i in self.deltas]

        batched = [leaves[i].detach() for i in split]
        try:
            found, outputs = per_example(run, self.touched, batched, list(self.deltas.values()))
        except RuntimeError as error:
            raise self.refuse(f"it cannot run on one example: {error}") from error
        for i, got in zip(self.deltas, outputs, strict=True):
            if not close(self.outputs[i], got):
                raise self.refuse(
                    "run on one example at a time it gives other outputs than on the batch, so "
                    "its examples are not independent along dimension 0, or a hook changes them."
                )
        return found


def floating(outputs: Any) -> list[Tensor]:
    """The floating-point tensors in a module's output."""
    leaves = tree_flatten(outputs)[0]
    return [x for x in leaves if isinstance(x, Tensor) and x.is_floating_point()]


def close(x: Tensor, y: Tensor) -> bool:
    """Equal up to rounding: half the digits of the data type, relative to the largest entry."""
    if x.shape != y.shape:
        return False
    finite = x.abs()[torch.isfinite(x)]
    scale = float(finite.max()) if finite.numel() else 0.0
    tolerance = torch.finfo(x.dtype).eps ** 0.5 * max(scale, 1e-30)
    return bool(((x == y) | ((x - y).abs() <= tolerance)).all())
