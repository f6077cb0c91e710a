"""Proxy covariances against the loop, the Gauss–Newton matrix, and each other."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gnuq.estimators import delta_variance
from gnuq.networks import Architecture, MapFit, Prior, fit_map
from gnuq.posteriors import fisher, laplace
from gnuq.problems import Problem, make_problem

PRIOR = Prior(0.7)


def binary() -> Problem:
    return make_problem("xor", points=40)


def multiclass() -> Problem:
    problem = make_problem("xor", points=40)
    three = (torch.arange(40) % 3).long()
    return replace(problem, task="multiclass", classes=3, targets=three)


@pytest.fixture(params=[binary, multiclass], ids=["binary", "multiclass"])
def case(request: pytest.FixtureRequest) -> tuple[MapFit, Problem]:
    problem = request.param()
    outputs = 1 if problem.task == "binary" else 3
    fit = fit_map(Architecture(2, (5, 4), outputs), problem, PRIOR, gradient_tolerance=1e-2)
    return fit, problem


def loop(network: nn.Module, problem: Problem) -> torch.Tensor:
    """Σ_i s_i s_iᵀ by one backward pass an example, with torch's own losses."""
    network.requires_grad_(True)
    total = torch.zeros(())
    for x, y in zip(problem.inputs, problem.targets, strict=True):
        output = network(x[None])
        if problem.task == "binary":
            loss = F.binary_cross_entropy_with_logits(output[0, 0], y.double())
        else:
            loss = F.cross_entropy(output, y[None])
        gradients = torch.autograd.grad(loss, list(network.parameters()))
        score = nn.utils.parameters_to_vector(gradients)
        total = total + torch.outer(score, score)
    network.requires_grad_(False)
    return total


def prediction(outputs: torch.Tensor) -> torch.Tensor:
    return outputs.softmax(1)[:, 0] if outputs.shape[1] > 1 else outputs.sigmoid()[:, 0]


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_the_empirical_fisher_is_the_sum_over_the_loop(case, reduction) -> None:
    fit, problem = case
    rows = fisher.scores(fit, problem, "observed", reduction).jacobian()
    count = 1 if reduction == "sum" else len(problem.targets)
    torch.testing.assert_close(rows.mT @ rows, loop(fit.network, problem) / count)


def test_the_fisher_of_the_models_own_labels_is_the_gauss_newton_matrix(case) -> None:
    fit, problem = case
    query = torch.randn(9, 2, dtype=torch.float64)
    ours = fisher.full_fisher(fit, problem, PRIOR, labels="predicted").variance(query, prediction)
    known = laplace.full_laplace(fit, problem, PRIOR).variance(query, prediction)
    torch.testing.assert_close(ours, known, rtol=1e-7, atol=1e-12)
    ours = fisher.diagonal_fisher(fit, problem, PRIOR, labels="predicted").covariance
    torch.testing.assert_close(ours, laplace.diagonal_laplace(fit, problem, PRIOR).covariance)


@pytest.mark.parametrize("labels", ["observed", "predicted"])
def test_the_dual_form_is_the_dense_inverse(case, labels) -> None:
    fit, problem = case
    query = torch.randn(9, 2, dtype=torch.float64)
    rows = fisher.scores(fit, problem, labels, "sum").jacobian()
    dense = torch.linalg.inv(rows.mT @ rows + PRIOR.precision * torch.eye(rows.shape[1]))
    found = fisher.full_fisher(fit, problem, PRIOR, labels=labels)
    g = laplace.gradient_factors(fit.network, query, prediction).jacobian()
    torch.testing.assert_close(
        found.variance(query, prediction), delta_variance(g, dense), rtol=1e-7, atol=1e-12
    )


def test_summed_halves_add_up_to_the_whole_and_averaged_ones_average(case) -> None:
    fit, problem = case
    top = problem.inputs[:, 1] > 0

    def matrix(data: Problem, reduction: fisher.Reduction) -> torch.Tensor:
        rows = fisher.scores(fit, data, "observed", reduction).jacobian()
        return rows.mT @ rows

    halves = [fisher.subset(problem, half) for half in (top, ~top)]
    whole = sum(matrix(half, "sum") for half in halves)
    torch.testing.assert_close(whole, matrix(problem, "sum"))
    shares = [len(half.targets) / len(problem.targets) for half in halves]
    mixed = sum(s * matrix(half, "mean") for s, half in zip(shares, halves, strict=True))
    torch.testing.assert_close(mixed, matrix(problem, "mean"))


def test_averaging_is_a_prior_stronger_by_the_number_of_examples(case) -> None:
    """(F/n + λI)⁻¹ = n (F + nλI)⁻¹."""
    fit, problem = case
    n, query = len(problem.targets), torch.randn(9, 2, dtype=torch.float64)
    averaged = fisher.full_fisher(fit, problem, PRIOR, reduction="mean")
    stronger = fisher.full_fisher(fit, problem, Prior(n * PRIOR.precision))
    torch.testing.assert_close(
        averaged.variance(query, prediction), n * stronger.variance(query, prediction)
    )


def test_more_data_never_add_uncertainty(case) -> None:
    fit, problem = case
    query = torch.randn(50, 2, dtype=torch.float64)
    half = fisher.subset(problem, problem.inputs[:, 1] > 0)
    few, many = (fisher.full_fisher(fit, data, PRIOR) for data in (half, problem))
    assert bool(
        (many.variance(query, prediction) <= few.variance(query, prediction) * (1 + 1e-9)).all()
    )


@pytest.mark.bad_input
def test_bad_arguments_are_named(case) -> None:
    fit, problem = case
    with pytest.raises(ValueError, match="precision"):
        fisher.full_fisher(fit, problem, Prior(0.0))
    with pytest.raises(ValueError, match="labels"):
        fisher.full_fisher(fit, problem, PRIOR, labels="guessed")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="reduction"):
        fisher.diagonal_fisher(fit, problem, PRIOR, reduction="none")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no point"):
        fisher.subset(problem, torch.zeros(40, dtype=torch.bool))
    with pytest.raises(ValueError, match="truth value"):
        fisher.subset(problem, torch.ones(39, dtype=torch.bool))
    with pytest.raises(ValueError, match="regression"):
        fisher.full_fisher(fit, make_problem("line"), PRIOR)
