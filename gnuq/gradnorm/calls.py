"""One call of one module: what it was given, what it used, and its parameters' gradients."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from gnuq.gradnorm.factors import Factor
from gnuq.gradnorm.rules import Backward, Rule, Run, per_example
from gnuq.gradnorm.trees import tensors


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
        hidden: those among them of which no use was seen, but which it may have used.
        watched: the weights that must not change before the backward pass.
        weights: a sample of the entries of each.
        nested: identities of the parameters that calls inside this one used.
        outputs: the output tensors, detached, where the fallback may have to reproduce them.
        deltas: gradients at the outputs, by output index, for the backward pass in progress.
        backward: the prepared rule, shared by all backward passes.
        owner: whether the module has parameters of its own, so that a use is expected.
        start: how many calls had been recorded when this one began.
        expanded: whether its result, one row for all examples, went on as a row for each.
        alone: whether the batch has one example only.
        flattened: how many tokens of an example dimension 0 may hold, example by example; 0 if
            it must not.
    """

    name: str
    module: nn.Module
    rule: Rule | None
    arguments: tuple[tuple, dict] = ((), {})
    versions: list[int] = field(default_factory=list)
    touched: dict[str, Tensor] = field(default_factory=dict)
    hidden: set[str] = field(default_factory=set)
    watched: list[Tensor] = field(default_factory=list)
    weights: list[Tensor] = field(default_factory=list)
    nested: set[int] = field(default_factory=set)
    outputs: list[Tensor] = field(default_factory=list)
    deltas: dict[int, Tensor] = field(default_factory=dict)
    backward: Backward | None = None
    flattened: int = 0
    expanded: bool = False
    alone: bool = False
    owner: bool = True
    start: int = 0

    @property
    def waits(self) -> bool:
        """Whether the gradients of all its outputs are needed before its parameters' follow."""
        return self.rule is None or self.rule.whole

    @property
    def keeps_outputs(self) -> bool:
        """Whether the generic fallback may run, whose outputs must be those of the call."""
        return self.rule is None or (not self.rule.by_token and (self.flattened > 0 or self.alone))

    def refuse(self, reason: str) -> UnsupportedModuleError:
        """The error that names this module."""
        kind = type(self.module).__name__
        return UnsupportedModuleError(f"module {self.name or '(the model)'!r} ({kind}): {reason}")

    def tensors(self) -> list[Tensor]:
        """The tensors among the call's arguments."""
        return tensors(self.arguments)

    def returned(self, args: tuple, kwargs: dict) -> None:
        """Note the arguments as they are when the call returns.

        Raises:
            UnsupportedModuleError: the call cannot be differentiated, or what it used is unseen.
        """
        if not self.owner and not self.touched:
            return
        self.arguments = (args, kwargs)
        self.versions = [tensor._version for tensor in self.tensors()]
        used = {id(parameter) for parameter in self.touched.values()}
        whole = self.rule is not None and self.rule.whole
        if getattr(self.module, "batch_first", True) is False and not whole:
            raise self.refuse("set batch_first=True.")
        if not used and self.rule is not None:
            raise self.refuse(
                "it owns parameters, but no use of them was seen (a custom kernel, another "
                "thread); its gradient would be missed."
            )
        if self.owner and self.rule is None and not self.nested:
            self._add_unseen()

    def _add_unseen(self) -> None:
        """A module on its own may use any of its parameters unseen: its fallback will tell."""
        for name, parameter in self.module._parameters.items():
            if parameter is not None and name not in self.touched:
                self.touched[name] = parameter
                self.hidden.add(name)

    def look_at(self, output: Any) -> None:
        """Note the weights, and let go of a rule whose formula is not what the call returned.

        A hook or a patch may have changed what the class computes; the fallback runs the module as
        it stands.
        """
        self.watched = list(self.touched.values())
        self.weights = self._sampled()
        if self.rule is None or self.rule.output is None:
            return
        given = self.tensors()[: self.rule.arguments]
        try:
            expected = self.rule.output(self.module, *given)
            same = _first_rows_agree(expected, output)
        except (RuntimeError, IndexError, TypeError, NotImplementedError):
            return  # the rule itself says later what it cannot take
        if not same:
            self.rule = None

    def demand_same_weights(self) -> None:
        """The weights are those of the forward pass.

        Raises:
            UnsupportedModuleError: they are not, so that δ below would be of another layer.
        """
        if not all(map(torch.equal, self.weights, self._sampled())):
            raise self.refuse(
                "its weights changed between its forward and its backward pass (streamed through "
                "one buffer, offloaded, or trained meanwhile); load the model so that every layer "
                "keeps its own weights in memory."
            )

    def _sampled(self) -> list[Tensor]:
        state = getattr(getattr(self.module, "weight", None), "quant_state", None)
        scales = [x for x in (getattr(state, "absmax", None),) if isinstance(x, Tensor)]
        packed = self.rule is not None and bool(self.rule.stored)
        buffers = self.module.buffers(recurse=False) if packed else ()
        return [sampled(x.detach()) for x in (*self.watched, *buffers, *scales)]

    def names_of(self, parameter: int) -> list[str]:
        """What the module, or for the fallback one inside it, calls a parameter."""
        own = self.module.named_parameters(recurse=self.rule is None, remove_duplicate=False)
        return [key for key, value in own if id(value) == parameter]

    def without_my_uses(self, inner: list[Call]) -> list[Call]:
        """The calls inside this one, without uses of parameters that it uses itself.

        The fallback differentiates the whole call, and so their uses of them too.
        """
        if not self.touched:
            return inner
        mine = {id(parameter) for parameter in self.touched.values()}
        for call in inner:
            kept = {k: p for k, p in call.touched.items() if id(p) not in mine}
            call.touched = kept
        return [call for call in inner if call.touched]

    def forget(self) -> None:
        """Let go of what only the backward pass needed."""
        self.arguments, self.versions, self.outputs, self.backward = ((), {}), [], [], None

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
        if self.rule is not None and self.rule.whole:
            return self._by_rule(self.rule, batch, 1)
        if batch == 1 and any(delta.ndim < 2 or len(delta) != 1 for delta in self.deltas.values()):
            if self.rule is None or not self.rule.by_token:
                return self._of_one_example()
            tokens = self.deltas[0].shape[0] if self.deltas[0].ndim else 1
        else:
            tokens = self._tokens_in_a_row(batch)
        for delta in self.deltas.values():
            if delta.ndim < 2 or delta.shape[0] != batch * tokens:
                raise self.refuse(
                    f"its output of shape {tuple(delta.shape)} does not keep the {batch} examples "
                    "along dimension 0 (broadcast positions, routed tokens, time first); give "
                    "every example its own row, position_ids included."
                )
        if self.rule is None or (tokens > 1 and not self.rule.by_token):
            return self._by_fallback(batch, tokens)
        return self._by_rule(self.rule, batch, tokens)

    def _tokens_in_a_row(self, batch: int) -> int:
        """How many rows of dimension 0 belong to an example: 1, or all its tokens if flattened.

        Some models put the tokens of all examples into one dimension, example by example, before
        a layer or a router, and all heads of each token before a norm layer. That they stand
        example by example is checked from outside, by scoring one example alone.
        """
        tokens, rows = self.flattened, {delta.shape[0] for delta in self.deltas.values()}
        if tokens < 2 or len(rows) != 1 or (length := rows.pop()) % (batch * tokens):
            return 1
        given = self.tensors()
        in_a_row = any(x.shape[:1] == (length,) for x in given)
        split = length == batch * tokens and any(x.shape[:2] == (batch, tokens) for x in given)
        return length // batch if in_a_row or split else 1

    def _of_one_example(self) -> dict[str, Factor]:
        """By the fallback: whatever stands along dimension 0, all of it is the only example's."""
        args, kwargs = tree_map(_detached, self.arguments)

        def run(parameters: dict[str, Tensor], _: list[Tensor]) -> list[Tensor]:
            outputs = torch.func.functional_call(_Forward(self.module), parameters, args, kwargs)
            return [y[None] for y in self._among(outputs)]

        return self._locally(run, [], [delta[None] for delta in self.deltas.values()])

    def _by_rule(self, rule: Rule, batch: int, tokens: int) -> dict[str, Factor]:
        try:
            if self.backward is None:
                given = [x.detach() for x in self.tensors()[: rule.arguments]]
                given = [_grouped(x, batch, tokens) for x in given]
                if self.expanded:
                    given = [x.expand(batch, *x.shape[1:]) for x in given]
                whole = {"batch": batch} if rule.whole else {}
                self.backward = rule.prepare(self.module, *given, **whole)
            deltas = self.deltas if rule.whole else _grouped(self.deltas[0], batch, tokens)
            found = self.backward(deltas)
        except NotImplementedError as error:
            raise self.refuse(f"{error}.") from error
        if missing := self.touched.keys() - found.keys():
            raise self.refuse(f"its rule returned no gradient of {', '.join(sorted(missing))}.")
        return {name: found[name] for name in self.touched}

    def _by_fallback(self, batch: int, tokens: int) -> dict[str, Factor]:
        """The generic rule on one example after the other.

        A constant may have as many rows as there are examples by accident; so if the module does
        not give what the call gave, it is tried with such tensors left whole.
        """
        leaves, spec = tree_flatten(self.arguments)
        lengths = [x.shape[0] if isinstance(x, Tensor) and x.ndim else 0 for x in leaves]
        rows = [i for i, n in enumerate(lengths) if n in (batch, batch * tokens)]
        constant = [i for i in rows if not leaves[i].requires_grad]
        leaves = [_detached(x) for x in leaves]
        refused = None
        for kept in ([], *([i] for i in constant), *([constant] if len(constant) > 1 else [])):
            split = [i for i in rows if i not in kept]
            try:
                return self._one_by_one(leaves, spec, split, batch, tokens)
            except UnsupportedModuleError as error:
                refused = refused or error
        assert refused is not None
        raise refused

    def _one_by_one(
        self, leaves: list[Any], spec: Any, split: list[int], batch: int, tokens: int
    ) -> dict[str, Factor]:
        in_a_row = [i for i in split if tokens > 1 and leaves[i].shape[0] == batch * tokens]
        local = _Forward(self.module)

        def run(parameters: dict[str, Tensor], tensors: list[Tensor]) -> list[Tensor]:
            filled = list(leaves)
            for i, tensor in zip(split, tensors, strict=True):
                filled[i] = tensor.flatten(0, 1) if i in in_a_row else tensor
            args, kwargs = tree_unflatten(filled, spec)
            outputs = torch.func.functional_call(local, parameters, args, kwargs)
            found = self._among(outputs)
            return found if tokens == 1 else [y[None] for y in found]

        batched = [_grouped(leaves[i], batch, tokens) for i in split]
        return self._locally(
            run, batched, [_grouped(delta, batch, tokens) for delta in self.deltas.values()]
        )

    def _among(self, outputs: Any) -> list[Tensor]:
        """Those of a local run's outputs that a gradient arrived at."""
        found = floating(outputs)
        return [found[i] for i in self.deltas]

    def _locally(self, run: Run, batched: list[Tensor], deltas: list[Tensor]) -> dict[str, Factor]:
        """The generic rule; its run must give what the call gave."""
        try:
            touched = {f"module.{name}": value for name, value in self.touched.items()}
            found, outputs = per_example(run, touched, batched, deltas)
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            raise self.refuse(f"it cannot run on one example: {error}") from error
        for i, delta, got in zip(self.deltas, deltas, outputs, strict=True):
            if not close(self.outputs[i].reshape(delta.shape), got):
                raise self.refuse(
                    "run on one example at a time it gives other outputs than on the batch, so "
                    "its examples are not independent along dimension 0, or a hook changes them."
                )
        factors = {name: found[f"module.{name}"] for name in self.touched}
        if self.hidden and self.hidden == self.touched.keys():
            self._demand_a_gradient(factors)
        return factors

    def _demand_a_gradient(self, found: dict[str, Factor]) -> None:
        """A module whose parameters nobody saw in use, and that have no gradient, hides it."""
        if not any(bool(factor.dense().any()) for factor in found.values()):
            raise self.refuse(
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


#: Entries of each weight that are compared between the forward and the backward pass.
SAMPLE = 256


def sampled(weight: Tensor) -> Tensor:
    """Some entries of a weight, evenly spread over its memory; a copy."""
    if not weight.is_contiguous():
        weight = weight.as_strided((weight.numel(),), (1,)) if _dense(weight) else weight.flatten()
    flat = weight.view(-1)
    return flat[:: max(1, len(flat) // SAMPLE)].clone()


def _dense(weight: Tensor) -> bool:
    """Whether the entries fill their memory without gaps, in whatever order."""
    strides = sorted(zip(weight.stride(), weight.shape, strict=True))
    filled = 1
    for stride, size in strides:
        if size > 1 and stride != filled:
            return False
        filled *= size
    return weight.numel() > 0


def _first_rows_agree(expected: Tensor, output: Any) -> bool:
    """Whether the rows that a formula gave are those of the output, up to rounding."""
    if not isinstance(output, Tensor) or output.ndim != expected.ndim:
        return False
    rows = output[tuple(slice(size) for size in expected.shape)]
    if rows.shape != expected.shape or rows.dtype != expected.dtype:
        return False
    gap, largest = (rows - expected).abs().amax(), expected.abs().amax()
    return bool(gap <= max(torch.finfo(rows.dtype).eps, 1e-12) ** 0.5 * largest)


def _grouped(x: Tensor, batch: int, tokens: int) -> Tensor:
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
