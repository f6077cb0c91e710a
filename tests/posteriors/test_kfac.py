"""K-FAC where it is exact, and its structure where it is not; needs the optional extra `oracle`."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from gnuq.estimators import delta_variance
from gnuq.gradnorm import gradient_factors
from gnuq.networks import Architecture, Prior, fit_map
from gnuq.posteriors import kfac, laplace
from gnuq.posteriors.conjugate import conjugate_posterior
from gnuq.problems import Problem, make_problem

NAMES = ["xor", "clusters-3", "wave"]


@pytest.fixture
def _curvlinops() -> None:
    pytest.importorskip("curvlinops", reason="pip install -e '.[oracle]'")


needs_curvlinops = pytest.mark.usefixtures("_curvlinops")


def first(problem: Problem, points: int) -> Problem:
    return replace(problem, inputs=problem.inputs[:points], targets=problem.targets[:points])


def network_for(problem: Problem, hidden: tuple[int, ...]) -> nn.Sequential:
    network = Architecture(problem.inputs.shape[1], hidden, problem.outputs).build(seed=3)
    return network.requires_grad_(False)


def ggn(network: nn.Sequential, problem: Problem) -> Tensor:
    """The full GGN, from the rows that `dense_covariance` uses; tested against a plain loop."""
    rows = gradient_factors(network, problem.inputs, laplace._hessian_root(problem)).jacobian()
    return rows.mT @ rows


def layers(network: nn.Sequential) -> list[tuple[int, nn.Linear]]:
    """Where each layer's parameters start in the flat vector."""
    found, start = [], 0
    for module in network:
        if isinstance(module, nn.Linear):
            found.append((start, module))
            start += sum(p.numel() for p in module.parameters())
    return found


def blocks(matrix: Tensor, network: nn.Sequential) -> list[Tensor]:
    sizes = [sum(p.numel() for p in layer.parameters()) for _, layer in layers(network)]
    return [matrix[a : a + n, a : a + n] for (a, _), n in zip(layers(network), sizes, strict=True)]


def homogeneous(block: Tensor, layer: nn.Linear) -> Tensor:
    """The block with weight and bias as one matrix of shape (outputs, inputs + 1), row-major."""
    outputs, inputs = layer.weight.shape
    weight = torch.arange(outputs * inputs).reshape(outputs, inputs)
    bias = torch.arange(outputs)[:, None] + outputs * inputs
    order = torch.cat([weight, bias], 1).flatten()
    return block[order[:, None], order]


@needs_curvlinops
@pytest.mark.parametrize("hidden", [(), (4, 3)], ids=["linear", "deep"])
@pytest.mark.parametrize("name", NAMES)
def test_with_one_point_kfac_is_the_layers_block_of_the_ggn(name: str, hidden: tuple) -> None:
    """A single ããᵀ ⊗ B needs no approximation, at any depth: this fixes scale and order."""
    problem = first(make_problem(name), 1)
    network = network_for(problem, hidden)
    found = kfac.kfac_curvature(network, problem)
    exact = torch.block_diag(*blocks(ggn(network, problem), network))
    torch.testing.assert_close(found, exact, rtol=1e-10, atol=1e-12)
    assert exact.abs().max() > 1e-3


@needs_curvlinops
@pytest.mark.parametrize("name", ["line", "line-gap"])
@pytest.mark.parametrize("prior", [Prior(1.0), Prior(0.3, "fan_in")], ids=["unit", "fan_in"])
def test_kfac_is_the_exact_posterior_of_a_linear_gaussian_model(name: str, prior: Prior) -> None:
    """B = 1/σ² at every point, so the product of sums is the sum of products, for any data."""
    problem, architecture = make_problem(name), Architecture(1, (), 1)
    fit = fit_map(architecture, problem, prior)
    exact = conjugate_posterior(architecture, problem, prior)
    found = kfac.kfac_laplace(fit, problem, prior)
    torch.testing.assert_close(found.covariance, exact.covariance, rtol=1e-10, atol=0)


@needs_curvlinops
@pytest.mark.parametrize("name", NAMES)
def test_every_layer_is_a_kronecker_product_of_known_factors(name: str) -> None:
    """Block = (1/N Σ ããᵀ) ⊗ B, B the GGN's block of the layer's bias; zero between layers.

    Hence tr(block) = (1 + mean ‖a‖²) tr(B), and the biases' own blocks are exact.
    """
    problem = make_problem(name, points=40)
    network = network_for(problem, (4, 3))
    found, exact = kfac.kfac_curvature(network, problem), ggn(network, problem)
    torch.testing.assert_close(found, torch.block_diag(*blocks(found, network)), rtol=0, atol=0)
    hidden = problem.inputs
    pairs = zip(blocks(found, network), blocks(exact, network), layers(network), strict=True)
    for depth, (block, true, (_, layer)) in enumerate(pairs):
        outputs = layer.out_features
        a = torch.cat([hidden, torch.ones(40, 1)], 1)
        bias = true[-outputs:, -outputs:]
        expected = torch.kron(bias, a.mT @ a / 40)
        torch.testing.assert_close(homogeneous(block, layer), expected, rtol=1e-9, atol=1e-11)
        trace = a.square().sum(1).mean() * bias.trace()
        torch.testing.assert_close(block.trace(), trace)
        hidden = network[2 * depth + 1](layer(hidden)) if depth < 2 else hidden
    if problem.task == "regression":  # the last layer's B is constant: nothing is lost there
        torch.testing.assert_close(block, true)
    else:
        assert (block - true).norm() > 1e-3 * true.norm()


@needs_curvlinops
def test_its_variance_uses_the_inverse_with_the_prior_and_leaves_the_network_alone() -> None:
    problem, prior = make_problem("xor", points=40), Prior(0.5, "fan_in")
    fit = fit_map(Architecture(2, (4,), 1), problem, prior)
    state = torch.get_rng_state()
    found = kfac.kfac_laplace(fit, problem, prior)
    assert torch.equal(state, torch.get_rng_state())
    assert not any(p.requires_grad for p in fit.network.parameters())
    curvature = kfac.kfac_curvature(fit.network, problem)
    inverse = torch.linalg.inv(curvature + torch.diag(prior.precisions_of(fit.network)))
    jacobian = gradient_factors(fit.network, problem.inputs, torch.sigmoid).jacobian()
    variance = found.variance(problem.inputs, torch.sigmoid)[:, 0]
    torch.testing.assert_close(variance, delta_variance(jacobian, inverse))


@pytest.mark.bad_input
def test_without_curvlinops_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "curvlinops", None)
    problem = make_problem("xor", points=8)
    with pytest.raises(ImportError, match=r"gnuq\[oracle\]"):
        kfac.kfac_curvature(network_for(problem, ()), problem)
