"""One call of one module: what it was given, what it used, and its parameters' gradients."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from gnuq.gradnorm import fallback
from gnuq.gradnorm.errors import UnsupportedModuleError
from gnuq.gradnorm.factors import Factor
from gnuq.gradnorm.fallback import grouped
from gnuq.gradnorm.rules import Backward, Rule
from gnuq.gradnorm.trees import tensors
from gnuq.gradnorm.witnesses import first_rows_agree, same_bytes, sampled


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
            same = first_rows_agree(expected, output)
        except (RuntimeError, IndexError, TypeError, NotImplementedError):
            return  # the rule itself says later what it cannot take
        if not same:
            self.rule = None

    def demand_same_weights(self) -> None:
        """The weights are those of the forward pass.

        Raises:
            UnsupportedModuleError: they are not, so that δ below would be of another layer.
        """
        if not all(map(same_bytes, self.weights, self._sampled())):
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
                return fallback.of_one_example(self)
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
            return fallback.one_by_one(self, batch, tokens)
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

    def _by_rule(self, rule: Rule, batch: int, tokens: int) -> dict[str, Factor]:
        try:
            if self.backward is None:
                given = [x.detach() for x in self.tensors()[: rule.arguments]]
                given = [grouped(x, batch, tokens) for x in given]
                if self.expanded:
                    given = [x.expand(batch, *x.shape[1:]) for x in given]
                whole = {"batch": batch} if rule.whole else {}
                self.backward = rule.prepare(self.module, *given, **whole)
            deltas = self.deltas if rule.whole else grouped(self.deltas[0], batch, tokens)
            found = self.backward(deltas)
        except NotImplementedError as error:
            raise self.refuse(f"{error}.") from error
        if missing := self.touched.keys() - found.keys():
            raise self.refuse(f"its rule returned no gradient of {', '.join(sorted(missing))}.")
        return {name: found[name] for name in self.touched}
