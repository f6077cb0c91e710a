"""How the command line scores, as one value: what determines its results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gnuq.scoring.batches import budget_of
from gnuq.scoring.task import Task
from gnuq.scoring.weights import Parameters


@dataclass(frozen=True)
class Settings:
    """Options of the command line; those that `score` has too, as there.

    Attributes:
        model: the model's name, revision, quantisation and data type.
        objective: what is differentiated.
        params: which weights count.
        chat: wrap questions into the chat template.
        end: count the end-of-sequence token.
        max_new_tokens: length of an answer that the model gives.
        memory: GiB of a batch's activations.
    """

    model: tuple[str | None, ...] = ()
    objective: str = "mean_probability"
    params: Parameters = "all"
    chat: bool = False
    end: bool = False
    max_new_tokens: int = 50
    memory: float | None = None

    def task(self, model: Any) -> Task:
        """The work that `score` does, on a loaded model."""
        return Task(model, self.objective, budget_of(model, self.memory))
