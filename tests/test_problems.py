"""The problems are seeded, symmetric as Appendix A demands, and refuse nonsense."""

from __future__ import annotations

import pytest
import torch

from gnuq.problems import PROBLEMS, make_grid, make_problem


@pytest.mark.parametrize("name", PROBLEMS)
def test_a_seed_fixes_the_data_and_another_changes_them(name: str) -> None:
    first, again, other = (make_problem(name, points=50, seed=s) for s in (1, 1, 2))
    assert torch.equal(first.inputs, again.inputs)
    assert torch.equal(first.targets, again.targets)
    assert not torch.equal(first.inputs, other.inputs)
    assert first.inputs.shape == (50, 2)
    assert set(first.targets.tolist()) == set(range(first.classes))


@pytest.mark.parametrize("name", PROBLEMS)
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
    assert torch.equal(grid.points[:11, 0], grid.x)  # the first coordinate runs fastest
    assert torch.equal(grid.points[::11, 1], grid.y)
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


def test_a_grid_of_one_point_is_refused() -> None:
    with pytest.raises(ValueError, match="resolution"):
        make_grid(make_problem("xor"), resolution=1)
