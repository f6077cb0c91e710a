"""The work of scoring: batch after batch, with what a failure of one answer leaves of the rest."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from gnuq.gradnorm import UnsupportedModuleError, agreement, judge
from gnuq.gradnorm.checks import NotFiniteError
from gnuq.gradnorm.verification import Verification, Verify
from gnuq.scoring import models, passes
from gnuq.scoring.batches import batches, short_of_memory
from gnuq.scoring.examples import Example, ExampleError
from gnuq.scoring.scores import Scores
from gnuq.scoring.weights import Parameters, Weights, counted

#: A sum over the pairs of a long sequence's tokens cancels more than other gradients: one weight of
#: Qwen2.5-Coder-1.5B in float32 was 0.36 % off on its own, just above the engine's tolerance.
CANCELLING = 3


@dataclass(frozen=True)
class Row:
    """What one answer's pass gave.

    Attributes:
        log_probabilities: of the answer's tokens.
        norms: squared norms by parameter, in a unit of the answer's own.
        log_squared_unit: natural logarithm of the unit.
    """

    log_probabilities: np.ndarray
    norms: dict[str, float]
    log_squared_unit: float

    def in_unit(self, log_squared_unit: float) -> dict[str, Tensor]:
        """The norms in another unit."""
        factor = float(np.exp(self.log_squared_unit - log_squared_unit))
        return {
            name: torch.tensor([factor * x], dtype=torch.float64) for name, x in self.norms.items()
        }


@dataclass
class Task:
    """How to score: the model, the objective, bytes for a batch, and whether to verify."""

    model: nn.Module
    objective: str
    budget: float
    verify: Verify = True

    @cached_property
    def verification(self) -> Verification:
        """The checks of this run, batch after batch."""
        return Verification(self.verify)

    @cached_property
    def weights(self) -> Weights:
        """The model's weights as the scores need them, looked at once."""
        return Weights(self.model)

    def attempts(self, examples: Sequence[Example]) -> Iterator[tuple[int, Row | ExampleError]]:
        """Each example's row, or what is wrong with it; one bad example spoils no other.

        Raises:
            ScoreError: the weights changed between the first batch and the last.
        """
        _ = self.weights.fingerprint  # taken now, of what is scored
        for chosen in batches(self.model, examples, lambda: self.budget):
            try:
                rows = self.judged(examples, chosen)
            except (ExampleError, UnsupportedModuleError) as error:
                if isinstance(error, UnsupportedModuleError):
                    self._one_by_one(error, len(chosen))
                yield from ((i, self._attempt(examples, i)) for i in chosen)
                continue
            yield from rows.items()
        if examples and len(chosen) < len(examples):  # time has passed between batches
            self.weights.demand_unchanged()

    def _one_by_one(self, error: UnsupportedModuleError, size: int) -> None:
        """What cannot keep the examples of a batch apart gets them one by one."""
        if size == 1:
            raise error
        if self.budget:
            warnings.warn(
                f"answers are scored one at a time from here on: in a batch of {size} {error}",
                stacklevel=4,
            )
        self.budget = 0.0

    def _attempt(self, examples: Sequence[Example], i: int) -> Row | ExampleError:
        try:
            return self.judged(examples, [i])[i]
        except ExampleError as error:
            return error

    def judged(self, examples: Sequence[Example], chosen: list[int]) -> dict[int, Row]:
        """One batch, of which the shortest answer's norms are those that plain autograd gives.

        What depends on the longest example of a batch, such as padding and switching positions,
        changes the shortest most.
        """
        if not self.verification.due:
            return self._rows(examples, chosen, looked_at=False)
        drawn = self._drawn(examples, chosen)
        self.verification.judged += 1
        heard = {i: self._heard(passes.Batch.of(self.model, [examples[i]])) for i in drawn}
        rows = self._rows(examples, chosen, looked_at=True)
        for i, found in heard.items():
            if isinstance(found, Exception):
                raise found
            self._judge(examples[i], i, rows[i], *found, alone=len(chosen) == 1)
        return rows

    def _drawn(self, examples: Sequence[Example], chosen: list[int]) -> list[int]:
        """The shortest and the longest answer of the first batch; of the others one.

        Padding, and what switches with the longest example, change the shortest most; at late
        positions only the longest has something to show. Afterwards it is the shortest every other
        time, and any.
        """
        draw = self.verification.draw
        ordered = sorted(chosen, key=lambda i: (len(examples[i]), draw.random()))
        if not self.verification.judged:
            return list(dict.fromkeys((ordered[0], ordered[-1])))
        return [ordered[0] if draw.random() < 0.5 else draw.choice(chosen)]

    def _heard(self, batch: passes.Batch) -> tuple[judge.Verdict, float] | Exception:
        """What autograd says; the recorded pass, which comes after, may have a clearer error."""
        try:
            verdict, unit = passes.judged(self.model, batch, self.objective)
        except Exception as error:
            return error
        averaged = self.objective == "token_average"
        return (verdict.averaged() if averaged else verdict), unit

    def _judge(
        self,
        example: Example,
        i: int,
        row: Row,
        verdict: judge.Verdict,
        unit: float,
        *,
        alone: bool,
    ) -> None:
        together = row.in_unit(unit)

        def by_itself() -> dict[str, Tensor]:
            return together if alone else self._batch([example], [i])[i].in_unit(unit)

        agreement.demand(self.model, verdict, together, by_itself, i, leniency=CANCELLING)

    def _rows(
        self, examples: Sequence[Example], chosen: list[int], *, looked_at: bool
    ) -> dict[int, Row]:
        """One batch; in halves if the memory does not suffice."""
        try:
            return self._batch([examples[i] for i in chosen], chosen, looked_at=looked_at)
        except (RuntimeError, ValueError, MemoryError) as error:
            if not short_of_memory(error):
                raise
            if len(chosen) == 1:
                reason = f"{len(examples[chosen[0]])} tokens do not fit the memory"
                raise ExampleError(reason, chosen[0]) from error
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self.budget /= 2
        half = len(chosen) // 2
        first, second = chosen[:half], chosen[half:]
        return self._rows(examples, first, looked_at=looked_at) | self._rows(
            examples, second, looked_at=looked_at
        )

    def _batch(
        self, examples: list[Example], chosen: list[int], *, looked_at: bool = False
    ) -> dict[int, Row]:
        batch = passes.Batch.of(self.model, examples)
        try:
            verification = self.verification if looked_at else None
            found = passes.norms(self.model, batch, self.objective, verification)
        except NotFiniteError as error:
            raise ExampleError(str(error).rstrip("."), chosen[error.example]) from error
        mask, names = batch.mask.cpu(), list(found.by_parameter)
        norms = torch.stack(list(found.by_parameter.values()))
        if self.objective == "token_average":
            norms = (norms * mask).sum(2) / mask.sum(1)
        lengths, units = mask.sum(1).tolist(), found.log_squared_unit.tolist()
        return {
            i: Row(
                found.log_probabilities[b, : lengths[b]].numpy(),
                dict(zip(names, norms[:, b].tolist(), strict=True)),
                units[b],
            )
            for b, i in enumerate(chosen)
        }


def collected(
    task: Task, tokenizer: Any, examples: list[Example], rows: list[Row], params: Parameters
) -> Scores:
    """The rows as arrays, with the weights that count.

    A weight that an answer did not reach (an expert that no token was sent to) has gradient 0.
    """
    used = list(dict.fromkeys(name for row in rows for name in row.norms))
    names = counted(task.model, params, used)
    log_p = [row.log_probabilities for row in rows]
    norms = np.array([[row.norms.get(n, 0.0) for n in names] for row in rows])
    units = np.array([row.log_squared_unit for row in rows])
    log_epistemic = _logarithm(norms.sum(1)) + units
    _warn_of_underflow(log_epistemic)
    return Scores(
        objective=task.objective,
        params=params if isinstance(params, str) else f"{len(names)} of {len(used)} by a function",
        model_name=models.name_of(task.model),
        weights_read=task.weights,
        by_parameter=pd.DataFrame(norms * np.exp(units)[:, None], columns=names),
        log_epistemic=log_epistemic,
        token_probabilities=[np.exp(x) for x in log_p],
        aleatoric=np.array([np.mean(-np.exp(x) * np.expm1(x)) for x in log_p]),
        mean_log_probability=np.array([x.mean() for x in log_p]),
        examples=examples,
        tokenizer=tokenizer,
    )


def _logarithm(norms: np.ndarray) -> np.ndarray:
    """Of nought, -inf."""
    with np.errstate(divide="ignore"):
        found: np.ndarray = np.log(norms)
    return found


def _warn_of_underflow(log_epistemic: np.ndarray) -> None:
    """A norm that no float can hold is not passed on as nought without a word."""
    low = log_epistemic < np.log(passes.TINY)
    if low.any():
        warnings.warn(
            f"{low.sum()} squared norms, the first of answer {low.argmax()}, are as small as "
            f"e^{log_epistemic[low].min():.0f}, which no float can hold: epistemic, and what "
            "derives from it, is nought or has lost digits there. log_epistemic has what is known "
            "(-inf: nought to every digit).",
            stacklevel=3,
        )
