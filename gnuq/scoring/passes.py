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

from gnuq.gradnorm import GradientNorms, squared_gradient_norms
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
        if "position_ids" in inspect.signature(model.forward).parameters:
            inputs["position_ids"] = torch.arange(length, device=device).repeat(len(examples), 1)
        starts = [[len(e.prompt) - 1 + t for t in range(len(e.answer))] for e in examples]
        return cls(
            inputs,
            table(starts, answer),
            table([list(e.answer) for e in examples], answer),
            table([[1] * len(e.answer) for e in examples], answer).bool(),
        )


def device_of(model: nn.Module) -> torch.device:
    """Where the model takes its token ids: the device of the input embedding."""
    home: torch.device = getattr(model, "device", None) or next(model.parameters()).device
    return home


@contextmanager
def logits_at(model: nn.Module, positions: Int[Tensor, "batch tokens"]) -> Generator[None]:
    """Let the language-model head see only these positions: no logits of the prompt exist."""

    def gather(head: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        hidden, *rest = given
        index = positions.to(hidden.device)[..., None].expand(-1, -1, hidden.shape[-1])
        return (hidden.gather(1, index), *rest)

    head: nn.Module = model.get_output_embeddings()  # type: ignore[operator]
    handle = head.register_forward_pre_hook(gather)
    try:
        yield
    finally:
        handle.remove()


def token_log_probabilities(
    logits: Float[Tensor, "batch tokens vocabulary"], tokens: Int[Tensor, "batch tokens"]
) -> Float[Tensor, "batch tokens"]:
    """The log-probabilities log p(y_t | y_<t, x) of the given tokens, in float32 at least."""
    wide = logits if logits.dtype == torch.float64 else logits.float()
    chosen = wide.gather(-1, tokens[..., None])[..., 0]
    return chosen - wide.logsumexp(-1)


class Objective:
    """The objective of one batch; remembers the log-probabilities that it has seen.

    Args:
        batch: what is scored.
        name: a key of `objectives.OBJECTIVES`.
    """

    def __init__(self, batch: Batch, name: str) -> None:
        self.batch = batch
        self.name = name
        self.log_probabilities = torch.empty(0)

    def __call__(self, output: Any) -> Tensor:
        """From the model's output to one scalar per example, or one per token."""
        logits = output.logits if hasattr(output, "logits") else output[0]
        found = token_log_probabilities(logits, self.batch.tokens.to(logits.device))
        self.log_probabilities = found.detach()
        bad = (~torch.isfinite(found.detach()) & self.batch.mask.to(found.device)).any(1)
        if bool(bad.any()):
            raise NotFiniteError("the model's logits are NaN or infinite", int(bad.nonzero()[0]))
        value: Tensor = objectives.OBJECTIVES[self.name][0](found, self.batch.mask.to(found.device))
        return value

    def scale(self, values: Tensor) -> Tensor:
        """A power of two that brings the largest gradient at the logits near one.

        That gradient is p_t (1 − p_t), or 1 − p_t for logarithms, over the number of tokens. In
        float16 it would vanish in the layers below; its square vanishes even in float32.
        """
        log_p, mask = self.log_probabilities, self.batch.mask.to(values.device)
        slope = -torch.expm1(log_p) * (1.0 if "log" in self.name else log_p.exp())
        slope = (slope * mask).clamp(min=1 / LARGEST_SCALE)
        if self.name != "token_average":
            slope = (slope.amax(1) / mask.sum(1))[:, None]
        return torch.exp2(-slope.log2().ceil()).clamp(max=LARGEST_SCALE).expand_as(values)


def norms(
    model: nn.Module, batch: Batch, name: str
) -> tuple[GradientNorms, Float[Tensor, "batch tokens"]]:
    """Squared gradient norms of a batch's objective, and its tokens' log-probabilities."""
    objective = Objective(batch, "mean_log_probability" if name == "joint_probability" else name)
    with logits_at(model, batch.before):
        found = squared_gradient_norms(
            model, batch.inputs, objective, scale=objective.scale, flattened=True, verify=False
        )
    return found, objective.log_probabilities


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
    return found, objective.log_probabilities


def products(model: nn.Module, batch: Batch) -> Float[Tensor, "batch tokens tokens"]:
    """⟨∇p_t, ∇p_s⟩ for every pair of tokens of each answer."""
    objective = Objective(batch, "token_average")
    with logits_at(model, batch.before):
        return gram(model, batch.inputs, objective, scale=objective.scale, flattened=True)
