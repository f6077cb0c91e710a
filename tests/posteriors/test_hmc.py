"""HMC against what is known: the network, a closed-form posterior, its own diagnostics."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from gnuq.networks import Architecture, Prior, fit_map, negative_log_likelihood
from gnuq.posteriors import diagnostics, laplace
from gnuq.posteriors.diagnostics import convergence
from gnuq.posteriors.settings import HMC
from gnuq.problems import Problem, make_problem

hmc = pytest.importorskip("gnuq.posteriors.hmc")
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")


def line() -> Problem:
    x = torch.linspace(-1, 1, 15)[:, None]
    return Problem("line", "regression", x, 0.5 * x[:, 0], 1, 0.4, 0)


def tasks() -> list:
    xor = make_problem("xor", points=30)
    three = replace(xor, task="multiclass", classes=3, targets=torch.arange(30) % 3)
    return [
        pytest.param(xor, Architecture(2, (4, 3), 1), id="binary"),
        pytest.param(three, Architecture(2, (4,), 3), id="multiclass"),
        pytest.param(line(), Architecture(1, (4,), 1), id="regression"),
    ]


@pytest.mark.parametrize("prior", [Prior(2.0), Prior(0.5, "fan_in")], ids=["unit", "fan_in"])
@pytest.mark.parametrize(("problem", "architecture"), tasks())
def test_the_pymc_model_is_the_torch_network(problem, architecture, prior) -> None:
    """Differences of the log-density equal those of the torch objective, at random weights."""
    model = hmc.bayesian_network(architecture, problem, prior)
    density = model.compile_logp()
    network, precisions = architecture.build(), prior.precisions(architecture)
    objective = []
    weights = [torch.randn(architecture.parameters) for _ in range(3)]
    for w in weights:
        torch.nn.utils.vector_to_parameters(w, network.parameters())
        loss = negative_log_likelihood(network(problem.inputs), problem)
        objective.append(-float(loss + (precisions * w**2).sum() / 2))
    found = [float(density({"w": w.numpy()})) for w in weights]
    np.testing.assert_allclose(np.diff(found), np.diff(objective), rtol=2e-5)


@pytest.mark.parametrize(("problem", "architecture"), tasks())
def test_predictions_of_draws_are_the_torch_networks(problem, architecture) -> None:
    weights = torch.randn(2, 3, architecture.parameters)
    draws = hmc.Draws(weights.numpy().astype(np.float32), np.ones(2), np.ones(2), 0, 1.0, 0.0)
    found = hmc.posterior_predictions(draws, architecture, problem, problem.inputs)
    network = architecture.build()
    torch.nn.utils.vector_to_parameters(weights[1, 2], network.parameters())
    outputs = network(problem.inputs).detach()
    link = {"binary": torch.sigmoid, "multiclass": lambda f: f.softmax(1)}
    expected = link.get(problem.task, lambda f: f)(outputs)
    assert found.shape == (2, 3, *expected.shape)
    np.testing.assert_allclose(found[1, 2], expected.numpy(), atol=1e-5)


@pytest.mark.parametrize("sampler", ["hmc", "nuts"])
def test_moments_of_a_linear_gaussian_model_within_four_monte_carlo_errors(sampler: str) -> None:
    problem, architecture, prior = line(), Architecture(1, (), 1), Prior(1.0)
    draws = hmc.sample_posterior(architecture, problem, prior, HMC(sampler=sampler, draws=1500))
    points = torch.linspace(-2, 2, 9)[:, None]
    predictions = hmc.posterior_predictions(draws, architecture, problem, points)[..., 0]
    found = convergence(predictions)
    assert found.reached
    fit = fit_map(architecture, problem, prior)
    mean = fit.network(points)[:, 0].numpy()
    curved = laplace.full_laplace(fit, problem, prior)
    variance = curved.variance(points, lambda f: f[:, 0]).numpy()
    effective = found.effective_samples
    pooled = predictions.reshape(-1, len(points))
    assert (np.abs(pooled.mean(0) - mean) < 4 * np.sqrt(variance / effective)).all()
    squares = convergence((predictions - mean) ** 2).effective_samples
    assert (np.abs(pooled.var(0) / variance - 1) < 4 * np.sqrt(2 / squares)).all()
    assert draws.divergences == 0
    assert (draws.acceptance > 0.6).all()


def test_a_seed_fixes_the_draws() -> None:
    problem, architecture = make_problem("linear", points=20), Architecture(2, (), 1)
    settings = HMC(chains=2, tune=20, draws=10, seed=3)
    first, again = (
        hmc.sample_posterior(architecture, problem, Prior(), settings).weights for _ in range(2)
    )
    assert np.array_equal(first, again)
    other = hmc.sample_posterior(architecture, problem, Prior(), replace(settings, seed=4)).weights
    assert not np.array_equal(first, other)
    assert not np.array_equal(first[0], first[1])


def test_convergence_sees_chains_that_disagree() -> None:
    rng = np.random.default_rng(0)
    good = rng.normal(size=(4, 500, 3))
    assert convergence(good).reached
    apart = good + np.arange(4)[:, None, None]
    assert not convergence(apart).reached
    assert convergence(apart).r_hat.min() > 1.1


def test_arviz_takes_the_predictions_and_plots_their_ranks() -> None:
    """One container and one plot under either line of ArviZ."""
    predictions = np.random.default_rng(0).normal(size=(4, 100, 3))
    kept = diagnostics.container(predictions)
    np.testing.assert_array_equal(kept.posterior["p"].to_numpy(), predictions)
    drawn = diagnostics.plot_ranks(predictions)
    panels = drawn.size if hasattr(drawn, "size") else drawn.viz["plot"]["p"].size
    assert panels == 3
    with pytest.raises(ValueError, match="predictions: 17 points"):
        diagnostics.plot_ranks(np.zeros((4, 100, 17)))


@pytest.mark.bad_input
def test_bad_arguments_are_named() -> None:
    for field, value in [("sampler", "gibbs"), ("chains", 0), ("draws", 0), ("target_accept", 1.0)]:
        with pytest.raises(ValueError, match=field):
            HMC(**{field: value})
    with pytest.raises(ValueError, match="architecture"):
        hmc.sample_posterior(Architecture(2, (), 3), make_problem("xor"), Prior())
    with pytest.raises(ValueError, match="predictions.*chains"):
        convergence(np.zeros((1, 100, 2)))
    with pytest.raises(ValueError, match="NaN"):
        convergence(np.full((2, 100, 2), np.nan))
