"""Dual averaging of one step size, and the small steps that lead away from the prior."""

from __future__ import annotations

import math
from dataclasses import dataclass

#: From a draw of the prior the gradients are at their largest: first come short trajectories of
#: small steps, `STAGE_TRANSITIONS` of each size.
STAGES = (0.005, 0.01, 0.02)
STAGE_TRANSITIONS = 10
STAGE_STEPS = 25
#: Staged transitions in all.
STAGED = len(STAGES) * STAGE_TRANSITIONS


def staged(index: int) -> float:
    """The step size of a chain's staged transition, of which there are `STAGED`.

    Args:
        index: from 0.
    """
    return STAGES[index // STAGE_TRANSITIONS]


@dataclass
class DualAveraging:
    """The state of Nesterov's dual averaging, as Hoffman and Gelman use it.

    Attributes:
        target: the acceptance rate aimed at.
        start: the first step size; the iterates are drawn towards ten times it.
        count: updates so far.
        error: H̄, the running mean of target − acceptance.
        log_size: log ε, the iterate.
        log_mean: the weighted mean of the iterates.

    Source:
        Hoffman and Gelman (2014), Eq. (6), with their constants.
    """

    target: float
    start: float
    count: int = 0
    error: float = 0.0
    log_size: float = math.nan
    log_mean: float = 0.0

    def __post_init__(self) -> None:
        self.log_size = math.log(self.start)

    def update(self, acceptance: float) -> None:
        """Take in the mean acceptance rate of a transition of all chains."""
        shrinkage, delay, decay = 0.05, 10, 0.75
        self.count += 1
        weight = 1 / (self.count + delay)
        self.error += weight * (self.target - acceptance - self.error)
        self.log_size = math.log(10 * self.start) - self.count**0.5 / shrinkage * self.error
        share = self.count**-decay
        self.log_mean += share * (self.log_size - self.log_mean)

    @property
    def size(self) -> float:
        """The step size of the next transition."""
        return math.exp(self.log_size)

    @property
    def final(self) -> float:
        """The step size that was found."""
        return math.exp(self.log_mean)
