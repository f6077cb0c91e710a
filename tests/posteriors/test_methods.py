"""Every method answers in the same shape, and those that must agree do."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch

from gnuq.networks import Architecture, Prior, fit_map
from gnuq.posteriors.conjugate import conjugate_posterior
from gnuq.posteriors.methods import METHODS, applicable, architecture_of
from gnuq.problems import make_problem

TASKS = {
    "xor": Architecture(2, (4, 3), 1),
    "clusters-3": Architecture(2, (4,), 3),
    "wave": Architecture(1, (4,), 1),
    "linear": Architecture(2, (), 1),
}
CASES = [
    pytest.param(
        task, name, id=f"{task}: {name}",
        marks=pytest.mark.skipif(
            name.startswith("K-FAC") and find_spec("curvlinops") is None, reason="needs curvlinops"
        ),
    )
    for task, architecture in TASKS.items()
    for name in applicable(make_problem(task), architecture)
]  # fmt: skip


def fitted(name: str, architecture: Architecture, prior: Prior) -> tuple:
    problem = make_problem(name, points=30, seed=1)
    return problem, fit_map(architecture, problem, prior)


@pytest.mark.parametrize(("task", "name"), CASES)
def test_one_shape_for_all_and_probabilities_that_can_exist(task: str, name: str) -> None:
    prior = Prior(1.0)
    problem, fit = fitted(task, TASKS[task], prior)
    inputs = torch.randn(7, problem.inputs.shape[1])
    with torch.no_grad():
        found = METHODS[name](problem, prior, fit)(inputs)
    assert found.epistemic.shape == (7, problem.outputs)
    assert bool((found.epistemic >= 0).all())
    assert bool(torch.isfinite(found.epistemic).all())
    if problem.task == "regression":
        return
    assert found.aleatoric is not None
    assert found.aleatoric.shape == (7, problem.outputs)
    assert bool((found.aleatoric <= 0.25 + 1e-12).all())
    if name.endswith(("linearised", "sampled", "ensemble", "dropout")):  # Eq. (2) holds
        assert bool((found.epistemic + found.aleatoric <= 0.25 + 1e-12).all())
        assert bool((found.aleatoric >= -1e-12).all())


@pytest.mark.parametrize("precision", [0.5, 4.0])
def test_the_identity_covariance_is_the_norm_over_the_precision(precision: float) -> None:
    """In a linear model, where the last layer is all of it: Eq. (4) with Σ = I/λ."""
    prior = Prior(precision)
    problem, fit = fitted("linear", TASKS["linear"], prior)
    norm, delta = (
        METHODS[name](problem, prior, fit)(problem.inputs)
        for name in ("gradient norm", "identity, delta")
    )
    torch.testing.assert_close(delta.epistemic, norm.epistemic / precision)
    torch.testing.assert_close(delta.aleatoric, norm.aleatoric - delta.epistemic)


def test_full_laplace_is_exact_where_the_posterior_is_gaussian() -> None:
    prior = Prior(2.0)
    problem, fit = fitted("line", Architecture(1, (), 1), prior)
    exact = conjugate_posterior(Architecture(1, (), 1), problem, prior)
    design = torch.cat([problem.inputs, torch.ones(30, 1)], 1)
    expected = ((design @ exact.covariance) * design).sum(1, keepdim=True)
    found = METHODS["full, delta"](problem, prior, fit)(problem.inputs)
    torch.testing.assert_close(found.epistemic, expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize("architecture", TASKS.values(), ids=str)
def test_an_architecture_is_read_off_its_network(architecture: Architecture) -> None:
    problem = make_problem({1: "wave", 2: "linear"}[architecture.inputs], points=20)
    if architecture.outputs == 3:
        problem = make_problem("clusters-3", points=20)
    assert architecture_of(fit_map(architecture, problem, Prior(1.0))) == architecture


def test_methods_that_mean_nothing_are_left_out() -> None:
    line = applicable(make_problem("line"), Architecture(1, (), 1))
    assert "p(1 − p)" not in line
    assert "deep ensemble" not in line
    assert not any(name.startswith("last layer") for name in line)
    deep = applicable(make_problem("xor"), Architecture(2, (4,), 1))
    assert deep == list(METHODS)


@pytest.mark.bad_input
def test_regression_has_no_bernoulli_variance() -> None:
    problem, fit = fitted("wave", TASKS["wave"], Prior(1.0))
    with pytest.raises(ValueError, match="problem.*regression"):
        METHODS["p(1 − p)"](problem, Prior(1.0), fit)
