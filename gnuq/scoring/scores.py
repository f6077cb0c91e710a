"""What scoring returns: one entry for each answer, with its breakdowns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from gnuq.scoring import tokens
from gnuq.scoring.examples import Example
from gnuq.scoring.exclusive import exclusive
from gnuq.scoring.weights import Grouping, Weights, group


@dataclass(frozen=True)
class Scores:
    """Uncertainty of n answers; arrays have shape (n,) and are float64.

    Attributes:
        objective: what was differentiated; "mean_probability" is the paper's.
        params: which weights count.
        model_name: where the model was loaded from.
        by_parameter: squared gradient norms, one row an answer, one column a weight tensor that
            counts; nought where no float can hold it.
        log_epistemic: logarithm of the epistemic score, in nats, however small that is: the norm
            of a joint probability may be e⁻¹⁰⁰⁰. -inf for a norm of nought.
        token_probabilities: p_t of each answer's tokens.
        aleatoric: (1/T) Σ_t p_t (1 − p_t), §3.4.
        mean_log_probability: (1/T) Σ_t log p_t, in nats.
        examples: prompts and answers as token ids.
        weights_read: the model, for breakdowns by token and its weights; None if it was let go.
        tokenizer: its tokenizer.
    """

    objective: str
    params: str
    model_name: str
    by_parameter: pd.DataFrame
    log_epistemic: np.ndarray
    token_probabilities: list[np.ndarray]
    aleatoric: np.ndarray
    mean_log_probability: np.ndarray
    examples: Sequence[Example]
    weights_read: Weights | None = field(repr=False, default=None)
    tokenizer: Any = field(repr=False, default=None)

    def __len__(self) -> int:
        return len(self.examples)

    @cached_property
    def epistemic(self) -> np.ndarray:
        """‖∇_θ p̄‖², Eq. (10) with Σ = I; or of the other objective."""
        return self.by_parameter.to_numpy().sum(1)

    @cached_property
    def mean_probability(self) -> np.ndarray:
        """p̄ = (1/T) Σ_t p_t, Eq. (9)."""
        return np.array([p.mean() for p in self.token_probabilities])

    @cached_property
    def length(self) -> np.ndarray:
        """T, the number of tokens that count."""
        return np.array([len(p) for p in self.token_probabilities])

    @property
    def length_free(self) -> np.ndarray:
        """T ‖∇p̄‖²: without cross terms it is the average of the tokens' norms, at any length."""
        return self.length * self.epistemic

    @property
    def relative(self) -> np.ndarray:
        """‖∇p̄‖² / ‖θ‖², the paper's normalisation (Appendix G.9).

        It changes by c⁴ where the same function is written with θ / c for θ.
        """
        return self.epistemic / self.squared_weight_norm

    @property
    def scale_free(self) -> np.ndarray:
        """‖∇p̄‖² ‖θ‖², which does not change where the same function is written with θ / c."""
        return self.epistemic * self.squared_weight_norm

    @property
    def scale_free_per_weight(self) -> np.ndarray:
        """‖∇p̄‖² ‖θ‖² / P, the same over the number of weights that count."""
        return self.scale_free / self.weights

    @property
    def squared_weight_norm(self) -> float:
        """‖θ‖² of the weights that count, dequantised."""
        return sum(self.weight_norms[name][0] for name in self._names)

    @property
    def weights(self) -> int:
        """P, the number of weights that count."""
        return sum(self.weight_norms[name][1] for name in self._names)

    @property
    def _names(self) -> list[str]:
        return [str(name) for name in self.by_parameter]

    @property
    def weight_norms(self) -> dict[str, tuple[float, int]]:
        """‖θ_j‖², dequantised, and the number of entries of every weight tensor j, by name.

        Raises:
            ScoreError: the model has changed since it was scored.
            ValueError: the model was let go.
        """
        return self._read().squared_norms

    @property
    def fingerprint(self) -> str:
        """Tells the scored model from others, and from itself in another precision."""
        return self._read().fingerprint

    def to_frame(self) -> pd.DataFrame:
        """One row an answer: the scores, their normalised variants, and the answer's text."""
        frame = pd.DataFrame(
            {
                "length": self.length,
                "mean_probability": self.mean_probability,
                "mean_log_probability": self.mean_log_probability,
                "aleatoric": self.aleatoric,
                "epistemic": self.epistemic,
                "log_epistemic": self.log_epistemic,
                "length_free": self.length_free,
                "relative": self.relative,
                "scale_free": self.scale_free,
                "scale_free_per_weight": self.scale_free_per_weight,
            }
        )
        if self.tokenizer is not None:
            frame.insert(0, "answer", [self.tokenizer.decode(e.answer) for e in self.examples])
        return frame

    def by_module(self, by: Grouping = "module") -> pd.DataFrame:
        """The epistemic score split over the weights: rows sum to it.

        Args:
            by: "module", "layer" (blocks, and what stands outside them), "kind" (q_proj, …) or
                "parameter".

        Returns:
            One row an answer, one column a group, in the model's order.
        """
        groups = [group(name, by) for name in self._names]
        order = list(dict.fromkeys(groups))
        return self.by_parameter.T.groupby(groups).sum().T[order]

    def by_token(self, i: int) -> pd.DataFrame:
        """Answer i token by token, from T + 1 further backward passes; see `tokens.by_token`.

        Args:
            i: the answer's number.

        Raises:
            IndexError: there is no such answer.
            ValueError: the objective is not the mean probability, the model was let go, or has
                changed since it was scored.
        """
        if not -len(self) <= i < len(self):
            raise IndexError(f"i: there are {len(self)} answers, so none has the number {i}.")
        if self.objective != "mean_probability":
            raise ValueError(
                f"objective: {self.objective!r} is not split by token; score the answers with "
                "objective='mean_probability'."
            )
        read = self._read()
        with exclusive(read.model):
            read.demand_unchanged()
            names = set(self._names)
            return tokens.by_token(read.model, self.tokenizer, self.examples[i], names)

    def _read(self) -> Weights:
        if self.weights_read is None:
            raise ValueError("model: these scores have none; score the answers anew.")
        return self.weights_read
