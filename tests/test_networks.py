"""Parameter counts from the paper, priors, and MAP training that has converged."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gnuq.networks import Architecture, Prior, fit_map, negative_log_likelihood, predict
from gnuq.problems import Problem, make_problem


@pytest.mark.parametrize(
    ("hidden", "outputs", "count"),
    [
        ((), 4, 12), ((8, 8), 4, 132), ((16, 16), 4, 388), ((32, 32), 4, 1284),
        ((64, 64), 4, 4612), ((128, 128), 4, 17412), ((256, 256), 4, 67588),
        ((512, 512), 4, 266244), ((1028, 1028), 4, 1065012), ((32, 32), 1, 1185),
    ],
)  # fmt: skip
def test_parameter_counts_are_the_papers(hidden: tuple, outputs: int, count: int) -> None:
    architecture = Architecture(2, hidden, outputs)
    assert architecture.parameters == count
    if count < 5000:
        assert sum(p.numel() for p in architecture.build().parameters()) == count


def test_a_seed_fixes_the_start() -> None:
    one, two, other = (Architecture(2, (4,), 1).build(seed) for seed in (0, 0, 1))
    assert torch.equal(one[0].weight, two[0].weight)
    assert not torch.equal(one[0].weight, other[0].weight)


def test_fan_in_scaling_gives_weights_their_share() -> None:
    architecture = Architecture(2, (8,), 3)
    precisions = Prior(0.5, "fan_in").precisions(architecture)
    expected = [1.0] * 16 + [0.5] * 8 + [4.0] * 24 + [0.5] * 3
    torch.testing.assert_close(precisions, torch.tensor(expected))
    assert torch.equal(Prior(0.5).precisions(architecture), torch.full((51,), 0.5))


@pytest.mark.parametrize("hidden", [(), (8, 8)])
def test_map_is_a_stationary_point_of_the_posterior(hidden: tuple[int, ...]) -> None:
    problem, prior = make_problem("xor", points=80), Prior(1.0)
    fit = fit_map(Architecture(2, hidden, 1), problem, prior, seed=1)
    model = fit.network.requires_grad_(True)
    loss = negative_log_likelihood(model(problem.inputs), problem)
    loss = loss + sum(p.square().sum() for p in model.parameters()) / 2
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    norm = nn.utils.parameters_to_vector(gradients).norm()
    assert norm < 1e-5
    assert fit.gradient_norm < 1e-5
    assert abs(float(loss) - fit.negative_log_posterior) < 1e-9


def test_map_of_ridge_regression_is_its_closed_form() -> None:
    x = torch.linspace(-1, 1, 20)[:, None]
    problem = Problem("line", "regression", x, 2 * x[:, 0] - 1, 1, 0.5, 0)
    fit = fit_map(Architecture(1, (), 1), problem, Prior(3.0))
    design = torch.cat([x, torch.ones_like(x)], 1)
    precision = design.mT @ design / 0.25 + 3 * torch.eye(2)
    exact = torch.linalg.solve(precision, design.mT @ problem.targets / 0.25)
    found = nn.utils.parameters_to_vector(fit.network.parameters())
    torch.testing.assert_close(found, exact, rtol=1e-6, atol=1e-8)


def test_predictions_are_probabilities() -> None:
    problem = make_problem("xor", points=20)
    p = predict(Architecture(2, (4,), 1).build(), problem.inputs, problem)
    assert p.shape == (20, 2)
    torch.testing.assert_close(p.sum(1), torch.ones(20))


def test_multiclass_likelihood_of_a_uniform_prediction() -> None:
    problem = Problem(
        "three", "multiclass", torch.zeros(5, 2), torch.tensor([0, 1, 2, 0, 1]), 3, 1.0, 0
    )
    loss = negative_log_likelihood(torch.zeros(5, 3), problem)
    torch.testing.assert_close(loss, 5 * torch.tensor(3.0).log())


@pytest.mark.bad_input
def test_bad_arguments_are_named() -> None:
    problem = make_problem("xor", points=20)
    with pytest.raises(ValueError, match="architecture.*2 outputs"):
        fit_map(Architecture(2, (4,), 2), problem, Prior())
    with pytest.raises(ValueError, match="precision"):
        Prior(0.0)
    with pytest.raises(ValueError, match="scaling"):
        Prior(1.0, "wide")  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="max_iterations"):
        fit_map(Architecture(2, (8,), 1), problem, Prior(), max_iterations=2)
