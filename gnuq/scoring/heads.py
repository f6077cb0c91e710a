"""The language-model head, at the positions that predict an answer's tokens and nowhere else."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from jaxtyping import Int
from torch import Tensor, nn

from gnuq.gradnorm.checks import NotFiniteError
from gnuq.scoring.errors import ScoreError
from gnuq.scoring.learnt_prompts import embedded, learnt_positions


@contextmanager
def logits_at(
    model: nn.Module, positions: Int[Tensor, "batch tokens"], length: int
) -> Generator[None]:
    """Let the language-model head see only these positions: no logits of the prompt exist.

    A thread that serves the model meanwhile sees its head untouched.

    Args:
        model: the model.
        positions: among the ids that it is given.
        length: how many ids it is given.

    Raises:
        ScoreError: for what a pass inside refuses with another ValueError.
    """
    scorer = threading.get_ident()

    def gather(head: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        if threading.get_ident() != scorer:
            return None
        hidden, *rest = given
        ahead = virtual_positions(model, hidden, length)
        between = hidden.shape[1:-2]  # some heads get several streams of an example at once
        index = positions.to(hidden.device) + ahead
        index = index.view(len(hidden), *[1] * len(between), -1, 1)
        return (hidden.gather(-2, index.expand(-1, *between, -1, hidden.shape[-1])), *rest)

    gather.of_the_whole_batch = True  # type: ignore[attr-defined]
    head: nn.Module = model.get_output_embeddings()  # type: ignore[operator]
    handle = head.register_forward_pre_hook(gather)
    try:
        with embedded(model):
            yield
    except (ScoreError, NotFiniteError):
        raise
    except ValueError as error:
        if isinstance(error.__cause__, ScoreError):  # the hook's own, which the pass has wrapped
            raise error.__cause__ from None
        raise ScoreError(str(error)) from error
    finally:
        handle.remove()


def virtual_positions(model: Any, states: Tensor, length: int) -> int:
    """How many positions stand before those of the ids: a prompt that peft has learnt, or none.

    Args:
        model: the model.
        states: its hidden states or logits, shape (batch, …, positions, width).
        length: how many ids it was given.

    Raises:
        ScoreError: the model has other positions than its ids, so none can be told.
    """
    ahead = (states.shape[-2] if states.ndim > 2 else 0) - length
    if ahead not in (0, learnt_positions(model)):
        raise ScoreError(
            f"model: {type(model).__name__} gives states of shape {tuple(states.shape)} for "
            f"{length} ids, so it cannot be told which predicts which; score takes models that "
            "keep one position for each id."
        )
    return ahead
