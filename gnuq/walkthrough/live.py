"""What the explorer shows: every estimate of one network at its mode.

Pure functions of frozen settings, cached: a control that is moved back costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import pandas as pd
from torch import Tensor

from gnuq.estimators import aleatoric, epistemic, predictions_from
from gnuq.networks import Architecture, MapFit, Prior, fit_map
from gnuq.posteriors.laplace import DualLaplace, full_laplace
from gnuq.posteriors.methods import LINKS
from gnuq.posteriors.predictive import linearised_predictive, output_covariance
from gnuq.problems import PROBLEMS, Grid, Problem, Task, make_grid, make_problem
from gnuq.protocol import MARGIN

WIDTHS = (0, 4, 8, 16, 32, 64)
MOST_POINTS = 400
#: Grid points per side by input dimensions: of the method's map, and of the sampled one.
FINE = {1: 200, 2: 50}
COARSE = {1: 60, 2: 20}
#: L-BFGS may stop earlier than in the validation. At width 32, λ from 0.1 to 5, 200 points, this
#: moved no map by more than 3 % of its maximum, mostly far less, and halves the wait.
TOLERANCE = 0.1
MAX_ITERATIONS = 6_000
#: Predictions that differ by less over the whole grid are those of the zero network.
FLAT = 1e-3
METHODS: dict[Task, tuple[str, ...]] = {
    "binary": ("gradient_norm", "bernoulli", "laplace_epistemic", "linearised_epistemic"),
    "multiclass": ("gradient_norm", "bernoulli", "laplace_epistemic"),
    "regression": ("gradient_norm", "laplace_epistemic"),
}


@dataclass(frozen=True)
class Settings:
    """One network on one problem: all that decides its mode and its posterior.

    Attributes:
        problem_name: a key of `gnuq.problems.PROBLEMS`.
        width: units of each hidden layer, two in classification and one in regression as in
            Appendix F; 0 for a linear model.
        prior_precision: λ.
        prior_scaling: as `gnuq.networks.Prior` takes it.
        noise: noise level of the data; the problem's own if None.
        points: number of training points.
        data_seed: seed of the data.
        start: seed of the weights from which training starts.
    """

    problem_name: str = "xor"
    width: int = 32
    prior_precision: float = 1.0
    prior_scaling: Literal["unit", "fan_in"] = "unit"
    noise: float | None = None
    points: int = 200
    data_seed: int = 0
    start: int = 0

    def __post_init__(self) -> None:
        if self.problem_name not in PROBLEMS:
            raise ValueError(f"problem_name: {self.problem_name!r}; one of {', '.join(PROBLEMS)}.")
        if not 0 <= self.width <= WIDTHS[-1]:
            raise ValueError(f"width: {self.width}; give 0 (a linear model) to {WIDTHS[-1]}.")
        if not 4 <= self.points <= MOST_POINTS:
            raise ValueError(f"points: {self.points}; give 4 to {MOST_POINTS}, to stay live.")
        if self.noise is not None and not (np.isfinite(self.noise) and self.noise > 0):
            raise ValueError(f"noise: {self.noise} is not a positive number.")
        Prior(self.prior_precision, self.prior_scaling)  # raises on a bad one

    @property
    def task(self) -> Task:
        """What the targets are."""
        return PROBLEMS[self.problem_name].task

    @property
    def problem(self) -> Problem:
        """The data."""
        return make_problem(
            self.problem_name, points=self.points, noise=self.noise, seed=self.data_seed
        )

    @property
    def architecture(self) -> Architecture:
        """The network."""
        layers = (1 if self.task == "regression" else 2) if self.width else 0
        problem = self.problem
        return Architecture(problem.inputs.shape[1], (self.width,) * layers, problem.outputs)

    @property
    def prior(self) -> Prior:
        """The prior over the weights."""
        return Prior(self.prior_precision, self.prior_scaling)

    def grid(self, *, coarse: bool = False) -> Grid:
        """Where the maps are evaluated: the validation's extent with fewer points."""
        problem = self.problem
        resolution = (COARSE if coarse else FINE)[problem.inputs.shape[1]]
        return make_grid(problem, resolution=resolution, margin=MARGIN)


@lru_cache(maxsize=8)
def fitted(settings: Settings) -> tuple[MapFit, DualLaplace]:
    """The network at its mode, and the Laplace approximation there.

    Raises:
        RuntimeError: L-BFGS needs more than `MAX_ITERATIONS` steps.
    """
    problem, prior, architecture = settings.problem, settings.prior, settings.architecture
    fit = fit_map(
        architecture,
        problem,
        prior,
        seed=settings.start,
        gradient_tolerance=TOLERANCE if architecture.hidden else 1e-4,  # convex: a few steps
        max_iterations=MAX_ITERATIONS,
    )
    return fit, full_laplace(fit, problem, prior)


@lru_cache(maxsize=64)
def estimates(settings: Settings, output: int = 0, *, coarse: bool = False) -> pd.DataFrame:
    """Every method on the grid, for one output.

    Args:
        settings: network and problem.
        output: the class in multiclass problems; else 0, for P(class 1) or the value.
        coarse: on the grid of the sampled posterior.

    Returns:
        One row per grid point, the first coordinate fastest: x, y (in the plane), inside,
        prediction, and the columns that `METHODS` names. Cached: do not write into it.

    Raises:
        ValueError: an output that the network lacks.
        RuntimeError: as `fitted`.
    """
    problem, grid = settings.problem, settings.grid(coarse=coarse)
    if not 0 <= output < problem.outputs:
        raise ValueError(f"output: {output}; this network has 0 … {problem.outputs - 1}.")
    fit, curved = fitted(settings)
    chosen = output if problem.task == "multiclass" else None
    norms = epistemic(fit.network, grid.points, link=LINKS[problem.task], classes=chosen)
    columns = dict(zip("xy", grid.points.T, strict=False))
    columns |= {"inside": grid.inside(problem), "prediction": norms.values}
    columns["gradient_norm"] = norms.total
    columns["laplace_epistemic"] = curved.variance(grid.points, _prediction(problem, output))
    if problem.task != "regression":
        columns["bernoulli"] = aleatoric(norms)
    if problem.task == "binary":
        spread = output_covariance(curved, grid.points)
        linear = linearised_predictive(fit.network(grid.points), spread, problem)
        columns["linearised_epistemic"] = linear.epistemic[:, 0]
    return pd.DataFrame({name: values.numpy() for name, values in columns.items()})


def is_flat(frame: pd.DataFrame) -> bool:
    """Whether the mode predicts the same everywhere, so that its maps say nothing."""
    return bool(np.ptp(frame["prediction"]) < FLAT)


def _prediction(problem: Problem, output: int) -> Callable[[Tensor], Tensor]:
    """The network's outputs to the one prediction whose variance is wanted."""

    def prediction(outputs: Tensor) -> Tensor:
        predictions = predictions_from(outputs, LINKS[problem.task])
        return predictions[:, output] if problem.task == "multiclass" else predictions

    return prediction
