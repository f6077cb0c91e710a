"""The whitened posterior is the one that PyMC states: same density, same gradient, same outputs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch import nn

from gnuq import protocol
from gnuq.estimators import epistemic
from gnuq.gradnorm import gradient_factors
from gnuq.networks import Activated, Prior
from gnuq.posteriors import hmc, transitions, whitened
from gnuq.posteriors.diagonals import diagonal_form
from gnuq.problems import make_grid, make_problem

PROBLEM = make_problem("rings-4", points=40)
GRID = make_grid(PROBLEM, resolution=4)
PRIORS = {"unit": Prior(0.3), "fan-in": protocol.PRIORS["fan-in"]}


def of(architecture: Activated, prior: Prior, mode: np.ndarray | None = None) -> tuple:
    network = whitened.network_of(architecture.layers, prior, architecture.activation)
    inputs, targets = PROBLEM.inputs.numpy(), PROBLEM.targets.numpy()
    mode = np.zeros(architecture.parameters) if mode is None else mode
    with jax.enable_x64(False):
        target = whitened.posterior(network, inputs, targets, mode, GRID.points.numpy())
    return network, target


def flat(network: nn.Module) -> np.ndarray:
    return nn.utils.parameters_to_vector(network.parameters()).detach().numpy()


@pytest.mark.parametrize("prior", PRIORS.values(), ids=PRIORS)
@pytest.mark.parametrize("architecture", [
    Activated(2, (), 4), Activated(2, (5, 3), 4), Activated(2, (5, 3), 4, "gelu"),
    Activated(2, (5, 3), 4, "relu"),
], ids=str)  # fmt: skip
def test_density_and_gradient_are_those_of_pymc(architecture, prior):
    """Two points decide: log-densities are compared up to the constant, which the scale adds."""
    network, target = of(architecture, prior)
    rng = np.random.default_rng(0)
    points = rng.normal(size=(2, architecture.parameters)).astype(np.float32)

    def ours(z):
        return jnp.sum(target.log_likelihoods(target.tree(z))) - jnp.sum(z**2) / 2

    with hmc._single_precision():
        theirs = hmc._log_density(transitions.bayesian_network(architecture, PROBLEM, prior))
        values, slopes = zip(*(jax.value_and_grad(ours)(z) for z in points), strict=True)
        stated = [jax.value_and_grad(theirs)(z * network.deviations) for z in points]
    assert float(values[0] - values[1]) == pytest.approx(
        float(stated[0][0] - stated[1][0]), abs=2e-3
    )
    for slope, (_, other) in zip(slopes, stated, strict=True):
        np.testing.assert_allclose(slope, other * network.deviations, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("prior", PRIORS.values(), ids=PRIORS)
def test_deviations_are_the_priors(prior):
    architecture = Activated(2, (5, 3), 4)
    network, target = of(architecture, prior)
    assert target.size == architecture.parameters
    expected = prior.precisions(architecture).numpy() ** -0.5
    np.testing.assert_allclose(network.deviations, expected, rtol=1e-6)


@pytest.mark.parametrize("activation", ["tanh", "relu", "gelu"])
def test_predictions_and_linear_parts_are_those_of_torch(activation):
    architecture = Activated(2, (5, 3), 4, activation)
    mode, draw = (architecture.build(seed).requires_grad_(False) for seed in (1, 2))
    network, target = of(architecture, PRIORS["fan-in"], flat(mode))
    with jax.enable_x64(False):
        log_odds, linear = target.predict(target.tree(flat(draw) / network.deviations))
    p = draw(GRID.points).softmax(1).numpy()
    np.testing.assert_allclose(1 / (1 + np.exp(-np.asarray(log_odds))), p, rtol=1e-4)
    gradients = gradient_factors(mode, GRID.points, lambda f: f.softmax(1)).jacobian()
    expected = (gradients @ torch.from_numpy(flat(draw))).reshape(-1, 4)
    np.testing.assert_allclose(linear, expected, rtol=2e-4, atol=1e-5)


def test_log_odds_keep_the_digits_of_a_vanishing_probability():
    network, target = of(Activated(2, (), 4), PRIORS["unit"])
    weights = np.zeros(12, np.float32)
    weights[8] = 30.0  # the first bias: three classes of probability e⁻³⁰
    with jax.enable_x64(False):
        log_odds, _ = target.predict(target.tree(weights / network.deviations))
    assert float(log_odds[0, 1]) == pytest.approx(-30, abs=1e-3)
    assert float(log_odds[0, 0]) == pytest.approx(30 - np.log(3), abs=1e-3)


@pytest.mark.parametrize("prior", PRIORS.values(), ids=PRIORS)
def test_quadratic_forms_are_those_of_the_library(prior):
    """JAX's own derivatives against the gradient factors: two ways that share no line."""
    architecture = Activated(2, (5, 3), 4)
    module = architecture.build(1).requires_grad_(False)
    network, target = of(architecture, prior)
    spread = np.random.default_rng(0).uniform(0.5, 2, architecture.parameters).astype(np.float32)
    with jax.enable_x64(False):
        z, x = target.tree(flat(module) / network.deviations), jnp.asarray(GRID.points.numpy())
        x = x.astype(jnp.float32)
        diagonal = whitened.quadratic_form(network, z, x, target.tree(spread))
        norm = whitened.quadratic_form(network, z, x, target.tree(network.deviations**-2.0))
    factors = gradient_factors(module, GRID.points, lambda f: f.softmax(1))
    of_weights = torch.from_numpy(spread * network.deviations**2).double()
    np.testing.assert_allclose(diagonal, diagonal_form(factors, of_weights), rtol=1e-4)
    expected = epistemic(module, GRID.points, link="softmax").total
    np.testing.assert_allclose(norm, expected, rtol=1e-4)


def test_forms_and_linear_parts_keep_the_digits_of_a_saturated_probability():
    """p_0 = 1 − 3e⁻³⁰: in float32 p(1 − p) would be nought."""
    architecture = Activated(2, (), 4)
    module = architecture.build(0).requires_grad_(False)
    weights = torch.zeros(12, dtype=torch.float64)
    weights[8] = 30.0
    nn.utils.vector_to_parameters(weights, module.parameters())
    network, target = of(architecture, PRIORS["unit"], weights.numpy())
    with jax.enable_x64(False):
        z = target.tree(weights.numpy() / network.deviations)
        x = jnp.asarray(GRID.points.numpy(), jnp.float32)
        norm = whitened.quadratic_form(network, z, x, target.tree(network.deviations**-2.0))
        _, linear = target.predict(z)
    expected = epistemic(module, GRID.points, link="softmax").total
    np.testing.assert_allclose(norm, expected, rtol=1e-3)
    np.testing.assert_allclose(linear[:, 0], 30 * 3 * np.exp(-30), rtol=1e-3)


def test_an_unknown_activation_is_refused():
    with pytest.raises(ValueError, match="activation: 'sine'"):
        whitened.network_of([(2, 4)], PRIORS["unit"], "sine")
