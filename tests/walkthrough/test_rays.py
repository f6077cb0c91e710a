"""The chapter on distance: limits along rays, in closed form and on draws made up for the test."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import expit
from scipy.stats import norm

from gnuq.estimators import epistemic
from gnuq.networks import Architecture
from gnuq.posteriors.predictive import linearised_predictive
from gnuq.posteriors.settings import HMC
from gnuq.problems import make_problem
from gnuq.walkthrough import rays, wedges


@pytest.fixture(scope="module")
def few() -> rays.Model:
    pytest.importorskip("pymc")
    return rays.sample(make_problem("linear", points=40), (), HMC(draws=1500, tune=300))


def test_far_out_only_the_side_is_uncertain() -> None:
    """Var[p] at t = 10⁶ is q(1 − q), q the share of draws with w·u > 0."""
    pytest.importorskip("arviz")
    slopes = np.random.default_rng(0).normal(0.3, 0.5, size=(4, 500, 3)) - [0, 0.3, 5]
    found = wedges.sign_probability(slopes)
    variance = expit(1e6 * slopes + 0.2).var((0, 1))
    np.testing.assert_allclose(variance, found["limit"], atol=1e-4)
    assert found["limit"].iloc[1] > 0.24
    assert found["limit"].iloc[2] == 0 < found["bound"].iloc[2] < 0.01


def test_the_error_of_a_probability_is_its_spread_over_samples() -> None:
    """Binomial: over 300 repetitions the counted q spreads by the error that each one states."""
    pytest.importorskip("arviz")
    slopes = np.random.default_rng(1).normal(1.2, 1.0, size=(4, 100, 300))
    found = wedges.sign_probability(slopes)
    assert found["q"].mean() == pytest.approx(norm.cdf(1.2), abs=4 * found["error"].mean() / 17)
    assert found["error"].mean() == pytest.approx(found["q"].std(), rel=4 / 600**0.5)


def test_the_linearised_predictive_tends_to_phi_times_one_minus_phi() -> None:
    kappa = np.array([0.0, 0.5, -1.0, 3.0])
    t = 1e6
    found = rays.gaussian_logit_variance(kappa * t, np.full(4, t**2))
    np.testing.assert_allclose(found, norm.cdf(kappa) * norm.cdf(-kappa), atol=5e-4)


def test_the_midpoint_rule_agrees_with_gauss_hermite_where_that_is_accurate() -> None:
    mean, variance = np.array([0.0, 1.0, -2.0]), np.array([0.1, 0.5, 1.0])
    outputs, covariance = torch.tensor(mean)[:, None], torch.tensor(variance)[:, None, None]
    quadrature = linearised_predictive(outputs, covariance, make_problem("linear"))
    found = rays.gaussian_logit_variance(mean, variance)
    np.testing.assert_allclose(found, quadrature.epistemic[:, 0].numpy(), rtol=5e-3)


def test_the_logistic_norm_is_its_closed_form_and_grows_on_the_boundary_only() -> None:
    network = Architecture(2, (), 1).build(3).requires_grad_(False)
    w = network[0].weight[0]
    along = torch.stack([-w[1], w[0]]) / w.norm()
    for u, power in ((along, 2.0), (w / w.norm(), None)):
        points = torch.tensor([1e3, 1e4])[:, None] * u
        p = torch.sigmoid(network(points))[:, 0].numpy()
        closed = wedges.logistic_squared_norm(p, points.numpy())
        total = epistemic(network, points, link="sigmoid").total.numpy()
        np.testing.assert_allclose(total, closed, rtol=1e-9)
        if power is None:
            assert closed[0] < 1e-100
        else:
            assert np.log10(closed[1] / closed[0]) == pytest.approx(power, rel=1e-4)


@pytest.mark.parametrize("degrees", [10.0, 130.0, 250.0])
def test_a_saturated_network_has_the_norm_of_its_upper_layers(degrees: float) -> None:
    """The limit in closed form is ‖g‖² at t = 10⁶; nearby directions share it."""
    network = Architecture(2, (5, 4), 1).build(1).requires_grad_(False)
    u = torch.from_numpy(rays.direction(np.array(degrees)))
    limit = rays.saturated_squared_norm(network, u)
    total = epistemic(network, 1e6 * u[None], link="sigmoid").total.item()
    assert limit == pytest.approx(total, rel=1e-10)
    nearby = torch.from_numpy(rays.direction(np.array(degrees + 1e-6)))
    assert rays.saturated_squared_norm(network, nearby) == limit


def test_rays_start_at_the_centre_of_the_data_and_go_out_in_order() -> None:
    problem = make_problem("xor", points=40)
    points = rays.ray(problem, [0.0, 90.0], [0.0, 2.0]) - problem.inputs.mean(0)
    torch.testing.assert_close(points, torch.tensor([[0.0, 0], [2, 0], [0, 0], [0, 2]]))


def test_draws_along_a_ray_reach_the_limit_that_their_signs_give(few: rays.Model) -> None:
    offsets = np.array([-30.0, 3.0, 10.0])
    limit = wedges.wedge(few, offsets)["limit"]
    far = rays.profiles(few, offsets + wedges.boundary_angle(few), [1e6])
    np.testing.assert_allclose(far["hmc"], limit, atol=1e-5)
    assert far["norm"].max() == 0 < limit[2]


def test_the_wedge_is_as_wide_as_the_boundary_is_uncertain(few: rays.Model) -> None:
    """One posterior standard deviation off the mode's boundary q is near Φ(−1)."""
    spread = wedges.boundary_spread(few)
    q = wedges.wedge(few, [-spread, 0.0, spread])["q"]
    np.testing.assert_allclose(q, norm.cdf([1, 0, -1]), atol=0.04)
    assert 6 < spread < 11


def test_the_posterior_itself_fails_to_detect_distance_for_a_linear_model(few: rays.Model) -> None:
    """The paper's argument: an AUROC far below one half, for the exact variance too."""
    found = rays.detection({"few": few}, 10.0)
    assert (found < 0.4).all(axis=None)
