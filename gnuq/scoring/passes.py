"""One batch of answers through the model: logits where answers stand, norms of the objective."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from gnuq.gradnorm import squared_gradient_norms
from gnuq.gradnorm.alignment import Alignment, alignment, gram
from gnuq.gradnorm.checks import NotFiniteError
from gnuq.scoring import objectives
from gnuq.scoring.examples import Example

#: Objectives are multiplied by at most this in the backward pass: 2⁵⁰ keeps float32 in range.
LARGEST_SCALE = 2.0**50


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
    """Whether the model's own forward method takes position_ids; an adapter's hides it."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]
    return "position_ids" in inspect.signature(base.forward).parameters


def device_of(model: nn.Module) -> torch.device:
    """Where the model takes its token ids: the device of the input embedding."""
    home: torch.device = getattr(model, "device", None) or next(model.parameters()).device
    return home


@contextmanager
def logits_at(model: nn.Module, positions: Int[Tensor, "batch tokens"]) -> Generator[None]:
    """Let the language-model head see only these positions: no logits of the prompt exist."""

    def gather(head: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        hidden, *rest = given
        between = hidden.shape[1:-2]  # some heads get several streams of an example at once
        index = positions.to(hidden.device).view(len(hidden), *[1] * len(between), -1, 1)
        return (hidden.gather(-2, index.expand(-1, *between, -1, hidden.shape[-1])), *rest)

    gather.of_the_whole_batch = True  # type: ignore[attr-defined]
    head: nn.Module = model.get_output_embeddings()  # type: ignore[operator]
    handle = head.register_forward_pre_hook(gather)
    try:
        yield
    finally:
        handle.remove()


def token_log_probabilities(
    logits: Float[Tensor, "batch tokens vocabulary"], tokens: Int[Tensor, "batch tokens"]
) -> Float[Tensor, "batch tokens"]:
    """The log-probabilities log p(y_t | y_<t, x) of the given tokens, in float32 at least.

    As log σ of the token's log-odds against all others: no digit of 1 − p is lost where p is
    nearly 1, neither here nor in the gradient.
    """
    wide = logits if logits.dtype == torch.float64 else logits.float()
    chosen = wide.gather(-1, tokens[..., None])[..., 0]
    others = wide.scatter(-1, tokens[..., None], -torch.inf).logsumexp(-1)
    return functional.logsigmoid(chosen - others)


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
        """What the norms must be multiplied by, shape (batch, 1), float64, on the CPU."""
        return (2 * self.log_unit).exp()

    def scale(self, values: Tensor) -> Tensor:
        """A power of two that brings the largest gradient at the logits near one.

        That gradient is p_t (1 − p_t) in the answer's unit, or 1 − p_t for logarithms, over the
        number of tokens. In float16 it would vanish in the layers below.
        """
        log_p, mask = self.log_probabilities, self.batch.mask.to(values.device)
        relative = (log_p - self.log_unit.to(log_p)).exp()
        slope = -torch.expm1(log_p) * (1.0 if "log" in self.name else relative)
        slope = (slope * mask).clamp(min=1 / LARGEST_SCALE)
        if self.name != "token_average":
            slope = (slope.amax(1) / mask.sum(1))[:, None]
        return torch.exp2(-slope.log2().ceil()).clamp(max=LARGEST_SCALE).expand_as(values)


def norms(
    model: nn.Module, batch: Batch, name: str
) -> tuple[dict[str, Float[Tensor, " batch *tokens"]], Float[Tensor, "batch tokens"]]:
    """Squared gradient norms of a batch's objective, and its tokens' log-probabilities.

    Returns:
        The norms by parameter, in float64 on the CPU; the log-probabilities, nought at padding.
    """
    objective = Objective(batch, "mean_log_probability" if name == "joint_probability" else name)
    with logits_at(model, batch.before):
        found = squared_gradient_norms(
            model, batch.inputs, objective, scale=objective.scale, flattened=True, verify=False
        )
    table = torch.stack(list(found.by_parameter.values())).double().cpu()
    unit = objective.squared_unit()
    table = table * (unit if table.ndim == 3 else unit[:, 0])
    return dict(zip(found.by_parameter, table, strict=True)), objective.log_probabilities


def aligned(
    model: nn.Module, batch: Batch, counts: Collection[str] | None = None
) -> tuple[Alignment, Float[Tensor, "batch tokens"]]:
    """Each token's probability against p̄, Eq. (10) row by row, and the log-probabilities."""
    objective = Objective(batch, "token_average")
    weights = batch.mask.double() / batch.mask.sum(1, keepdim=True)
    with logits_at(model, batch.before):
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
    with logits_at(model, batch.before):
        found = gram(model, batch.inputs, objective, scale=objective.scale, flattened=True)
    return found.double().cpu() * objective.squared_unit()[..., None]
