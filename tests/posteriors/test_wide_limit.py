"""Wide networks have the kernels that are computed, and their posterior is the process's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from gnuq import protocol
from gnuq.estimators import epistemic
from gnuq.gradnorm import gradient_factors
from gnuq.networks import Activated, Prior
from gnuq.posteriors import softmax_process, wide_kernels
from gnuq.posteriors.settings import StreamedHMC
from gnuq.posteriors.wide_kernels import hermite_expectation, squared_norms

FAN_IN = protocol.PRIORS["fan-in"]
POINTS = np.random.default_rng(0).normal(scale=2.0, size=(6, 2))


def test_of_error_functions_it_is_arcsine():
    """Williams (1998): E[erf(u) erf(u')] = (2/π) arcsin(2k / √((1 + 2a)(1 + 2b)))."""
    covariance = POINTS @ POINTS.T + np.eye(6)
    root = np.sqrt(1 + 2 * covariance.diagonal())
    expected = 2 / np.pi * np.arcsin(2 * covariance / np.outer(root, root))
    found = hermite_expectation(wide_kernels.UNITS["erf"][0], covariance)
    np.testing.assert_allclose(found, expected, atol=2e-4)
    np.testing.assert_allclose(found.diagonal(), expected.diagonal(), rtol=1e-10)


def drawn(architecture: Activated, prior: Prior, seed: int) -> nn.Sequential:
    """A network with weights from the prior."""
    network = architecture.build().requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    scale = prior.precisions_of(network) ** -0.5
    weights = scale * torch.randn(len(scale), generator=generator, dtype=torch.float64)
    nn.utils.vector_to_parameters(weights, network.parameters())
    return network


@pytest.mark.parametrize("prior", [FAN_IN, Prior(1.0)], ids=["fan-in", "unit"])
@pytest.mark.parametrize("activation", ["tanh", "gelu"])
def test_wide_networks_have_these_kernels(activation, prior):
    """Covariance of outputs over prior draws, and the squared gradient norms of one draw."""
    architecture = Activated(2, (256, 256), 4, activation)
    found = wide_kernels.wide_kernels(architecture, prior, POINTS)
    inputs = torch.from_numpy(POINTS)
    networks = [drawn(architecture, prior, seed) for seed in range(60)]
    outputs = np.stack([network(inputs).numpy() for network in networks])
    sampled = np.einsum("sik,sjk->ij", outputs, outputs) / (60 * 4)
    scale = np.sqrt(np.outer(found.outputs.diagonal(), found.outputs.diagonal()))
    assert abs((sampled - found.outputs) / scale).max() < 5 * (2 / 240) ** 0.5
    ones = {name: 1.0 for name, _ in networks[0].named_parameters()}
    factors = [gradient_factors(network, inputs, lambda f: f) for network in networks[:20]]
    for variances, expected in (
        (ones, found.gradient),
        (prior.variances(networks[0]), found.tangent),
    ):
        norms = np.stack([one.squared_norms(variances).numpy().mean(1) for one in factors])
        error = (
            norms.std(0, ddof=1) / len(norms) ** 0.5
        )  # few units of a unit prior are unsaturated
        assert (abs(norms.mean(0) - expected) < 4.5 * error + 0.02 * expected).all()


def test_norms_of_probabilities_follow_from_those_of_outputs():
    """One softmax layer has orthogonal outputs at any width: Θ = ‖x‖² + 1, exactly."""
    architecture = Activated(2, (), 4)
    network = drawn(architecture, Prior(1.0), 0)
    found = wide_kernels.wide_kernels(architecture, Prior(1.0), POINTS)
    exact = epistemic(network, torch.from_numpy(POINTS), link="softmax")
    norms = squared_norms(exact.values.numpy(), found.gradient)
    np.testing.assert_allclose(norms, exact.total.numpy(), rtol=1e-10)
    np.testing.assert_allclose(found.gradient, found.tangent, rtol=1e-12)


def test_the_posterior_is_that_of_importance_sampling():
    """Three training points, two others, three classes: prior draws weighted by the likelihood."""
    kernel = wide_kernels.wide_kernels(Activated(2, (8, 8), 3), FAN_IN, POINTS[:5]).outputs
    targets = np.array([0, 1, 1])
    settings = StreamedHMC(chains=16, together=16, draws=500)
    found = softmax_process.sample_process(kernel, targets, 3, settings).probabilities
    rng = np.random.default_rng(1)
    latent = np.linalg.cholesky(kernel + 1e-9 * np.eye(5)) @ rng.normal(size=(200_000, 5, 3))
    p = np.exp(latent - latent.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    weights = p[:, np.arange(3), targets].prod(1)
    mean = np.average(p[:, 3:], axis=0, weights=weights)
    variance = np.average((p[:, 3:] - mean) ** 2, axis=0, weights=weights)
    np.testing.assert_allclose(found.mean((0, 1)), mean, atol=0.02)
    np.testing.assert_allclose(found.var((0, 1)), variance, rtol=0.08)


def test_what_has_no_answer_is_refused():
    with pytest.raises(ValueError, match="'relu' units"):
        wide_kernels.wide_kernels(Activated(2, (8,), 4, "relu"), FAN_IN, POINTS)
    with pytest.raises(ValueError, match="kernel: 6 points"):
        softmax_process.sample_process(np.eye(6), np.zeros(6, int), 2, StreamedHMC())
