"""How much of a batch is checked, and by whom: one example by `judge`, all rows by `separation`."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from gnuq.gradnorm import agreement, examples, judge, separation
from gnuq.gradnorm.agreement import precision, tolerance
from gnuq.gradnorm.errors import UnsupportedModuleError
from gnuq.gradnorm.outcomes import GradientNorms

#: Every batch; the first one only; none.
Verify = Literal["first"] | bool


ACCIDENT = (
    "inputs: on one example alone the model's output has another shape than in the batch. If one "
    "of the inputs is no batch, but has as many rows by accident, bind it to the model "
    "(functools.partial, a buffer) or score another number of examples at a time."
)


class Verification:
    """The checks of one run over one batch after the other.

    Args:
        verify: what is asked for.

    Raises:
        ValueError: something else than True, "first" or False.
    """

    def __init__(self, verify: Verify) -> None:
        if not isinstance(verify, bool) and verify != "first":
            raise ValueError(f"verify: {verify!r} is none of True, 'first', False.")
        self.verify = verify
        self.judged = 0
        self._in_order: set[frozenset[tuple[str, int]]] = set()
        self.draw = random.Random()

    @property
    def due(self) -> bool:
        """Whether the next batch is to be judged."""
        return self.verify is True or (self.verify == "first" and not self.judged)

    def probe(self, batch: int, nodes: list[Any], *, half: bool) -> separation.Probe | None:
        """The probe of a batch, if its examples may stand in other rows than in those before.

        Args:
            batch: the number of examples.
            nodes: of the pass's autograd graph.
            half: whether the model computes in float16.
        """
        if batch == 1:
            return None
        graph, rows = separation.look(nodes, batch)
        if rows <= {"keeps"} or ("moves" not in rows and graph in self._in_order):
            return None
        self._in_order.add(graph)
        return separation.Probe(batch, self.draw, half=half)

    def hear(self, task: Any, inputs: Any, among: Sequence[int] | None = None) -> list[Hearing]:
        """Let plain autograd speak of one example of a batch, drawn at random; of two, of both.

        Before the recorder runs: what a model derives from a weight once and keeps would be a
        constant afterwards.

        Args:
            task: model, objective, scale.
            inputs: of the batch.
            among: the examples to draw from; all if omitted.
        """
        if not self.due:
            return []
        self.judged += 1
        batch = examples.batch_of(inputs)
        chosen = [0, 1] if batch == 2 else [self.draw.choice(among or range(batch))]
        return [_heard(task, inputs, i, batch) for i in chosen]

    def judge(
        self,
        task: Any,
        inputs: Any,
        heard: list[Hearing],
        found: GradientNorms,
        again: Callable[[Hearing], GradientNorms],
        start: int = 0,
    ) -> None:
        """Demand that what autograd said holds of the batch.

        Args:
            task: as in `hear`.
            inputs: as in `hear`.
            heard: what `hear` returned.
            found: the norms of the batch.
            again: the norms of the one example alone, by the rules.
            start: the number of the batch's first example, for messages.

        Raises:
            UnsupportedModuleError: a norm or a value is not what plain autograd says.
        """
        rows = found.total.reshape(len(found.values), -1)
        active = rows.sum(1).nonzero().flatten().tolist()
        if heard and active and not any(h.example in active for h in heard):
            heard = [_heard(task, inputs, self.draw.choice(active), len(rows))]
        for hearing in heard:
            self._compare(task.model, hearing, found, again, start)

    def _compare(
        self,
        model: nn.Module,
        hearing: Hearing,
        found: GradientNorms,
        again: Callable[[Hearing], GradientNorms],
        start: int,
    ) -> None:
        number, verdict = start + hearing.example, hearing.verdict
        if isinstance(verdict, Exception):
            raise verdict
        values = found.values.reshape(len(found.values), -1)
        if values.shape[1] != len(verdict.values):
            raise UnsupportedModuleError(ACCIDENT)
        slack = tolerance(precision(model, verdict.norms)) * max(float(values.abs().max()), 1e-30)
        agreement.same_values(values[hearing.example], verdict.values, number, slack)
        together = _row(found, hearing.example)
        agreement.demand(model, verdict, together, lambda: _row(again(hearing), 0), number)


@dataclass(frozen=True)
class Hearing:
    """One example before the judge.

    Attributes:
        example: its number in the batch.
        inputs: its own.
        objective: from the output for it alone to its objectives, shape (1, …).
        verdict: what plain autograd said, or the error that it raised: the recorded pass, which
            comes after, may have a clearer one.
    """

    example: int
    inputs: Any
    objective: Callable[[Any], Tensor]
    verdict: judge.Verdict | Exception


def _heard(task: Any, inputs: Any, chosen: int, batch: int) -> Hearing:
    def in_its_row(output: Any) -> Tensor:
        """The objective may hold one target per example, so it gets as many rows as before."""
        try:
            found: Tensor = task.objective(examples.in_row(output, chosen, batch))
        except (RuntimeError, IndexError, ValueError) as error:
            raise UnsupportedModuleError(f"{ACCIDENT} ({error})") from error
        if not isinstance(found, Tensor) or found.ndim == 0 or len(found) not in (1, batch):
            raise UnsupportedModuleError(ACCIDENT)
        return found if len(found) == 1 else found[chosen : chosen + 1]

    alone = examples.one_of(inputs, chosen) if batch > 1 else inputs
    verdict: judge.Verdict | Exception
    try:
        verdict = judge.plain(task.model, alone, in_its_row, task.scale)
    except Exception as error:
        verdict = error
    return Hearing(chosen, alone, in_its_row, verdict)


def _row(found: GradientNorms, example: int) -> dict[str, Tensor]:
    """One example's norms, shape (K,), in float64 on the CPU."""
    batch = len(found.values)
    return {
        name: norm.reshape(batch, -1)[example].double().cpu()
        for name, norm in found.by_parameter.items()
    }
