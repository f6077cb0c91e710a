"""How much of a batch is checked, and by whom: one example by `judge`, all rows by `separation`."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from gnuq.gradnorm import examples, judge, separation
from gnuq.gradnorm.errors import UnsupportedModuleError

#: Every batch; the first one only; none.
Verify = Literal["first"] | bool


ACCIDENT = (
    "inputs: on one example alone the model's output has another shape than in the batch. If one "
    "of the inputs is no batch, but has as many rows by accident, bind it to the model "
    "(functools.partial, a buffer) or score another number of examples at a time."
)
#: Coarser types than this are half precision.
HALF = 1e-4
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
        if verify not in (True, False, "first"):
            raise ValueError(f"verify: {verify!r} is none of True, 'first', False.")
        self.verify = verify
        self.judged = 0
        self._in_order: set[frozenset[tuple[str, int]]] = set()
        self._draw = random.Random()

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
        if batch == 1 or not self.due:
            return None
        graph, rows = separation.look(nodes, batch)
        if rows <= {"keeps"} or ("moves" not in rows and graph in self._in_order):
            return None
        self._in_order.add(graph)
        return separation.Probe(batch, self._draw, half=half)

    def judge(
        self,
        model: nn.Module,
        inputs: Any,
        objective: Callable[[Any], Tensor],
        scale: Callable[[Tensor], Tensor] | None,
        norms: Mapping[str, Tensor],
        start: int = 0,
    ) -> None:
        """Hand one example of a batch, drawn at random, to the judge.

        Args:
            model: the model.
            inputs: of the batch.
            objective: of the batch.
            scale: as in `gnuq.gradnorm.squared_gradient_norms`.
            norms: squared norms by parameter, shape (batch,) or (batch, K).
            start: the number of the batch's first example, for messages.

        Raises:
            UnsupportedModuleError: a norm is not what plain autograd says.
        """
        if not self.due:
            return
        self.judged += 1
        batch = examples.batch_of(inputs)
        # Not the first: what depends on the row's number does not show in it.
        chosen = self._draw.randrange(min(1, batch - 1), batch)

        def in_its_row(output: Any) -> Tensor:
            """The objective may hold one target per example, so it gets as many rows as before."""
            try:
                found: Tensor = objective(examples.in_row(output, chosen, batch))
            except (RuntimeError, IndexError, ValueError) as error:
                raise UnsupportedModuleError(f"{ACCIDENT} ({error})") from error
            return found[chosen : chosen + 1]

        alone = examples.one_of(inputs, chosen) if batch > 1 else inputs
        verdict = judge.plain(model, alone, in_its_row, scale)
        rows = {name: norm.reshape(batch, -1)[chosen] for name, norm in norms.items()}
        if any(row.shape != verdict.values.shape for row in rows.values()):
            raise UnsupportedModuleError(ACCIDENT)
        eps = precision(model)
        judge.compare(verdict, rows, start + chosen, tolerance(eps), eps)


def precision(model: nn.Module) -> float:
    """The relative precision of the coarsest type that the model computes in."""
    types = {p.dtype for p in model.parameters() if p.is_floating_point()}
    types |= {kind for m in model.modules() if (kind := getattr(m, "compute_dtype", None))}
    return max((torch.finfo(kind).eps for kind in types), default=torch.finfo(torch.float32).eps)


def tolerance(eps: float) -> float:
    """By how much a squared norm may differ between two orders of summation, relatively.

    Ten times half the digits: 3e-3 in float32, where gradients that nearly cancel lose many. In
    float64 1e-5, since many norm layers compute in float32 always. In half precision a batch and
    an example alone are rounded so differently that only the order of magnitude can be compared.
    """
    return min(max(10 * eps**0.5, 1e-5), 0.9)
