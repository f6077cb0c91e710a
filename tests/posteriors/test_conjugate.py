"""The linear-Gaussian model: the one posterior that is known, and who must hit it."""

from __future__ import annotations

import pytest
import torch

from gnuq.estimators import delta_variance
from gnuq.networks import Architecture, Prior, fit_map, negative_log_likelihood
from gnuq.posteriors import laplace
from gnuq.posteriors.conjugate import conjugate_posterior
from gnuq.problems import make_problem

MODEL = Architecture(1, (), 1)
PRIORS = pytest.mark.parametrize("prior", [Prior(1.0), Prior(0.2, "fan_in")], ids=["unit", "fan"])
PROBLEMS = pytest.mark.parametrize("name", ["line", "line-gap"])


@PROBLEMS
@PRIORS
def test_its_log_density_is_the_objective(name: str, prior: Prior) -> None:
    """½(θ − μ)ᵀΣ⁻¹(θ − μ) and the negative log posterior differ by a constant, everywhere."""
    problem = make_problem(name)
    exact = conjugate_posterior(MODEL, problem, prior)
    precision, network = torch.linalg.inv(exact.covariance), MODEL.build()
    differences = []
    for theta in exact.mean + torch.randn(5, 2):
        torch.nn.utils.vector_to_parameters(theta, network.parameters())
        loss = negative_log_likelihood(network(problem.inputs), problem).detach()
        loss = loss + (prior.precisions(MODEL) * theta.square()).sum() / 2
        offset = theta - exact.mean
        differences.append(loss - offset @ precision @ offset / 2)
    torch.testing.assert_close(
        torch.stack(differences), differences[0].expand(5), rtol=1e-10, atol=0
    )


@PROBLEMS
@PRIORS
def test_laplace_is_exact_and_the_mode_is_the_mean(name: str, prior: Prior) -> None:
    problem = make_problem(name)
    exact = conjugate_posterior(MODEL, problem, prior)
    fit = fit_map(MODEL, problem, prior)
    mode = torch.nn.utils.parameters_to_vector(fit.network.parameters())
    # The objective is quadratic: its gradient is Σ⁻¹(θ − μ), so this bounds the distance.
    bound = torch.linalg.eigvalsh(exact.covariance).max() * fit.gradient_norm
    assert (mode - exact.mean).norm() <= 1.001 * bound + 1e-14
    assert bound < 1e-6
    tight = {"rtol": 1e-10, "atol": 0.0}
    for found in (
        laplace.dense_covariance(fit, problem, prior),
        laplace.full_laplace(fit, problem, prior).covariance_matrix(),
        laplace.last_layer_laplace(fit, problem, prior).covariance_matrix(),
    ):
        torch.testing.assert_close(found, exact.covariance, **tight)
    points = torch.linspace(-3, 3, 25)[:, None]
    features = torch.cat([points, torch.ones(25, 1)], 1)
    variance = delta_variance(features, exact.covariance)  # φᵀΣφ: the delta method is exact
    dual = laplace.full_laplace(fit, problem, prior)
    torch.testing.assert_close(dual.variance(points, lambda f: f[:, 0]), variance, **tight)
    dense = laplace.DenseLaplace(fit.network, exact.covariance)
    torch.testing.assert_close(dense.variance(points, lambda f: f[:, 0]), variance, **tight)


@PROBLEMS
def test_variance_is_least_at_the_data_and_the_mean_forgets_the_prior(name: str) -> None:
    """As λ → 0 the mean is least squares and φᵀΣφ averages to Pσ²/n over the training points."""
    problem = make_problem(name)
    exact = conjugate_posterior(MODEL, problem, Prior(1e-9))
    design = torch.cat([problem.inputs, torch.ones(len(problem.inputs), 1)], 1)
    squares = torch.linalg.lstsq(design, problem.targets[:, None]).solution[:, 0]
    torch.testing.assert_close(exact.mean, squares, rtol=1e-8, atol=1e-8)
    mean_variance = delta_variance(design, exact.covariance).mean()
    torch.testing.assert_close(mean_variance, torch.tensor(2 * problem.noise**2 / len(design)))


@pytest.mark.bad_input
def test_everything_else_is_refused() -> None:
    line = make_problem("line")
    with pytest.raises(ValueError, match="problem: 'xor' is binary"):
        conjugate_posterior(Architecture(2, (), 1), make_problem("xor"), Prior())
    for architecture in (Architecture(1, (3,), 1), Architecture(2, (), 1), Architecture(1, (), 2)):
        with pytest.raises(ValueError, match="architecture"):
            conjugate_posterior(architecture, line, Prior())
