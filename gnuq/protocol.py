"""The settings of the validation (§4.1, Appendix F), frozen before the runs that the book shows.

The paper's text leaves the prior, the noise, the number of points and the grid open, and each
moves the answer. So they are fixed here, once: one primary setting, and secondary ones that are
always reported beside it. Exploratory trials came before (the chapter says which); none of the
values was chosen to match a number of the paper.
"""

from __future__ import annotations

from dataclasses import dataclass

from gnuq.networks import Architecture, Prior
from gnuq.posteriors.settings import HMC
from gnuq.problems import Grid, Problem, make_grid, make_problem

POINTS = 400
DATA_SEEDS = (0, 1, 2, 3, 4)
MAP_SEEDS = (0, 1, 2)
RESOLUTION = 100
MARGIN = 0.12
INSIDE = 0.9
SAMPLER = HMC()
#: Name of the result that holds the correlations of all experiments.
VALIDATION = "validation-binary"

#: Hidden layers of each problem's network: Appendix A's 1 185 parameters, or logistic regression.
HIDDEN = {"linear": (), "xor": (32, 32), "rings": (32, 32)}

PRIMARY = "unit-1"
#: Primary first. 2.25 / fan-in is the variance at which tanh units neither saturate nor vanish.
PRIORS = {
    PRIMARY: Prior(1.0),
    "unit-0.1": Prior(0.1),
    "unit-5": Prior(5.0),
    "fan-in": Prior(1 / 2.25, "fan_in"),
}
PRIOR_LABELS = {
    PRIMARY: "N(0, 1), primary",
    "unit-0.1": "N(0, 10)",
    "unit-5": "N(0, 1/5)",
    "fan-in": "N(0, 2.25 / fan-in)",
}
#: Shorter ones, for the ticks of an axis.
PRIOR_TICKS = {PRIMARY: "λ = 1", "unit-0.1": "λ = 0.1", "unit-5": "λ = 5", "fan-in": "fan-in"}


@dataclass(frozen=True)
class Experiment:
    """One posterior: a problem drawn with one seed, under one prior.

    Attributes:
        problem_name: a key of `HIDDEN`.
        prior_name: a key of `PRIORS`.
        seed: the data seed.
    """

    problem_name: str
    prior_name: str = PRIMARY
    seed: int = 0

    def __post_init__(self) -> None:
        if self.problem_name not in HIDDEN:
            raise ValueError(f"problem_name: {self.problem_name!r}; one of {', '.join(HIDDEN)}.")
        if self.prior_name not in PRIORS:
            raise ValueError(f"prior_name: {self.prior_name!r}; one of {', '.join(PRIORS)}.")

    @property
    def problem(self) -> Problem:
        """The data."""
        return make_problem(self.problem_name, points=POINTS, seed=self.seed)

    @property
    def architecture(self) -> Architecture:
        """The network."""
        return Architecture(2, HIDDEN[self.problem_name], self.problem.outputs)

    @property
    def prior(self) -> Prior:
        """The prior over the weights."""
        return PRIORS[self.prior_name]

    @property
    def grid(self) -> Grid:
        """The grid on which every method is compared."""
        return make_grid(self.problem, resolution=RESOLUTION, margin=MARGIN)

    @property
    def record(self) -> str:
        """Name of the record that holds the posterior's moments on the grid."""
        return f"hmc/{self.problem_name}/{self.prior_name}/seed-{self.seed}"


def experiments() -> list[Experiment]:
    """All of them, the primary setting first."""
    return [
        Experiment(problem, prior, seed)
        for prior in PRIORS
        for seed in DATA_SEEDS
        for problem in HIDDEN
    ]
