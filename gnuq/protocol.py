"""The settings of the validation (§4.1, Appendix F), frozen before the runs that the book shows.

The paper's text leaves the prior, the noise, the number of points and the grid open, and each
moves the answer. So they are fixed here, once: one primary setting, and secondary ones that are
always reported beside it. Exploratory trials came before (the chapter says which); none of the
values was chosen to match a number of the paper.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from gnuq.networks import Architecture, Prior
from gnuq.posteriors.settings import HMC
from gnuq.problems import PROBLEMS, Grid, Problem, Task, make_grid, make_problem

POINTS = 400
DATA_SEEDS = (0, 1, 2, 3, 4)
#: Data seeds of four classes and of regression under the secondary priors.
FEW_SEEDS = DATA_SEEDS[:3]
MAP_SEEDS = (0, 1, 2)
#: Grid points per side, by the number of input dimensions.
RESOLUTION = {1: 400, 2: 100}
MARGIN = 0.12
INSIDE = 0.9
SAMPLER = HMC()
#: Names of the results that hold the correlations, and the constants, of all experiments.
VALIDATION = "validation"
CALIBRATION = "calibration"
#: Names of the results that hold the comparison of all methods, and what each costs.
METHODS = "methods"
COSTS = "method-costs"
#: Problems on which costs are measured.
COSTED = ("xor", "rings-4", "wave")

#: Hidden layers of each problem's network: those of Appendix A (two layers of 32) and of
#: Appendix F (one layer, 97 parameters); none where a linear model is meant.
HIDDEN: dict[str, tuple[int, ...]] = {
    "linear": (),
    "xor": (32, 32),
    "rings": (32, 32),
    "clusters-4": (),
    "spirals-4": (32, 32),
    "rings-4": (32, 32),
    "clusters-3": (),
    "spirals-3": (32, 32),
    "rings-3": (32, 32),
    "line": (),
    "wave": (32,),
    "line-gap": (),
    "wave-gap": (32,),
}

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
        problem = self.problem
        return Architecture(problem.inputs.shape[1], HIDDEN[problem.name], problem.outputs)

    @property
    def prior(self) -> Prior:
        """The prior over the weights."""
        return PRIORS[self.prior_name]

    @property
    def grid(self) -> Grid:
        """The grid on which every method is compared."""
        problem = self.problem
        dimensions = problem.inputs.shape[1]
        return make_grid(problem, resolution=RESOLUTION[dimensions], margin=MARGIN)

    @property
    def record(self) -> str:
        """Name of the record that holds the posterior's moments on the grid."""
        return f"hmc/{self.problem_name}/{self.prior_name}/seed-{self.seed}"


def planned(experiment: Experiment) -> bool:
    """Whether the validation includes an experiment.

    All problems meet the primary prior on all data seeds. The secondary priors are met by the
    binary problems on all, by four classes and regression on `FEW_SEEDS`, and by three classes,
    which only the paper's text mentions, not at all.
    """
    if experiment.prior_name == PRIMARY or PROBLEMS[experiment.problem_name].task == "binary":
        return True
    return experiment.seed in FEW_SEEDS and not experiment.problem_name.endswith("-3")


def experiments(*tasks: Task) -> list[Experiment]:
    """All that are planned, the primary setting first.

    Args:
        tasks: keep the problems of these tasks only; all if none is given.
    """
    everything = (
        Experiment(problem, prior, seed)
        for prior in PRIORS
        for seed in DATA_SEEDS
        for problem in HIDDEN
    )
    kept = tasks or get_args(Task)
    return [e for e in everything if planned(e) and PROBLEMS[e.problem_name].task in kept]
