"""Laplace against closed forms: the exact posterior, the dense inverse, quadrature's limits."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from gnuq.estimators import delta_variance
from gnuq.networks import Architecture, Prior, fit_map
from gnuq.posteriors import laplace
from gnuq.problems import Problem, make_problem
from tests import oracle

PRIORS = [Prior(1.0), Prior(0.3, "fan_in")]


def binary():
    return make_problem("xor", points=60), Architecture(2, (5, 4), 1)


def multiclass():
    xor = make_problem("xor", points=60)
    three = (torch.arange(60) % 3).long()
    return replace(xor, task="multiclass", classes=3, targets=three), Architecture(2, (5,), 3)


def regression():
    x = torch.linspace(-1, 1, 25)[:, None]
    line = Problem("line", "regression", x, torch.sin(3 * x[:, 0]), 1, 0.3, 0)
    return line, Architecture(1, (6,), 1)


def dense_ggn(network: nn.Module, problem: Problem) -> torch.Tensor:
    """Σ_n J_nᵀ H_n J_n by the plain loop."""
    gradients = oracle.gradients(network, problem.inputs, lambda f: f)
    jacobian = torch.cat([g.flatten(2) for g in gradients.values()], 2)
    f = network(problem.inputs).detach()
    if problem.task == "binary":
        p = f.sigmoid()
        hessian = (p * (1 - p))[..., None]
    elif problem.task == "multiclass":
        p = f.softmax(1)
        hessian = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    else:
        hessian = torch.full((len(f), 1, 1), 1 / problem.noise**2)
    return torch.einsum("nki,nkl,nlj->ij", jacobian, hessian, jacobian)


@pytest.mark.parametrize("prior", PRIORS, ids=["unit", "fan_in"])
@pytest.mark.parametrize("make", [binary, multiclass, regression])
def test_every_variant_equals_its_dense_matrix(make, prior: Prior) -> None:
    problem, architecture = make()
    fit = fit_map(architecture, problem, prior)
    query = torch.randn(7, problem.inputs.shape[1])

    def objective(f: torch.Tensor) -> torch.Tensor:
        return f.softmax(1) if problem.task == "multiclass" else f.tanh()

    gradients = oracle.gradients(fit.network, query, objective)
    g = torch.cat([v.flatten(2) for v in gradients.values()], 2)
    ggn, precision = dense_ggn(fit.network, problem), prior.precisions(architecture)
    full = torch.linalg.inv(ggn + torch.diag(precision))
    torch.testing.assert_close(laplace.dense_covariance(fit, problem, prior), full)
    found = laplace.full_laplace(fit, problem, prior).variance(query, objective, batch_size=3)
    torch.testing.assert_close(found, delta_variance(g, full), rtol=1e-7, atol=1e-10)
    diagonal = laplace.diagonal_laplace(fit, problem, prior).variance(query, objective)
    expected = delta_variance(g, 1 / (ggn.diagonal() + precision))
    torch.testing.assert_close(diagonal, expected)
    n = sum(p.numel() for p in fit.network[-1].parameters())
    last = torch.linalg.inv((ggn + torch.diag(precision))[-n:, -n:])
    found = laplace.last_layer_laplace(fit, problem, prior).variance(query, objective)
    torch.testing.assert_close(found, delta_variance(g[..., -n:], last), rtol=1e-7, atol=1e-10)


def test_laplace_is_the_exact_posterior_of_a_linear_gaussian_model() -> None:
    """Bayesian linear regression: predictive variance φᵀ(ΦᵀΦ/σ² + λI)⁻¹φ, nothing approximate."""
    x = torch.randn(30, 2)
    problem = Problem("plane", "regression", x, x[:, 0] - x[:, 1], 1, 0.7, 0)
    fit = fit_map(Architecture(2, (), 1), problem, Prior(0.5))
    design = torch.cat([x, torch.ones(30, 1)], 1)
    covariance = torch.linalg.inv(design.mT @ design / 0.49 + 0.5 * torch.eye(3))
    query = torch.randn(9, 2)
    features = torch.cat([query, torch.ones(9, 1)], 1)
    exact = torch.einsum("bi,ij,bj->b", features, covariance, features)
    for make in (laplace.full_laplace, laplace.last_layer_laplace):
        found = make(fit, problem, Prior(0.5)).variance(query, lambda f: f[:, 0])
        torch.testing.assert_close(found, exact)
    samples = laplace.sampled_predictions(fit, covariance, query, samples=20_000)[..., 0]
    assert ((samples.var(0) / exact - 1).abs() < 4 * (2 / 20_000) ** 0.5).all()
    mean = fit.network(query)[:, 0]
    assert ((samples.mean(0) - mean).abs() < 4 * (exact / 20_000).sqrt()).all()


def test_without_data_the_posterior_is_the_prior() -> None:
    problem, architecture = binary()
    far = replace(problem, inputs=problem.inputs * 0 + 1e3)  # saturated units: no curvature left
    fit = fit_map(architecture, problem, Prior(2.0))
    with torch.no_grad():
        fit.network[-1].bias.fill_(60.0)
    found = laplace.full_laplace(fit, far, Prior(2.0)).variance(problem.inputs, lambda f: f)
    gradients = oracle.gradients(fit.network, problem.inputs, lambda f: f)
    norms = sum(g.square().flatten(1).sum(1) for g in gradients.values()) / 2
    torch.testing.assert_close(found[:, 0], norms)


def test_linearised_predictive_matches_sampling_and_its_limits() -> None:
    logits, variance = torch.tensor([-2.0, 0.0, 1.0, 5.0]), torch.tensor([0.5, 2.0, 0.0, 3.0])
    parts = laplace.linearised_predictive(logits, variance)
    torch.testing.assert_close(parts.total, parts.aleatoric + parts.epistemic)
    assert parts.epistemic[2] < 1e-30  # a known logit leaves nothing epistemic
    samples = torch.sigmoid(logits + variance.sqrt() * torch.randn(200_000, 4))
    error = 5 * (samples * (1 - samples)).std(0) / 200_000**0.5 + 1e-6
    assert ((samples * (1 - samples)).mean(0) - parts.aleatoric).abs().le(error).all()
    torch.testing.assert_close(samples.var(0), parts.epistemic, rtol=0.03, atol=1e-6)


@pytest.mark.bad_input
def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="variance.*negative"):
        laplace.linearised_predictive(torch.zeros(2), torch.tensor([1.0, -1.0]))
    with pytest.raises(ValueError, match="variance: shape"):
        laplace.linearised_predictive(torch.zeros(2), torch.ones(3))
