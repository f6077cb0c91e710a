"""Exact per-example squared gradient norms, and inner products of gradients, in one backward pass.

For a batch of examples b and an objective with one scalar s_b per example, the gradient of
Σ_b s_b at a layer's output holds every example's own δ_b, since examples do not mix. Each layer's
rule turns its inputs and δ_b into ‖∇s_b‖² without forming the gradient. Not in the paper: it is
what makes Eq. (4) cost one forward and one backward pass for a whole batch.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from gnuq.gradnorm import checks, examples
from gnuq.gradnorm.exclusive import exclusive
from gnuq.gradnorm.factors import Factor, squared_norm, total_norm, widen
from gnuq.gradnorm.outcomes import GradientFactors, GradientNorms
from gnuq.gradnorm.passes import (
    Inputs,
    Objective,
    Pass,
    Scale,
    Task,
    backward,
    descaled,
    forward,
    probe_rows,
    scales,
    towards,
)
from gnuq.gradnorm.recorder import Recorder
from gnuq.gradnorm.verification import Hearing, Verification, Verify


def squared_gradient_norms(
    model: nn.Module,
    inputs: Inputs,
    objective: Objective,
    *,
    batch_size: int | None = None,
    verify: Verify = True,
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
        verify: run one example of each part of the batch, drawn at random, once more on its own
            through plain autograd, and demand the same norm of every weight; and see by a second
            backward pass that examples keep apart, in the first part and wherever an index may
            move them. `"first"`: of the first part only; False: of none. Costs at most a third
            of an unverified batch of eight (`benchmarks/scoring.py`), more for a single example.
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
    inputs = checks.prepared(model, inputs, weights=bool(verify))
    task, verification = Task(model, objective, scale, flattened), Verification(verify)
    parts, start = [], 0
    for part in examples.split(inputs, batch_size):
        with exclusive(model):
            heard = verification.hear(task, part)
            found = norms(task, part, verification, looked_at=bool(heard))
            checks.finite_result(model, found.values, found.total, start)
            verification.judge(task, part, heard, found, partial(_alone, task), start)
        parts.append(found)
        start += len(found.values)
    return _joined(model, parts)


def _joined(model: nn.Module, parts: list[GradientNorms]) -> GradientNorms:
    names = _in_order(model, {name for part in parts for name in part.by_parameter})
    return GradientNorms(
        torch.cat([part.values for part in parts]),
        {name: torch.cat([_column(part, name) for part in parts]) for name in names},
    )


def gradient_factors(
    model: nn.Module, inputs: Inputs, objective: Objective, *, verify: Verify = True
) -> GradientFactors:
    """All per-example gradients in factored form; arguments and errors as in the norms.

    Memory: the inputs and K output gradients of every layer, not the gradients themselves.
    """
    inputs = checks.prepared(model, inputs)
    task, verification = Task(model, objective), Verification(verify)
    with exclusive(model):
        heard = verification.hear(task, inputs)
        result = _factors(task, inputs, verification, looked_at=bool(heard))
        found = GradientNorms(result.values, result.squared_norms_by_parameter())
        total = sum(found.by_parameter.values(), torch.zeros_like(result.values))
        checks.finite_result(model, result.values, total)
        if found.by_parameter:
            verification.judge(task, inputs, heard, found, partial(_alone, task))
    return result


def _alone(task: Task, hearing: Hearing) -> GradientNorms:
    """The norms of one example alone, by the rules."""
    one = replace(task, objective=hearing.objective)
    return norms(one, hearing.inputs, Verification(False))


def norms(
    task: Task, inputs: Inputs, verification: Verification, *, looked_at: bool = False
) -> GradientNorms:
    """The norms of one batch, not judged yet."""
    with forward(task, inputs) as done:
        factor, uses = scales(task, done), _use_counts(done.recorder)
        if looked_at:
            probe_rows(done, verification, factor)
        count = done.columns.shape[1]
        found = [_norms_of_one(done, k, uses, factor) for k in range(count)]
    shape, values = done.values.shape, done.values
    none = torch.zeros_like(widen(done.columns[:, 0].detach()))
    table = [[one.get(name, none).to(none.device) for one in found] for name in uses]
    squared = descaled(torch.stack([torch.stack(row, 1) for row in table]), factor)
    by_parameter = {n: x.reshape(shape) for n, x in zip(uses, squared, strict=True)}
    used = [name for name, norm in by_parameter.items() if done.counts(name, norm)]
    return GradientNorms(values, {name: by_parameter[name] for name in _in_order(task.model, used)})


def _in_order(model: nn.Module, used: Collection[str]) -> list[str]:
    """Names of weights in the model's order; those that layers keep packed in buffers last."""
    names = [name for name, _ in model.named_parameters() if name in used]
    return names + sorted(set(used).difference(names))


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


def _factors(
    task: Task, inputs: Inputs, verification: Verification, *, looked_at: bool
) -> GradientFactors:
    found: list[dict[str, list[Factor]]] = []

    def keep(name: str, factor: Factor) -> None:
        found[-1].setdefault(name, []).append(factor)

    with forward(task, inputs) as done:
        count = done.columns.shape[1]
        if looked_at:
            probe_rows(done, verification, None)
        for k in range(count):
            found.append({})
            backward(done, towards(done, k), keep, last=k == count - 1)
    sizes = {name: parameter.numel() for name, parameter in task.model.named_parameters()}
    return GradientFactors(done.values, found, sizes)


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
