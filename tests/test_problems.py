"""The problems are seeded, symmetric as Appendix A demands, and refuse nonsense."""

from __future__ import annotations

import math

import pytest
import torch

from gnuq.problems import GAP, PROBLEMS, make_grid, make_problem

BINARY = [name for name, recipe in PROBLEMS.items() if recipe.task == "binary"]
SEVERAL = [name for name, recipe in PROBLEMS.items() if recipe.task == "multiclass"]


@pytest.mark.parametrize("name", PROBLEMS)
def test_a_seed_fixes_the_data_and_another_changes_them(name: str) -> None:
    first, again, other = (make_problem(name, points=50, seed=s) for s in (1, 1, 2))
    assert torch.equal(first.inputs, again.inputs)
    assert torch.equal(first.targets, again.targets)
    assert not torch.equal(first.inputs, other.inputs)
    assert len(first.inputs) == len(first.targets) == 50
    if first.task != "regression":
        assert set(first.targets.tolist()) == set(range(first.classes))


@pytest.mark.parametrize("name", BINARY)
def test_top_and_bottom_look_alike(name: str) -> None:
    """Each half holds half of the points and half of each class, within five deviations.

    The mean of the targets in either half differs by sampling noise only; for XOR the class is
    decided by both signs, so the halves agree in the share of each class, not in its place.
    """
    problem = make_problem(name, points=4000, seed=0)
    top = problem.inputs[:, 1] > 0
    assert abs(top.double().mean() - 0.5) < 5 * 0.5 / 4000**0.5
    shares = [problem.targets[half].double().mean() for half in (top, ~top)]
    assert abs(shares[0] - shares[1]) < 5 * (0.25 / 2000 * 2) ** 0.5


@pytest.mark.parametrize("name", SEVERAL)
def test_a_turn_by_one_class_is_a_symmetry_of_the_classes(name: str) -> None:
    """Clusters and arms turn into each other; rings keep their radius at every angle."""
    problem = make_problem(name, points=4000, noise=1e-9, seed=0)
    angle = torch.atan2(problem.inputs[:, 1], problem.inputs[:, 0])
    radius = problem.inputs.norm(dim=1)
    if name.startswith("rings"):
        torch.testing.assert_close(radius, 1.0 + problem.targets, rtol=0, atol=1e-7)
        return
    way = (radius - 0.4) / 1.6 if name.startswith("spirals") else torch.zeros_like(radius)
    start = 0.0 if name.startswith("spirals") else math.pi / problem.classes
    turned = angle - 2 * math.pi * (0.75 * way + problem.targets / problem.classes) - start
    torch.testing.assert_close(torch.cos(turned), torch.ones_like(angle), rtol=0, atol=1e-7)


MEANS = {"line": lambda x: 0.5 + x, "wave": lambda x: torch.sin(2 * x) + x / 3}


@pytest.mark.parametrize(("name", "mean"), MEANS.items())
def test_regression_scatters_about_its_function_and_the_gap_is_empty(name: str, mean) -> None:
    for variant in (name, f"{name}-gap"):
        problem = make_problem(variant, points=4000, seed=2)
        x = problem.inputs[:, 0]
        residual = (problem.targets - mean(x)) / problem.noise
        assert abs(residual.mean()) < 5 / 4000**0.5
        assert abs(residual.square().mean() - 1) < 5 * (2 / 4000) ** 0.5
        assert bool((x.abs() < GAP).any()) != variant.endswith("gap")
        assert x.abs().max() <= 2


def test_linear_labels_follow_the_logistic_model() -> None:
    problem = make_problem("linear", points=50_000, noise=0.5)
    near = (problem.inputs[:, 0] - 0.4).abs() < 0.05
    expected = torch.sigmoid(torch.tensor(0.4 / 0.5))
    share = problem.targets[near].double().mean()
    assert abs(share - expected) < 5 * (0.25 / int(near.sum())) ** 0.5


def test_the_grid_covers_the_data_and_a_margin() -> None:
    problem = make_problem("rings", seed=3)
    grid = make_grid(problem, resolution=11, margin=0.1)
    low, high = problem.inputs.amin(0), problem.inputs.amax(0)
    torch.testing.assert_close(grid.points.amin(0), low - 0.1 * (high - low))
    torch.testing.assert_close(grid.points.amax(0), high + 0.1 * (high - low))
    assert torch.equal(grid.points[:11, 0], grid.axes[0])  # the first coordinate runs fastest
    assert torch.equal(grid.points[::11, 1], grid.axes[1])
    inside = grid.points[grid.inside(problem, 0.9)]
    assert (inside >= low).all()
    assert (inside <= high).all()
    assert 0 < len(inside) < 121


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "moons"}, "name.*rings"),
        ({"name": "xor", "points": 3}, "points"),
        ({"name": "xor", "noise": 0.0}, "noise"),
        ({"name": "xor", "noise": float("nan")}, "noise"),
    ],
)
def test_bad_arguments_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_problem(**arguments)


def test_a_line_has_one_axis() -> None:
    problem = make_problem("wave")
    grid = make_grid(problem, resolution=7, margin=0.0)
    assert grid.points.shape == (7, 1)
    torch.testing.assert_close(grid.points[:, 0], grid.axes[0])
    assert grid.inside(problem, 0.5).sum() == 3


def test_every_second_grid_line_is_a_coarser_grid() -> None:
    grid = make_grid(make_problem("xor"), resolution=5)
    kept = grid.points[grid.every(2)]
    assert len(kept) == 9
    for axis, values in zip(grid.axes, kept.T, strict=True):
        assert torch.equal(values.unique(), axis[::2])


def test_a_grid_of_one_point_is_refused() -> None:
    with pytest.raises(ValueError, match="resolution"):
        make_grid(make_problem("xor"), resolution=1)
