"""What is differentiated: one scalar, or one per token, from the probabilities of an answer.

p_t = p(y_t | y_<t, x), t = 1…T. The paper's objective is p̄ = (1/T) Σ_t p_t, Eq. (9). The others
stand beside it for comparison; none of them has a unit but the logarithms, in nats.
"""

from __future__ import annotations

from collections.abc import Callable

from jaxtyping import Bool, Float
from torch import Tensor

from gnuq.estimators import mean_probability
from gnuq.scoring.examples import ScoreError

LogProbabilities = Float[Tensor, "batch tokens"]
Mask = Bool[Tensor, "batch tokens"]


def average(log_probabilities: LogProbabilities, mask: Mask) -> Float[Tensor, " batch"]:
    """p̄ = (1/T) Σ_t p_t, Eq. (9), §3.4."""
    return mean_probability(log_probabilities.exp(), mask)


def average_log(log_probabilities: LogProbabilities, mask: Mask) -> Float[Tensor, " batch"]:
    """(1/T) Σ_t log p_t, minus the cross-entropy per token, in nats."""
    return mean_probability(log_probabilities, mask)


def each(log_probabilities: LogProbabilities, mask: Mask) -> Float[Tensor, "batch tokens"]:
    """p_t itself, one objective a token, nought where there is none."""
    return log_probabilities.exp() * mask


#: By name: the function, and whether its norms are averaged over the answer's tokens.
OBJECTIVES: dict[str, tuple[Callable[[LogProbabilities, Mask], Tensor], bool]] = {
    "mean_probability": (average, False),
    "mean_log_probability": (average_log, False),
    # ∇Π_t p_t = (Π_t p_t) T ∇(mean log p), so one pass serves both; the factor may be 1e-100.
    "joint_probability": (average_log, False),
    "token_average": (each, True),
}


def check(name: str) -> None:
    """Refuse an objective that there is not.

    Raises:
        ScoreError: unknown; the message lists them.
    """
    if name not in OBJECTIVES:
        raise ScoreError(f"objective: {name!r} is none of {', '.join(OBJECTIVES)}.")
