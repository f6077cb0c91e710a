"""The synthetic problems of §4.1: seeded data on which a posterior can be sampled in full.

The paper names its problems but gives neither equations nor sizes (Appendix F.1); the shapes
below are ours. Every problem is symmetric under a reflection of the second coordinate, as
Appendix A demands of its three.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

Task = Literal["binary", "multiclass", "regression"]


@dataclass(frozen=True)
class Problem:
    """A data set with the task that it poses.

    Attributes:
        name: the problem's name in `PROBLEMS`.
        task: what the targets are; it decides the likelihood and the network's output.
        inputs: training inputs, shape (points, dimensions), float64.
        targets: class indices (int64) or, in regression, values (float64), shape (points,).
        classes: number of classes; 1 for regression.
        noise: the noise level that the data were drawn with, in the units of the generator.
        seed: the seed that the data were drawn with.
    """

    name: str
    task: Task
    inputs: Float[Tensor, "points dimensions"]
    targets: Shaped[Tensor, " points"]
    classes: int
    noise: float
    seed: int

    @property
    def outputs(self) -> int:
        """Outputs of a network for this task: one logit for two classes, else one a class."""
        return self.classes if self.task == "multiclass" else 1


@dataclass(frozen=True)
class Grid:
    """A regular grid over the plane, in row-major order (the second coordinate runs slowest).

    Attributes:
        x: first coordinates, shape (resolution,).
        y: second coordinates, shape (resolution,).
        points: all pairs, shape (resolution², 2).
    """

    x: Float[Tensor, " resolution"]
    y: Float[Tensor, " resolution"]
    points: Float[Tensor, "grid 2"]

    def inside(self, problem: Problem, share: float = 0.9) -> Bool[Tensor, " grid"]:
        """Which grid points lie in the inner `share` of the data's extent, in every coordinate."""
        low, high = problem.inputs.amin(0), problem.inputs.amax(0)
        centre, half = (low + high) / 2, share * (high - low) / 2
        return ((self.points - centre).abs() <= half).all(1)


Draw = Callable[[int, float, np.random.Generator], tuple[np.ndarray, np.ndarray]]


def _linear(points: int, noise: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Uniform inputs; P(y = 1) = σ(x₁ / noise), so that logistic regression is well specified."""
    inputs = rng.uniform(-2, 2, size=(points, 2))
    return inputs, (inputs[:, 0] + noise * rng.logistic(size=points) > 0).astype(np.int64)


def _xor(points: int, noise: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Gaussian clouds at (±1, ±1); the class is whether the two signs agree."""
    corner = np.arange(points) % 4
    centres = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]])[corner]
    return centres + noise * rng.normal(size=(points, 2)), (corner % 2 == 0).astype(np.int64)


def _rings(
    points: int, noise: float, rng: np.random.Generator, classes: int = 2
) -> tuple[np.ndarray, np.ndarray]:
    """Concentric rings of radius 1, 2, …, one a class, blurred by Gaussian noise."""
    ring = np.arange(points) % classes
    angle = rng.uniform(0, 2 * np.pi, size=points)
    circle = np.stack([np.cos(angle), np.sin(angle)], 1) * (1 + ring)[:, None]
    return circle + noise * rng.normal(size=(points, 2)), ring.astype(np.int64)


@dataclass(frozen=True)
class _Recipe:
    task: Task
    classes: int
    noise: float
    draw: Draw


PROBLEMS: dict[str, _Recipe] = {
    "linear": _Recipe("binary", 2, 0.25, _linear),
    "xor": _Recipe("binary", 2, 0.4, _xor),
    "rings": _Recipe("binary", 2, 0.25, _rings),
}


def make_problem(
    name: str, *, points: int = 400, noise: float | None = None, seed: int = 0
) -> Problem:
    """Draw the data of one problem.

    Args:
        name: a key of `PROBLEMS`.
        points: number of training points, at least 4.
        noise: noise level; the problem's own if omitted. Its unit is the plane's for `xor` and
            `rings` (standard deviation) and the logit's inverse slope for `linear`.
        seed: seed of the NumPy generator that draws everything.

    Raises:
        ValueError: unknown name, fewer than 4 points, or a noise level that is not positive.
    """
    if name not in PROBLEMS:
        raise ValueError(f"name: no problem {name!r}; choose one of {', '.join(PROBLEMS)}.")
    if points < 4:
        raise ValueError(f"points: {points} is too few; give at least 4.")
    recipe = PROBLEMS[name]
    level = recipe.noise if noise is None else noise
    if not (np.isfinite(level) and level > 0):
        raise ValueError(f"noise: {level} is not a positive number.")
    inputs, targets = recipe.draw(points, level, np.random.default_rng(seed))
    return Problem(
        name=name,
        task=recipe.task,
        inputs=torch.from_numpy(inputs),
        targets=torch.from_numpy(targets),
        classes=recipe.classes,
        noise=level,
        seed=seed,
    )


def make_grid(problem: Problem, *, resolution: int = 100, margin: float = 0.12) -> Grid:
    """A square grid that reaches `margin` of the data's extent beyond the data on each side.

    Args:
        problem: a problem with two input dimensions.
        resolution: points per side.
        margin: share of the extent added on each side; negative values stay inside the data.

    Raises:
        ValueError: the problem is not two-dimensional, or `resolution` is below 2.
    """
    if problem.inputs.shape[1] != 2:
        raise ValueError(f"problem: {problem.name!r} has {problem.inputs.shape[1]} inputs, not 2.")
    if resolution < 2:
        raise ValueError(f"resolution: {resolution} is below 2.")
    low, high = problem.inputs.amin(0), problem.inputs.amax(0)
    low, high = low - margin * (high - low), high + margin * (high - low)
    x, y = (
        torch.linspace(float(a), float(b), resolution, dtype=torch.float64)
        for a, b in zip(low, high, strict=True)
    )
    rows, columns = torch.meshgrid(y, x, indexing="ij")
    return Grid(x, y, torch.stack([columns.reshape(-1), rows.reshape(-1)], 1))
