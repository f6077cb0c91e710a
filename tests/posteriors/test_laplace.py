"""Laplace against closed forms: the exact posterior, the dense inverse, the identity."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from gnuq.estimators import delta_variance
from gnuq.gradnorm import squared_gradient_norms
from gnuq.networks import Architecture, Prior, fit_map
from gnuq.posteriors import laplace, predictive
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
    samples = predictive.sampled_outputs(fit.network, covariance, query, samples=20_000)[..., 0]
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


@pytest.mark.parametrize("prior", PRIORS, ids=["unit", "fan_in"])
@pytest.mark.parametrize("make", [binary, multiclass, regression])
def test_every_variance_is_that_of_the_covariance_matrix(make, prior: Prior) -> None:
    """`variance` and `covariance_matrix` are two forms of one Σ, whichever the approximation."""
    problem, architecture = make()
    fit = fit_map(architecture, problem, prior)
    query = torch.randn(5, problem.inputs.shape[1])
    approximations = [
        form(fit, problem, prior)
        for form in (laplace.full_laplace, laplace.last_layer_laplace, laplace.diagonal_laplace)
    ]
    for approximation in [*approximations, laplace.identity_curvature(fit, prior)]:
        matrix = approximation.covariance_matrix()
        torch.testing.assert_close(matrix, matrix.mT, rtol=0, atol=1e-12)
        dense = laplace.DenseLaplace(fit.network, matrix)
        expected = dense.variance(query, torch.sin, batch_size=2)
        found = approximation.variance(query, torch.sin)
        torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-10)
        gradients = oracle.gradients(fit.network, query, torch.sin)
        g = torch.cat([v.flatten(2) for v in gradients.values()], 2)
        torch.testing.assert_close(expected, torch.einsum("bki,ij,bkj->bk", g, matrix, g))
    full = approximations[0].covariance_matrix()
    torch.testing.assert_close(full, laplace.dense_covariance(fit, problem, prior))


@pytest.mark.parametrize("prior", [Prior(4.0), Prior(4.0, "fan_in")], ids=["unit", "fan_in"])
def test_identity_curvature_is_the_last_layers_squared_gradient_norm(prior: Prior) -> None:
    """gᵀΣg = ‖∂p/∂θ_last‖² / λ, whatever the prior's scaling: the two rank alike."""
    problem, architecture = multiclass()
    fit = fit_map(architecture, problem, prior)
    query = torch.randn(8, 2)
    found = laplace.identity_curvature(fit, prior).variance(query, lambda f: f.softmax(1))
    norms = squared_gradient_norms(fit.network, query, lambda f: f.softmax(1)).by_module()
    torch.testing.assert_close(found, norms["2"] / 4)


def test_data_shrink_the_last_layers_covariance_but_not_the_identitys() -> None:
    """Σ_ICLA − Σ_last is positive semi-definite for a unit prior: curvature only takes away."""
    problem, architecture = binary()
    fit = fit_map(architecture, problem, Prior(1.0))
    last = laplace.last_layer_laplace(fit, problem, Prior(1.0)).covariance_matrix()
    identity = laplace.identity_curvature(fit, Prior(1.0)).covariance_matrix()
    assert torch.linalg.eigvalsh(identity - last).min() > -1e-12
    assert (identity - last).trace() > 0.1 * identity.trace()


@pytest.mark.bad_input
def test_a_matrix_that_is_no_covariance_is_refused() -> None:
    problem, architecture = regression()
    fit = fit_map(architecture, problem, Prior(1.0))
    broken = laplace.DenseLaplace(fit.network, -torch.eye(architecture.parameters))
    with pytest.raises(ValueError, match="covariance"):
        broken.variance(problem.inputs, lambda f: f)
    with pytest.raises(ValueError, match="covariance: shape"):
        laplace.DenseLaplace(fit.network, torch.eye(3)).variance(problem.inputs, lambda f: f)
