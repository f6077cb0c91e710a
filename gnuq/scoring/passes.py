"""One batch of answers through the model: logits where answers stand, norms of the objective."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from gnuq.estimators import log_odds_of
from gnuq.gradnorm import checks, engine, judge
from gnuq.gradnorm.alignment import Alignment, alignment, gram
from gnuq.gradnorm.checks import NotFiniteError
from gnuq.gradnorm.judge import Verdict
from gnuq.gradnorm.passes import Task
from gnuq.gradnorm.verification import Verification
from gnuq.scoring import objectives
from gnuq.scoring.examples import Example, ScoreError
from gnuq.scoring.heads import logits_at
from gnuq.scoring.learnt_prompts import learnt_positions

#: Objectives are multiplied by at most this in the backward pass: its square, and the gradient at
#: the log-odds, stay in the range of the type in which these are differentiated.
LARGEST_SCALE = {torch.float64: 2.0**500, torch.float32: 2.0**60}
#: A log-probability below is that of a token that cannot be: its logit was −∞.
IMPOSSIBLE = -1e30
#: A norm below has lost digits, or all of them.
TINY = 1e-290


@dataclass(frozen=True)
class Batch:
    """Examples, padded on the right.

    Attributes:
        inputs: the model's keyword arguments.
        before: the position whose logits predict each answer token.
        tokens: the answers' ids.
        mask: which of them are answer tokens.
    """

    inputs: dict[str, Tensor | bool]
    before: Int[Tensor, "batch tokens"]
    tokens: Int[Tensor, "batch tokens"]
    mask: Bool[Tensor, "batch tokens"]

    @property
    def length(self) -> int:
        """The number of ids in a row, padding included."""
        ids = self.inputs["input_ids"]
        assert isinstance(ids, Tensor)
        return ids.shape[1]

    @classmethod
    def of(cls, model: nn.Module, examples: Sequence[Example]) -> Batch:
        """Collate the examples, on the device of the model's input."""
        device = device_of(model)
        length, answer = max(map(len, examples)), max(len(e.answer) for e in examples)

        def table(rows: list[list[int]], width: int) -> Tensor:
            return torch.tensor([r + [0] * (width - len(r)) for r in rows], device=device)

        inputs: dict[str, Tensor | bool] = {
            "input_ids": table([list(e.ids) for e in examples], length),
            "attention_mask": table([[1] * len(e) for e in examples], length),
            "use_cache": False,
        }
        if takes_positions(model):
            inputs["position_ids"] = torch.arange(length, device=device).repeat(len(examples), 1)
        starts = [[len(e.prompt) - 1 + t for t in range(len(e.answer))] for e in examples]
        return cls(
            inputs,
            table(starts, answer),
            table([list(e.answer) for e in examples], answer),
            table([[1] * len(e.answer) for e in examples], answer).bool(),
        )


def takes_positions(model: nn.Module) -> bool:
    """Whether the model's own forward method takes position_ids; an adapter's hides it.

    A learnt prompt stands before the first position, which peft then counts itself.
    """
    if learnt_positions(model):
        return False
    base = model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]
    return "position_ids" in inspect.signature(base.forward).parameters


def device_of(model: nn.Module) -> torch.device:
    """Where the model takes its token ids: the device of the input embedding."""
    home: torch.device = getattr(model, "device", None) or next(model.parameters()).device
    return home


def token_log_probabilities(
    logits: Float[Tensor, "batch tokens vocabulary"], tokens: Int[Tensor, "batch tokens"]
) -> Float[Tensor, "batch tokens"]:
    """The log-probabilities log p(y_t | y_<t, x) of the given tokens; float64, but not on MPS.

    As log σ of the token's log-odds against all others: no digit of 1 − p is lost where p is
    nearly 1, neither here nor in the gradient, which float32 could not hold beyond 87 nats.
    """
    odds = log_odds_of(logits, tokens)
    found = functional.logsigmoid(odds if odds.device.type == "mps" else odds.double())
    return found.masked_fill(found < IMPOSSIBLE, -torch.inf)


class Objective:
    """The objective of one batch, in a unit of each answer's own, which it remembers.

    A probability is differentiated in units of the answer's largest, so that neither it nor the
    square of its gradient can be too small for the data type.

    Args:
        batch: what is scored.
        name: a key of `objectives.OBJECTIVES`.

    Attributes:
        log_probabilities: of the answers' tokens, from the last call.
        log_unit: logarithm of the unit, shape (batch, 1), float64; nought for logarithms.
    """

    def __init__(self, batch: Batch, name: str) -> None:
        self.batch = batch
        self.name = name
        self.log_probabilities = self.log_unit = torch.empty(0)

    def __call__(self, output: Any) -> Tensor:
        """From the model's output to one scalar per example, or one per token."""
        logits = output.logits if hasattr(output, "logits") else output[0]
        if logits.shape[:2] != self.batch.tokens.shape:
            raise ScoreError(
                f"model: its logits have shape {tuple(logits.shape)} where "
                f"{tuple(self.batch.tokens.shape)} tokens are to be scored: it does not call its "
                "output embedding once, on all positions; score takes models that do."
            )
        found = token_log_probabilities(logits, self.batch.tokens.to(logits.device))
        mask = self.batch.mask.to(found.device)
        self.log_probabilities = found.detach().where(mask, 0.0)
        self._demand_finite()
        unit = found.detach().where(mask, -torch.inf).amax(1, keepdim=True)
        unit = unit * 0 if "log" in self.name else unit
        self.log_unit = unit.double().cpu()
        value: Tensor = objectives.OBJECTIVES[self.name][0]((found - unit).where(mask, 0.0), mask)
        return value

    def _demand_finite(self) -> None:
        for wrong, reason in (
            (torch.isnan(self.log_probabilities), "the model's logits are NaN or infinite"),
            (torch.isinf(self.log_probabilities), "a token of the answer has probability nought"),
        ):
            if bool(wrong.any()):
                raise NotFiniteError(reason, int(wrong.any(1).nonzero()[0]))

    def squared_unit(self) -> Tensor:
        """What the norms must be multiplied by, shape (batch, 1), float64, on the CPU.

        Raises:
            NotFiniteError: it is too small for a float.
        """
        found = (2 * self.log_unit).exp()
        if bool((small := found[:, 0] < TINY).any()):
            first = int(small.nonzero()[0])
            raise NotFiniteError(
                f"the answer's probabilities are e^{float(self.log_unit[first]):.0f} at most, "
                "whose square no float can hold",
                first,
            )
        return found

    def scale(self, values: Tensor) -> Tensor:
        """A power of two that brings the largest gradient at the logits near one.

        That gradient is p_t (1 − p_t) in the answer's unit, or 1 − p_t for logarithms, over the
        number of tokens. In float16 it would vanish in the layers below.
        """
        log_p, mask = self.log_probabilities, self.batch.mask.to(values.device)
        relative = (log_p - self.log_unit.to(log_p)).exp()
        slope = -torch.expm1(log_p) * (1.0 if "log" in self.name else relative)
        largest = LARGEST_SCALE[values.dtype]
        slope = (slope * mask).clamp(min=1 / largest)
        if self.name != "token_average":
            slope = (slope.amax(1) / mask.sum(1))[:, None]
        return torch.exp2(-slope.log2().ceil()).clamp(max=largest).expand_as(values)


@dataclass(frozen=True)
class Norms:
    """Squared gradient norms of a batch's objective, each answer's in a unit of its own.

    Attributes:
        by_parameter: the norms, shape (batch) or, one for each token, (batch, tokens), in float64
            on the CPU.
        log_squared_unit: natural logarithm of the unit, shape (batch,), likewise.
        log_probabilities: of the answers' tokens, nought at padding.
    """

    by_parameter: dict[str, Float[Tensor, " batch *tokens"]]
    log_squared_unit: Float[Tensor, " batch"]
    log_probabilities: Float[Tensor, "batch tokens"]


def norms(
    model: nn.Module, batch: Batch, name: str, verification: Verification | None = None
) -> Norms:
    """One forward and one backward pass, or one for each token.

    Args:
        model: the model.
        batch: what is scored.
        name: of the objective.
        verification: of this run, if the rows are looked at too.
    """
    objective = _differentiated(batch, name)
    inputs = checks.prepared(model, batch.inputs, weights=False)
    with logits_at(model, batch.before, batch.length):
        task = Task(model, objective, objective.scale, flattened=True)
        found = engine.norms(
            task, inputs, verification or Verification(False), looked_at=verification is not None
        )
    checks.finite_result(model, found.values, found.total)
    table = {key: norm.double().cpu() for key, norm in found.by_parameter.items()}
    log_p = objective.log_probabilities.double().cpu()
    return Norms(table, _log_squared_unit(objective, log_p, name), log_p)


def judged(model: nn.Module, batch: Batch, name: str) -> tuple[Verdict, float]:
    """What plain autograd says of an answer alone, and the logarithm of its squared unit."""
    objective = _differentiated(batch, name)
    with logits_at(model, batch.before, batch.length):
        verdict = judge.plain(model, batch.inputs, objective, objective.scale)
    log_p = objective.log_probabilities.double().cpu()
    return verdict, float(_log_squared_unit(objective, log_p, name)[0])


def _differentiated(batch: Batch, name: str) -> Objective:
    return Objective(batch, "mean_log_probability" if name == "joint_probability" else name)


def _log_squared_unit(objective: Objective, log_p: Tensor, name: str) -> Tensor:
    """Logarithm of what the norms must be multiplied by, shape (batch,), float64, on the CPU."""
    if name == "joint_probability":  # ∇Π p = (Π p) T ∇ mean log p
        return 2 * (log_p.sum(1) + objective.batch.mask.sum(1).cpu().log())
    return 2 * objective.log_unit[:, 0]


def aligned(
    model: nn.Module, batch: Batch, counts: Collection[str] | None = None
) -> tuple[Alignment, Float[Tensor, "batch tokens"]]:
    """Each token's probability against p̄, Eq. (10) row by row, and the log-probabilities."""
    objective = Objective(batch, "token_average")
    weights = batch.mask.double() / batch.mask.sum(1, keepdim=True)
    with logits_at(model, batch.before, batch.length):
        found = alignment(
            model,
            batch.inputs,
            objective,
            weights,
            scale=objective.scale,
            flattened=True,
            counts=counts,
        )
    return found.times(objective.squared_unit()[:, 0]), objective.log_probabilities


def products(model: nn.Module, batch: Batch) -> Float[Tensor, "batch tokens tokens"]:
    """⟨∇p_t, ∇p_s⟩ for every pair of tokens of each answer."""
    objective = Objective(batch, "token_average")
    with logits_at(model, batch.before, batch.length):
        found = gram(model, batch.inputs, objective, scale=objective.scale, flattened=True)
    return found.double().cpu() * objective.squared_unit()[..., None]
