"""Exact per-example squared gradient norms, and inner products of gradients, in one backward pass.

For a batch of examples b and an objective with one scalar s_b per example, the gradient of
Σ_b s_b at a layer's output holds every example's own δ_b, since examples do not mix. Each layer's
rule turns its inputs and δ_b into ‖∇s_b‖² without forming the gradient. Not in the paper: it is
what makes Eq. (4) cost one forward and one backward pass for a whole batch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from gnuq.gradnorm import checks
from gnuq.gradnorm.calls import Call
from gnuq.gradnorm.constants import demand_no_hidden_backward
from gnuq.gradnorm.factors import Factor, squared_norm, total_norm, widen
from gnuq.gradnorm.outcomes import GradientFactors, GradientNorms
from gnuq.gradnorm.recorder import ATTACHED, Recorder

#: Maps the model's output to one scalar per example, shape (batch,), or to K, (batch, K).
Objective = Callable[[Any], Tensor]
#: Maps the objectives, (batch, K), to what each is multiplied by in its backward pass.
Scale = Callable[[Tensor], Tensor]
#: One tensor, a tuple of positional arguments, or a mapping of keyword arguments.
Inputs = Tensor | tuple | Mapping[str, Any]


def squared_gradient_norms(
    model: nn.Module,
    inputs: Inputs,
    objective: Objective,
    *,
    batch_size: int | None = None,
    verify: bool = True,
    scale: Scale | None = None,
    flattened: bool = False,
) -> GradientNorms:
    """‖∇_θ s_b‖² for every example of a batch, exactly, with one backward pass per objective.

    The gradient is what `backward()` gives: what a model computes under no_grad is a constant.

    Args:
        model: any module whose examples are independent along dimension 0; its weights stay
            frozen and no weight gradient is stored. Dropout and batch statistics must be off.
        inputs: a tensor (batch, …), a tuple of positional, or a mapping of keyword arguments.
        objective: maps the model's output to one scalar per example, shape (batch,), or to K
            of them, shape (batch, K): all classes of a classifier at once, for example.
        batch_size: split the batch into parts of this size, to bound memory.
        verify: run the example with the largest norm once more, on its own, and demand the
            same norm: if dimension 0 is not the batch everywhere, or examples depend on each
            other, the two differ. Costs one example's pass and a look at all weights; switch it
            off in tight loops.
        scale: by what to multiply each objective in the backward pass; the norms are divided by
            its square, in float64. In float16 the gradient of a small probability would vanish
            without it. Called after the objective.
        flattened: accept modules that get the tokens of all examples in one dimension, example
            by example, as routers and experts do; an example has as many tokens as dimension 1
            of the first input. Only scoring an example alone can tell that
            they stand example by example: leave `verify` on, or do that yourself.

    Raises:
        ValueError: empty batch, non-finite inputs or weights, wrong shapes, an objective that
            is not one scalar per example, a model in training mode with dropout.
        TypeError: inputs of another data type than the model needs.
        UnsupportedModuleError: a module or a use of a parameter that cannot be accounted for;
            the norm would be too small, so there is none.

    Source:
        §3, Eq. (4); the identities per layer are in `gnuq.gradnorm.rules`.
    """
    inputs = checks.prepared(model, inputs, weights=verify)
    task = Task(model, objective, scale, flattened)
    parts = [_norms(task, part) for part in checks.split(inputs, batch_size)]
    used = {name for part in parts for name in part.by_parameter}
    names = [name for name, _ in model.named_parameters() if name in used]
    names += sorted(used.difference(names))  # weights that layers keep packed in buffers
    result = GradientNorms(
        torch.cat([part.values for part in parts]),
        {name: torch.cat([_column(part, name) for part in parts]) for name in names},
    )
    checks.finite_result(model, result.values, result.total)
    if verify:
        _verify(task, inputs, result.total)
    return result


def gradient_factors(
    model: nn.Module, inputs: Inputs, objective: Objective, *, verify: bool = True
) -> GradientFactors:
    """All per-example gradients in factored form; arguments and errors as in the norms.

    Memory: the inputs and K output gradients of every layer, not the gradients themselves.
    """
    inputs = checks.prepared(model, inputs)
    task = Task(model, objective)
    result = _factors(task, inputs)
    norms = result.squared_norms()
    checks.finite_result(model, result.values, norms)
    if verify:
        _verify(task, inputs, norms)
    return result


@dataclass(frozen=True)
class Task:
    """What to do with a batch; the attributes as in `squared_gradient_norms`."""

    model: nn.Module
    objective: Objective
    scale: Scale | None = None
    flattened: bool = False


def _verify(task: Task, inputs: Inputs, norms: Tensor) -> None:
    """Demand the same norm of the example with the largest one when the model sees it alone."""
    batch = len(norms)
    if batch == 1:
        return
    largest = int(norms.reshape(batch, -1).sum(1).argmax())

    def in_its_row(output: Any) -> Tensor:
        """The objective may hold one target per example, so it gets as many rows as before."""
        return task.objective(checks.in_row(output, largest, batch))[largest : largest + 1]

    alone = _norms(replace(task, objective=in_its_row), checks.one_of(inputs, largest))
    checks.same_alone(norms, alone.total, largest)


@dataclass(frozen=True)
class Pass:
    """A recorded forward pass: its values, and the objectives as columns of a matrix."""

    recorder: Recorder
    values: Tensor
    columns: Tensor


@contextmanager
def forward(task: Task, inputs: Inputs) -> Iterator[Pass]:
    """Run and record; what was recorded is released at the end, also after an error."""
    tokens = checks.tokens_of(inputs) if task.flattened else 0
    recorder = Recorder(task.model, flattened=tokens, batch=checks.batch_of(inputs))
    try:
        with recorder.watching(), checks.deterministic():
            values = task.objective(checks.call(task.model, inputs))
        with recorder.explaining():
            checks.objective(values, checks.batch_of(inputs), recorder.anchor)
        demand_no_hidden_backward(recorder.constants, values, ATTACHED)
        with torch.enable_grad():
            columns = values if values.ndim == 2 else values[:, None]
        yield Pass(recorder, values.detach(), columns)
    finally:
        recorder.release()


def _norms(task: Task, inputs: Inputs) -> GradientNorms:
    with forward(task, inputs) as done:
        factor, uses = scales(task, done), _use_counts(done.recorder)
        count = done.columns.shape[1]
        found = [_norms_of_one(done, k, uses, factor) for k in range(count)]
    shape, values = done.values.shape, done.values
    none = torch.zeros_like(widen(done.columns[:, 0].detach()))
    table = [[one.get(name, none).to(none.device) for one in found] for name in uses]
    norms = descaled(torch.stack([torch.stack(row, 1) for row in table]), factor)
    return GradientNorms(values, {n: x.reshape(shape) for n, x in zip(uses, norms, strict=True)})


def scales(task: Task, done: Pass) -> Tensor | None:
    """What each objective is multiplied by in its backward pass, shape (batch, K)."""
    return None if task.scale is None else task.scale(done.columns.detach())


def descaled(norm: Tensor, factor: Tensor | None) -> Tensor:
    """Divide by the square, in float64: a norm too small for float32 was the reason to scale."""
    if factor is None:
        return norm
    widest = torch.float32 if norm.device.type == "mps" else torch.float64
    return norm.to(widest) / factor.to(norm.device, widest).square()


def _norms_of_one(
    done: Pass, k: int, uses: dict[str, int], factor: Tensor | None
) -> dict[str, Tensor]:
    """Squared norms of objective k's gradients, by parameter, as the backward pass runs.

    They are those of the objective times its factor.
    """
    norms: dict[str, Tensor] = {}
    shared: dict[str, list[Factor]] = {}

    def consume(name: str, gradient: Factor) -> None:
        if uses[name] == 1:
            norms[name] = squared_norm(gradient)
        else:  # a parameter used more than once owes cross terms: wait for all its uses
            shared.setdefault(name, []).append(gradient)

    last = k == done.columns.shape[1] - 1
    one = None if factor is None else factor[:, k]
    backward(done, towards(done, k, one), consume, last=last)
    return norms | {name: total_norm(several) for name, several in shared.items()}


def _factors(task: Task, inputs: Inputs) -> GradientFactors:
    found: list[dict[str, list[Factor]]] = []

    def keep(name: str, factor: Factor) -> None:
        found[-1].setdefault(name, []).append(factor)

    with forward(task, inputs) as done:
        count = done.columns.shape[1]
        for k in range(count):
            found.append({})
            backward(done, towards(done, k), keep, last=k == count - 1)
    sizes = {name: parameter.numel() for name, parameter in task.model.named_parameters()}
    return GradientFactors(done.values, found, sizes)


def towards(done: Pass, k: int, factor: Tensor | None = None) -> Tensor:
    """The gradient at the objectives that singles out objective k, times a factor."""
    direction = torch.zeros_like(done.columns)
    direction[:, k] = 1.0 if factor is None else factor
    return direction


def backward(
    done: Pass, direction: Tensor, consume: Callable[[str, Factor], None], *, last: bool
) -> None:
    """One backward pass; hands on each parameter's gradient as soon as its δ arrives."""
    batch = len(done.columns)

    recent: deque = deque(maxlen=8)  # layers that share an input come one after the other

    @torch.no_grad()
    def collect(call: Call) -> None:
        for local, factor in call.factors(batch).items():
            consume(done.recorder.names[id(call.touched[local])], factor)
        call.deltas.clear()
        if last:
            recent.append(call.backward)
            call.forget()

    done.recorder.run_backward(done.columns, direction, collect, last=last)


def _column(part: GradientNorms, name: str) -> Tensor:
    """The norms of one parameter, zero where a part of the batch did not use it."""
    found = part.by_parameter
    return found.get(name, torch.zeros_like(next(iter(found.values()))))


def _use_counts(recorder: Recorder) -> dict[str, int]:
    counts: dict[str, int] = {}
    for call in recorder.calls:
        for parameter in call.touched.values():
            name = recorder.names[id(parameter)]
            counts[name] = counts.get(name, 0) + 1
    return counts
