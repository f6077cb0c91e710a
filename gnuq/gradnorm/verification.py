"""How much of a batch is checked, and by whom: one example by `judge`, all rows by `separation`."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from gnuq.gradnorm import examples, judge, separation
from gnuq.gradnorm.errors import UnsupportedModuleError
from gnuq.gradnorm.outcomes import GradientNorms

#: Every batch; the first one only; none.
Verify = Literal["first"] | bool


ACCIDENT = (
    "inputs: on one example alone the model's output has another shape than in the batch. If one "
    "of the inputs is no batch, but has as many rows by accident, bind it to the model "
    "(functools.partial, a buffer) or score another number of examples at a time."
)
#: Coarser types than these are half precision, and single.
HALF, SINGLE = 1e-4, 1e-10
#: Between a rule and autograd on one and the same forward pass, in units of the type's precision:
#: autograd rounds every entry of a gradient. In bfloat16 1.3 % were seen, 1.7 units (SmolLM2-135M,
#: every weight tensor of 112 answers), where a batch and an answer alone are up to 39 % apart.
SAME_ROUNDING = 8


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
        eps = precision(model, verdict.norms)
        together = _row(found, hearing.example)
        slack = tolerance(eps) * max(float(values.abs().max()), 1e-30)
        judge.same_values(values[hearing.example], verdict.values, number, slack)
        first = _refusal(verdict, together, number, tolerance(eps), eps)
        if eps < HALF and (first is None or eps < SINGLE):
            if first is not None:
                raise first
            return
        # Rounding may differ so much between a batch and an example alone that the rules are
        # judged on the very same forward pass, and the batch by its whole norm.
        alone = _row(again(hearing), 0)
        judge.compare(verdict, alone, number, same_rounding(eps), eps)
        whole, other = (sum(norms.values()) for norms in (together, alone))
        for x, y in zip(torch.as_tensor(whole), torch.as_tensor(other), strict=True):
            judge.same_total(float(x), float(y), number, loose(eps))


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


def _refusal(
    verdict: judge.Verdict, norms: Mapping[str, Tensor], number: int, slack: float, eps: float
) -> UnsupportedModuleError | None:
    try:
        judge.compare(verdict, norms, number, slack, eps)
    except UnsupportedModuleError as error:
        return error
    return None


def precision(model: nn.Module, names: Collection[str] | None = None) -> float:
    """The relative precision of the coarsest type that the model computes in.

    Args:
        model: the model.
        names: of the weights that count; all if omitted.
    """
    types = {
        p.dtype
        for name, p in model.named_parameters()
        if p.is_floating_point() and (names is None or name in names)
    }
    kinds = (getattr(m, "compute_dtype", None) for m in model.modules())
    types |= {kind for kind in kinds if isinstance(kind, torch.dtype)}
    return max((torch.finfo(kind).eps for kind in types), default=torch.finfo(torch.float32).eps)


def tolerance(eps: float) -> float:
    """By how much a squared norm may differ between two orders of summation, relatively.

    Ten times half the digits: 3e-3 in float32, where gradients that nearly cancel lose many. In
    float64 1e-5, since many norm layers compute in float32 always.
    """
    return min(max(10 * eps**0.5, 1e-5), 0.9)


def same_rounding(eps: float) -> float:
    """The same between a rule and autograd on one and the same forward pass."""
    return SAME_ROUNDING * eps if eps >= HALF else tolerance(eps)


def loose(eps: float) -> float:
    """By how much the whole norm may differ between a batch and an example alone, by rounding.

    In half precision only the order of magnitude can be compared.
    """
    return tolerance(eps) if eps >= HALF else 0.02
