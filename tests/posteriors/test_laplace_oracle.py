"""Our Laplace approximations against laplace-torch; needs the optional extra `oracle`."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from gnuq.networks import Architecture, Prior, fit_map
from gnuq.posteriors import laplace
from gnuq.problems import Problem, make_problem

peer = pytest.importorskip("laplace", reason="pip install -e '.[oracle]'")
pytestmark = pytest.mark.filterwarnings("ignore")


def three_classes() -> Problem:
    xor = make_problem("xor", points=60)
    return replace(xor, task="multiclass", classes=3, targets=torch.arange(60) % 3)


def line() -> Problem:
    x = torch.linspace(-1, 1, 25)[:, None]
    return Problem("line", "regression", x, torch.sin(3 * x[:, 0]), 1, 0.3, 0)


@pytest.mark.parametrize("structure", ["full", "diag"])
@pytest.mark.parametrize("weights", ["all", "last_layer"])
@pytest.mark.parametrize("make", [three_classes, line])
def test_functional_variance_equals_laplace_torch(make, weights: str, structure: str) -> None:
    problem, prior = make(), Prior(0.7)
    fit = fit_map(Architecture(problem.inputs.shape[1], (6,), problem.outputs), problem, prior)
    ours = {
        ("all", "full"): laplace.full_laplace,
        ("all", "diag"): laplace.diagonal_laplace,
        ("last_layer", "full"): laplace.last_layer_laplace,
    }.get((weights, structure))
    if ours is None:
        pytest.skip("gnuq has no diagonal last-layer variant")
    regression = problem.task == "regression"
    targets = problem.targets[:, None] if regression else problem.targets
    model = fit.network.requires_grad_(True)
    theirs = peer.Laplace(
        model,
        "regression" if regression else "classification",
        subset_of_weights=weights,
        hessian_structure=structure,
        prior_precision=0.7,
        sigma_noise=problem.noise if regression else 1.0,
    )
    theirs.fit(DataLoader(TensorDataset(problem.inputs, targets), batch_size=60))
    query = torch.randn(9, problem.inputs.shape[1])
    _, covariance = theirs._glm_predictive_distribution(query)
    expected = covariance.diagonal(dim1=1, dim2=2)
    found = ours(replace(fit, network=model.requires_grad_(False)), problem, prior)
    torch.testing.assert_close(found.variance(query, lambda f: f), expected, rtol=1e-6, atol=1e-9)
