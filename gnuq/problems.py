"""The synthetic problems of §4.1: seeded data on which a posterior can be sampled in full.

The paper names its problems but gives neither equations nor sizes (Appendix F.1); the shapes
below are ours. The binary ones are symmetric under a reflection of the second coordinate, as
Appendix A demands. Problems of several classes come with three, as the text says, and with four,
as Tables 7 and 8 list them; regression comes with and without a gap in the inputs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
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
    """A regular grid over the inputs, the first coordinate running fastest.

    Attributes:
        axes: the coordinates along each dimension, each of shape (resolution,).
        points: all combinations, shape (resolution ** dimensions, dimensions).
    """

    axes: tuple[Float[Tensor, " resolution"], ...]
    points: Float[Tensor, "grid dimensions"]

    def inside(self, problem: Problem, share: float = 0.9) -> Bool[Tensor, " grid"]:
        """Which grid points lie in the inner `share` of the data's extent, in every coordinate."""
        low, high = problem.inputs.amin(0), problem.inputs.amax(0)
        centre, half = (low + high) / 2, share * (high - low) / 2
        return ((self.points - centre).abs() <= half).all(1)

    def every(self, stride: int) -> Bool[Tensor, " grid"]:
        """Which grid points lie on every `stride`-th grid line of each dimension."""
        sides = [torch.arange(len(axis)) % stride == 0 for axis in reversed(self.axes)]
        crossed = torch.meshgrid(*sides, indexing="ij")
        return torch.stack(crossed).all(0).reshape(-1)


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


def _clusters(
    points: int, noise: float, rng: np.random.Generator, classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """One Gaussian cloud a class, centred on a circle of radius 2."""
    cluster = np.arange(points) % classes
    angle = np.pi * (2 * cluster + 1) / classes
    centres = 2 * np.stack([np.cos(angle), np.sin(angle)], 1)
    return centres + noise * rng.normal(size=(points, 2)), cluster.astype(np.int64)


def _spirals(
    points: int, noise: float, rng: np.random.Generator, classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Interleaved arms, one a class: three quarters of a turn from radius 0.4 to 2."""
    arm = np.arange(points) % classes
    way = rng.uniform(size=points)
    angle = 2 * np.pi * (arm / classes + 0.75 * way)
    circle = np.stack([np.cos(angle), np.sin(angle)], 1) * (0.4 + 1.6 * way)[:, None]
    return circle + noise * rng.normal(size=(points, 2)), arm.astype(np.int64)


def _line(points: int, noise: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Y = ½ + x plus Gaussian noise, x uniform on [−2, 2]."""
    x = rng.uniform(-2, 2, size=points)
    return x[:, None], 0.5 + x + noise * rng.normal(size=points)


def _wave(points: int, noise: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Y = sin 2x + x/3 plus Gaussian noise, x uniform on [−2, 2]."""
    x = rng.uniform(-2, 2, size=points)
    return x[:, None], np.sin(2 * x) + x / 3 + noise * rng.normal(size=points)


#: Half the width of the stretch around 0 that regression with a gap leaves without data.
GAP = 0.7


def _with_gap(draw: Draw) -> Draw:
    """The same problem without inputs in the middle, |x| < `GAP`; as many points."""

    def drawn(points: int, noise: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        inputs, targets = draw(4 * points + 40, noise, rng)
        kept = np.flatnonzero(np.abs(inputs[:, 0]) >= GAP)[:points]
        return inputs[kept], targets[kept]

    return drawn


#: Half the angle of the sector, around the first axis, that the rings with a gap leave empty.
SECTOR = np.pi / 4


def _with_sector(draw: Draw) -> Draw:
    """The same problem without inputs in one sector, |angle| < `SECTOR`; as many points."""

    def drawn(points: int, noise: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        inputs, targets = draw(4 * points + 40, noise, rng)
        angle = np.arctan2(inputs[:, 1], inputs[:, 0])
        kept = np.flatnonzero(np.abs(angle) >= SECTOR)[:points]
        return inputs[kept], targets[kept]

    return drawn


@dataclass(frozen=True)
class _Recipe:
    task: Task
    classes: int
    noise: float
    draw: Draw


def _several(draw: Callable, classes: int, noise: float) -> _Recipe:
    return _Recipe("multiclass", classes, noise, partial(draw, classes=classes))


PROBLEMS: dict[str, _Recipe] = {
    "linear": _Recipe("binary", 2, 0.25, _linear),
    "xor": _Recipe("binary", 2, 0.4, _xor),
    "rings": _Recipe("binary", 2, 0.25, _rings),
    "clusters-3": _several(_clusters, 3, 0.6),
    "clusters-4": _several(_clusters, 4, 0.6),
    "spirals-3": _several(_spirals, 3, 0.12),
    "spirals-4": _several(_spirals, 4, 0.12),
    "rings-3": _several(_rings, 3, 0.25),
    "rings-4": _several(_rings, 4, 0.25),
    "rings-4-gap": _Recipe("multiclass", 4, 0.25, _with_sector(partial(_rings, classes=4))),
    "line": _Recipe("regression", 1, 0.3, _line),
    "line-gap": _Recipe("regression", 1, 0.3, _with_gap(_line)),
    "wave": _Recipe("regression", 1, 0.2, _wave),
    "wave-gap": _Recipe("regression", 1, 0.2, _with_gap(_wave)),
}


def make_problem(
    name: str, *, points: int = 400, noise: float | None = None, seed: int = 0
) -> Problem:
    """Draw the data of one problem.

    Args:
        name: a key of `PROBLEMS`.
        points: number of training points, at least 4.
        noise: noise level; the problem's own if omitted. It is a standard deviation, of the
            inputs in classification and of the targets in regression; for `linear` it is the
            inverse slope of the true logit.
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
    """A regular grid that reaches `margin` of the data's extent beyond the data on each side.

    Args:
        problem: a problem with one or two input dimensions.
        resolution: points per side.
        margin: share of the extent added on each side; negative values stay inside the data.

    Raises:
        ValueError: the problem has more than two dimensions, or `resolution` is below 2.
    """
    if problem.inputs.shape[1] > 2:
        raise ValueError(f"problem: {problem.name!r} has {problem.inputs.shape[1]} inputs, not 2.")
    if resolution < 2:
        raise ValueError(f"resolution: {resolution} is below 2.")
    low, high = problem.inputs.amin(0), problem.inputs.amax(0)
    low, high = low - margin * (high - low), high + margin * (high - low)
    axes = tuple(
        torch.linspace(float(a), float(b), resolution, dtype=torch.float64)
        for a, b in zip(low, high, strict=True)
    )
    coordinates = torch.meshgrid(*reversed(axes), indexing="ij")  # the last axis varies fastest
    return Grid(axes, torch.stack([c.reshape(-1) for c in reversed(coordinates)], 1))
