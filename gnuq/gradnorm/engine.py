"""Exact per-example squared gradient norms, and inner products of gradients, in one backward pass.

For a batch of examples b and an objective with one scalar s_b per example, the gradient of
Σ_b s_b at a layer's output holds every example's own δ_b, since examples do not mix. Each layer's
rule turns its inputs and δ_b into ‖∇s_b‖² without forming the gradient. Not in the paper: it is
what makes Eq. (4) cost one forward and one backward pass for a whole batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gnuq.gradnorm import checks
from gnuq.gradnorm.calls import Call
from gnuq.gradnorm.factors import Factor, squared_norm, total_norm, widen
from gnuq.gradnorm.outcomes import GradientFactors, GradientNorms
from gnuq.gradnorm.recorder import Recorder

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

    Args:
        model: any module whose examples are independent along dimension 0; its weights stay
            frozen and no weight gradient is stored. Dropout and batch statistics must be off.
        inputs: a tensor (batch, …), a tuple of positional, or a mapping of keyword arguments.
        objective: maps the model's output to one scalar per example, shape (batch,), or to K
            of them, shape (batch, K): all classes of a classifier at once, for example.
        batch_size: split the batch into parts of this size, to bound memory.
        verify: run the example with the largest norm once more, on its own, and demand the
            same norm: if dimension 0 is not the batch everywhere, or examples depend on each
            other, the two differ. Costs one example's pass; switch it off in tight loops.
        scale: by what to multiply each objective in the backward pass; the norms are divided by
            its square. In float16 the gradient of a small probability would vanish without it.
        flattened: accept modules that get the tokens of all examples in one dimension, example
            by example, as routers and experts do. Only scoring an example alone can tell that
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
    inputs = checks.prepared(model, inputs)
    parts = [
        _norms(model, part, objective, scale, flattened)
        for part in checks.split(inputs, batch_size)
    ]
    used = {name for part in parts for name in part.by_parameter}
    names = [name for name, _ in model.named_parameters() if name in used]
    names += sorted(used.difference(names))  # weights that layers keep packed in buffers
    result = GradientNorms(
        torch.cat([part.values for part in parts]),
        {name: torch.cat([_column(part, name) for part in parts]) for name in names},
    )
    checks.finite_result(model, result.values, result.total)
    if verify:
        _verify(model, inputs, objective, result.total)
    return result


def gradient_factors(
    model: nn.Module, inputs: Inputs, objective: Objective, *, verify: bool = True
) -> GradientFactors:
    """All per-example gradients in factored form; arguments and errors as in the norms.

    Memory: the inputs and K output gradients of every layer, not the gradients themselves.
    """
    inputs = checks.prepared(model, inputs)
    result = _factors(model, inputs, objective)
    norms = result.squared_norms()
    checks.finite_result(model, result.values, norms)
    if verify:
        _verify(model, inputs, objective, norms)
    return result


def _verify(model: nn.Module, inputs: Inputs, objective: Objective, norms: Tensor) -> None:
    """Demand the same norm of the example with the largest one when the model sees it alone."""
    batch = len(norms)
    if batch == 1:
        return
    largest = int(norms.reshape(batch, -1).sum(1).argmax())

    def in_its_row(output: Any) -> Tensor:
        """The objective may hold one target per example, so it gets as many rows as before."""
        return objective(checks.in_row(output, largest, batch))[largest : largest + 1]

    alone = _norms(model, checks.one_of(inputs, largest), in_its_row)
    checks.same_alone(norms, alone.total, largest)


@dataclass(frozen=True)
class _Pass:
    """A recorded forward pass: its values, and the objectives as columns of a matrix."""

    recorder: Recorder
    values: Tensor
    columns: Tensor


@contextmanager
def _forward(
    model: nn.Module, inputs: Inputs, objective: Objective, flattened: bool = False
) -> Iterator[_Pass]:
    """Run and record; what was recorded is released at the end, also after an error."""
    recorder = Recorder(model, flattened=flattened)
    try:
        with recorder.watching(), checks.deterministic():
            values = objective(checks.call(model, inputs))
        checks.objective(values, checks.batch_of(inputs), recorder.anchor)
        with torch.enable_grad():
            columns = values if values.ndim == 2 else values[:, None]
        yield _Pass(recorder, values.detach(), columns)
    finally:
        recorder.release()


def _norms(
    model: nn.Module,
    inputs: Inputs,
    objective: Objective,
    scale: Scale | None = None,
    flattened: bool = False,
) -> GradientNorms:
    with _forward(model, inputs, objective, flattened) as done:
        factor = torch.ones_like(done.columns) if scale is None else scale(done.columns.detach())
        uses = _use_counts(done.recorder)
        start = torch.zeros_like(widen(done.columns.detach()))
        norms = {name: start.clone() for name in uses}
        for k in range(done.columns.shape[1]):
            for name, norm in _norms_of_one(done, k, uses, factor[:, k]).items():
                norms[name][:, k] = norm / widen(factor[:, k]).square()
    shape = done.values.shape
    return GradientNorms(done.values, {name: norm.reshape(shape) for name, norm in norms.items()})


def _norms_of_one(
    done: _Pass, k: int, uses: dict[str, int], factor: Tensor
) -> dict[str, Tensor]:
    """Squared norms of objective k's gradients, by parameter, as the backward pass runs."""
    norms: dict[str, Tensor] = {}
    shared: dict[str, list[Factor]] = {}

    def consume(name: str, factor: Factor) -> None:
        if uses[name] == 1:
            norms[name] = squared_norm(factor)
        else:  # a parameter used more than once owes cross terms: wait for all its uses
            shared.setdefault(name, []).append(factor)

    _backward(done, k, consume, factor)
    return norms | {name: total_norm(several) for name, several in shared.items()}


def _factors(model: nn.Module, inputs: Inputs, objective: Objective) -> GradientFactors:
    found: list[dict[str, list[Factor]]] = []

    def keep(name: str, factor: Factor) -> None:
        found[-1].setdefault(name, []).append(factor)

    with _forward(model, inputs, objective) as done:
        for k in range(done.columns.shape[1]):
            found.append({})
            _backward(done, k, keep)
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    return GradientFactors(done.values, found, sizes)


def _backward(
    done: _Pass, k: int, consume: Callable[[str, Factor], None], factor: Tensor | float = 1.0
) -> None:
    """One backward pass; hands on each parameter's gradient as soon as its δ arrives."""
    batch, count = done.columns.shape
    direction = torch.zeros_like(done.columns)
    direction[:, k] = factor

    @torch.no_grad()
    def collect(call: Call) -> None:
        for local, factor in call.factors(batch).items():
            consume(done.recorder.names[id(call.touched[local])], factor)
        call.deltas.clear()

    done.recorder.run_backward(done.columns, direction, collect, last=k == count - 1)


def _column(part: GradientNorms, name: str) -> Tensor:
    """The norms of one parameter, zero where a part of the batch did not use it."""
    return part.by_parameter.get(name, torch.zeros_like(widen(part.values)))


def _use_counts(recorder: Recorder) -> dict[str, int]:
    counts: dict[str, int] = {}
    for call in recorder.calls:
        for parameter in call.touched.values():
            name = recorder.names[id(parameter)]
            counts[name] = counts.get(name, 0) + 1
    return counts
