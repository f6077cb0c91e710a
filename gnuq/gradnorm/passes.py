"""A recorded forward pass, and backward passes over it, which hand on gradient after gradient."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gnuq.gradnorm import checks, examples
from gnuq.gradnorm.calls import Call
from gnuq.gradnorm.constants import demand_no_hidden_backward
from gnuq.gradnorm.errors import UnsupportedModuleError
from gnuq.gradnorm.factors import Factor
from gnuq.gradnorm.recorder import Recorder
from gnuq.gradnorm.shapes import widest
from gnuq.gradnorm.surroundings import deterministic, eager
from gnuq.gradnorm.verification import Verification
from gnuq.gradnorm.watch import ATTACHED

#: Maps the model's output to one scalar per example, shape (batch,), or to K, (batch, K).
Objective = Callable[[Any], Tensor]


#: Maps the objectives, (batch, K), to what each is multiplied by in its backward pass.
Scale = Callable[[Tensor], Tensor]


#: One tensor, a tuple of positional arguments, or a mapping of keyword arguments.
Inputs = Tensor | tuple | Mapping[str, Any]


@dataclass(frozen=True)
class Task:
    """What to do with a batch; the attributes as in `squared_gradient_norms`."""

    model: nn.Module
    objective: Objective
    scale: Scale | None = None
    flattened: bool = False


@dataclass(frozen=True)
class Pass:
    """A recorded forward pass: its values, the objectives as columns of a matrix, its graph."""

    recorder: Recorder
    values: Tensor
    columns: Tensor
    nodes: list[Any]

    def counts(self, name: str, norm: Tensor) -> bool:
        """Whether a weight was used: a use was seen, or its gradient is not nought."""
        return name not in self.recorder.unseen or bool(norm.any())


@contextmanager
def forward(task: Task, inputs: Inputs) -> Iterator[Pass]:
    """Run and record; what was recorded is released at the end, also after an error."""
    tokens = examples.tokens_of(inputs) if task.flattened else 0
    recorder = Recorder(task.model, flattened=tokens, batch=examples.batch_of(inputs))
    try:
        with recorder.watching(), deterministic(), eager():
            values = task.objective(checks.call(task.model, inputs))
        with recorder.explaining():
            nodes = checks.objective(values, examples.batch_of(inputs), recorder.anchor)
        demand_no_hidden_backward(recorder.constants, values, ATTACHED)
        with torch.enable_grad():
            columns = values if values.ndim == 2 else values[:, None]
        yield Pass(recorder, values.detach(), columns, nodes)
    finally:
        recorder.release()


def probe_rows(done: Pass, verification: Verification, factor: Tensor | None) -> None:
    """Two backward passes, one of them with a number of its own for every example, if need be.

    Raises:
        UnsupportedModuleError: rows are not where they should be, or the model can be
            differentiated but once.
    """
    batch, count = done.columns.shape
    half = any(p.dtype == torch.float16 for p in done.recorder.model.parameters())
    probe = verification.probe(batch, done.nodes, half=half)
    if probe is None:
        return
    mixed = torch.tensor([verification.draw.uniform(0.5, 1.5) for _ in range(count)])
    direction = mixed.to(done.columns).expand(batch, count) * (1.0 if factor is None else factor)
    own = probe.factors.to(direction)[:, None]
    try:
        done.recorder.run_backward(done.columns, direction * own, probe.note, last=False)
        done.recorder.run_backward(done.columns, direction, probe.compare, last=False)
    except UnsupportedModuleError:
        raise
    except (RuntimeError, IndexError, AttributeError, TypeError) as error:
        raise UnsupportedModuleError(
            "model: its backward pass cannot be run twice, as is needed to see that examples keep "
            f"apart: {error}. Score one example at a time, or with verify=False."
        ) from error


def scales(task: Task, done: Pass) -> Tensor | None:
    """What each objective is multiplied by in its backward pass, shape (batch, K)."""
    return None if task.scale is None else task.scale(done.columns.detach())


def descaled(norm: Tensor, factor: Tensor | None) -> Tensor:
    """Divide by the square, in float64: a norm too small for float32 was the reason to scale."""
    if factor is None:
        return norm
    wide = widest(norm)
    return wide / factor.to(wide).square()


def towards(done: Pass, k: int, factor: Tensor | None = None) -> Tensor:
    """The gradient at the objectives that singles out objective k, times a factor."""
    direction = torch.zeros_like(done.columns)
    direction[:, k] = 1.0 if factor is None else factor
    return direction


def backward(
    done: Pass,
    direction: Tensor,
    consume: Callable[[str, Factor], None],
    *,
    last: bool,
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
