"""From an approximate posterior to an uncertainty: closed forms, quadrature, Monte Carlo."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from gnuq.estimators import Decomposition, label_wise_decomposition
from gnuq.networks import Architecture, Prior, fit_map
from gnuq.posteriors import laplace, predictive
from gnuq.posteriors.predictive import (
    linearised_predictive,
    output_covariance,
    sample_decomposition,
    sampled_outputs,
)
from gnuq.problems import Problem, make_problem
from tests import oracle


def fitted(name: str, hidden: tuple[int, ...] = (5,), points: int = 60):
    problem = make_problem(name, points=points)
    architecture = Architecture(problem.inputs.shape[1], hidden, problem.outputs)
    return fit_map(architecture, problem, Prior(1.0)), problem


def spread(batch: int, outputs: int, rank: int | None = None) -> Tensor:
    """Random covariances, of deficient rank if asked."""
    root = torch.randn(batch, outputs, outputs if rank is None else rank)
    return root @ root.mT


def adds_up(parts: Decomposition) -> None:
    torch.testing.assert_close(parts.total, parts.aleatoric + parts.epistemic, rtol=0, atol=1e-15)
    assert bool((parts.epistemic >= 0).all())


@pytest.mark.parametrize("name", ["xor", "clusters-4", "wave"])
def test_output_covariance_is_that_of_the_explicit_jacobian(name: str) -> None:
    """Polarisation gives J Σ Jᵀ for every form of Σ."""
    fit, problem = fitted(name)
    query = torch.randn(6, problem.inputs.shape[1])
    gradients = oracle.gradients(fit.network, query, lambda f: f)
    jacobian = torch.cat([g.flatten(2) for g in gradients.values()], 2)
    for form in (laplace.full_laplace, laplace.last_layer_laplace, laplace.diagonal_laplace):
        approximation = form(fit, problem, Prior(1.0))
        assert isinstance(approximation, predictive.Approximation)
        expected = jacobian @ approximation.covariance_matrix() @ jacobian.mT
        found = output_covariance(approximation, query)
        torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-9)
        assert torch.equal(found, found.mT)


def test_output_covariance_asks_for_as_many_gradients_as_the_matrix_has_entries() -> None:
    """K(K + 1)/2 scalars: the outputs and their pairwise sums."""
    fit, problem = fitted("clusters-4")
    asked = []

    class Watched(laplace.DenseLaplace):
        def variance(self, inputs, objective, *, batch_size=2000):
            asked.append(objective(self.network(inputs)).shape)
            return super().variance(inputs, objective, batch_size=batch_size)

    size = sum(p.numel() for p in fit.network.parameters())
    output_covariance(Watched(fit.network, torch.eye(size)), problem.inputs[:3])
    assert asked == [(3, 10)]


def test_binary_predictive_matches_sampling_and_its_limits() -> None:
    outputs = torch.tensor([-2.0, 0.0, 1.0, 5.0])[:, None]
    variance = torch.tensor([0.5, 2.0, 0.0, 3.0])[:, None]
    problem = make_problem("xor")
    parts = linearised_predictive(outputs, variance[..., None], problem)
    adds_up(parts)
    assert parts.epistemic[2] < 1e-30  # a known logit leaves nothing epistemic
    samples = torch.sigmoid(outputs + variance.sqrt() * torch.randn(200_000, 4, 1))
    error = 5 * (samples * (1 - samples)).std(0) / 200_000**0.5 + 1e-6
    assert ((samples * (1 - samples)).mean(0) - parts.aleatoric).abs().le(error).all()
    torch.testing.assert_close(samples.var(0), parts.epistemic, rtol=0.03, atol=1e-6)


@pytest.mark.parametrize("rank", [None, 2, 1])
def test_multiclass_predictive_matches_sampling(rank: int | None) -> None:
    """Quasi-random integration of the softmax, also where C is singular."""
    outputs, covariance = torch.randn(5, 3), spread(5, 3, rank)
    parts = linearised_predictive(outputs, covariance, make_problem("clusters-3"))
    adds_up(parts)
    root = torch.linalg.eigh(covariance)
    root = root.eigenvectors * root.eigenvalues.clamp_min(0).sqrt()[:, None]
    draws = outputs + torch.einsum("sbk,blk->sbl", torch.randn(100_000, 5, 3), root)
    samples = draws.softmax(-1)
    error = 5 * samples.std(0) / 100_000**0.5 + 2e-3  # the sequence's own error, at 1024 points
    assert (parts.total - label_wise_decomposition(samples).total).abs().le(error).all()
    torch.testing.assert_close(samples.var(0), parts.epistemic, rtol=0.05, atol=1e-3)


def test_two_softmax_classes_are_one_sigmoid() -> None:
    """With two classes the softmax of N(f, C) is the sigmoid of N(f₁ − f₀, C₀₀ + C₁₁ − 2C₀₁)."""
    outputs, covariance = torch.randn(20, 2), spread(20, 2)
    binary = make_problem("xor")
    two = replace(binary, task="multiclass")
    found = linearised_predictive(outputs, covariance, two)
    logit = (outputs[:, 1] - outputs[:, 0])[:, None]
    contrast = torch.tensor([-1.0, 1.0])
    variance = torch.einsum("i,bij,j->b", contrast, covariance, contrast)[:, None, None]
    expected = linearised_predictive(logit, variance, binary)
    for part in ("total", "aleatoric", "epistemic"):
        both = getattr(found, part)
        torch.testing.assert_close(both[:, :1], both[:, 1:])  # p and 1 − p vary alike
        torch.testing.assert_close(both[:, 1:], getattr(expected, part), rtol=0, atol=1e-3)


def test_known_outputs_leave_nothing_epistemic() -> None:
    outputs = torch.randn(7, 4)
    parts = linearised_predictive(outputs, torch.zeros(7, 4, 4), make_problem("rings-4"))
    p = outputs.softmax(1)
    torch.testing.assert_close(parts.aleatoric, p * (1 - p))
    assert parts.epistemic.max() < 1e-30


def test_the_quasi_random_points_neither_read_nor_move_the_global_state() -> None:
    outputs, covariance = torch.randn(4, 3), spread(4, 3)
    problem = make_problem("clusters-3")
    state = torch.get_rng_state()
    first = linearised_predictive(outputs, covariance, problem)
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(99)
    again = linearised_predictive(outputs, covariance, problem)
    assert torch.equal(first.epistemic, again.epistemic)


def test_neighbouring_inputs_share_the_points() -> None:
    """The estimate is continuous in f and C, also where eigenvalues of C cross."""
    problem = make_problem("clusters-3")
    outputs = torch.zeros(2, 3)
    nearly = torch.eye(3).expand(2, 3, 3) + 1e-9 * spread(2, 3)
    parts = linearised_predictive(outputs, nearly, problem)
    torch.testing.assert_close(parts.epistemic[0], parts.epistemic[1], rtol=0, atol=1e-7)


def test_in_regression_the_parts_are_the_covariance_and_the_noise() -> None:
    problem = make_problem("wave", noise=0.5)
    variance = torch.rand(9, 1)
    parts = linearised_predictive(torch.randn(9, 1), variance[..., None], problem)
    assert torch.equal(parts.epistemic, variance)
    assert torch.equal(parts.aleatoric, torch.full((9, 1), 0.25))
    adds_up(parts)


@pytest.mark.parametrize("name", ["linear", "clusters-3", "line"])
def test_for_a_linear_model_sampled_and_linearised_agree(name: str) -> None:
    """Nothing is linearised then, so the two differ by Monte Carlo and quadrature error only."""
    fit, problem = fitted(name, ())
    approximation = laplace.full_laplace(fit, problem, Prior(1.0))
    query = problem.inputs[:20]
    linear = linearised_predictive(
        fit.network(query), output_covariance(approximation, query), problem
    )
    matrix = approximation.covariance_matrix()
    outputs = sampled_outputs(fit.network, matrix, query, samples=4000)
    drawn = sample_decomposition(outputs, problem)
    adds_up(drawn)
    scale = linear.epistemic.max()
    error = 6 * scale * math.sqrt(2 / 4000)
    assert (drawn.epistemic - linear.epistemic).abs().max() < error
    assert (drawn.aleatoric - linear.aleatoric).abs().max() < 6 * (scale / 4000).sqrt()


def test_weights_without_variance_stay_at_the_mode() -> None:
    """Last-layer samples: outputs are linear in the drawn weights, so their moments are known."""
    fit, problem = fitted("wave")
    approximation = laplace.last_layer_laplace(fit, problem, Prior(1.0))
    query = torch.linspace(-3, 3, 11)[:, None]
    outputs = sampled_outputs(
        fit.network, approximation.covariance_matrix(), query, samples=5000, seed=1
    )
    variance = output_covariance(approximation, query)[:, 0, 0]
    found = outputs[..., 0]
    assert ((found.mean(0) - fit.network(query)[:, 0]).abs() < 4 * (variance / 5000).sqrt()).all()
    assert ((found.var(0) / variance - 1).abs() < 5 * (2 / 5000) ** 0.5).all()
    features = nn.Sequential(*list(fit.network)[:-1])(query)
    design = torch.cat([features, torch.ones(11, 1)], 1)
    residual = found.mT - design @ torch.linalg.lstsq(design, found.mT).solution
    assert residual.abs().max() < 1e-9  # every draw lies in the span of the mode's features


def test_singular_covariances_can_be_sampled() -> None:
    """Rank one, Σ = vvᵀ: every draw is θ* + zv with the same z for all weights."""
    fit, _ = fitted("line", ())
    v = torch.tensor([2.0, -1.0])
    outputs = sampled_outputs(fit.network, torch.outer(v, v), torch.tensor([[0.5], [1.0]]))
    offsets = outputs[..., 0] - fit.network(torch.tensor([[0.5], [1.0]]))[:, 0]
    assert offsets[:, 0].abs().max() < 1e-6  # v is orthogonal to (½, 1)
    assert offsets[:, 1].std() > 0.8


def test_sampled_outputs_depend_on_the_seed_alone() -> None:
    fit, problem = fitted("xor")
    matrix = laplace.dense_covariance(fit, problem, Prior(1.0))
    state = torch.get_rng_state()
    first = sampled_outputs(fit.network, matrix, problem.inputs, samples=30)
    again = sampled_outputs(fit.network, matrix, problem.inputs, samples=30, batch_size=7)
    torch.testing.assert_close(first, again)
    assert torch.equal(state, torch.get_rng_state())
    assert not torch.equal(
        first, sampled_outputs(fit.network, matrix, problem.inputs, samples=30, seed=1)
    )


def test_sample_decomposition_is_the_label_wise_one_of_the_probabilities() -> None:
    draws = torch.randn(11, 6, 1)
    binary = sample_decomposition(draws, make_problem("xor"))
    expected = label_wise_decomposition(draws.sigmoid())
    torch.testing.assert_close(binary.epistemic, expected.epistemic)
    torch.testing.assert_close(binary.aleatoric, expected.aleatoric)
    draws = torch.randn(11, 6, 4)
    several = sample_decomposition(draws, make_problem("rings-4"))
    expected = label_wise_decomposition(draws.softmax(-1))
    torch.testing.assert_close(several.total, expected.total)
    torch.testing.assert_close(several.epistemic, expected.epistemic)
    draws = torch.randn(11, 6, 1)
    value = sample_decomposition(draws, make_problem("wave", noise=0.5))
    torch.testing.assert_close(value.epistemic, draws.var(0, correction=0))
    torch.testing.assert_close(value.aleatoric, torch.full((6, 1), 0.25))


@pytest.mark.bad_input
def test_bad_arguments_are_named() -> None:
    xor: Problem = make_problem("xor")
    with pytest.raises(ValueError, match="covariance: a variance"):
        linearised_predictive(torch.zeros(2, 1), -torch.ones(2, 1, 1), xor)
    with pytest.raises(ValueError, match="covariance: a variance"):
        linearised_predictive(torch.zeros(2, 1), torch.full((2, 1, 1), math.nan), xor)
    with pytest.raises(ValueError, match="covariance: shape"):
        linearised_predictive(torch.zeros(2, 1), torch.ones(3, 1, 1), xor)
    with pytest.raises(ValueError, match="problem of 1 outputs"):
        linearised_predictive(torch.zeros(2, 2), torch.ones(2, 2, 2), xor)
    with pytest.raises(ValueError, match="outputs: shape"):
        sample_decomposition(torch.zeros(1, 5, 1), xor)
    with pytest.raises(ValueError, match="outputs: shape"):
        sample_decomposition(torch.zeros(3, 5, 2), xor)
    with pytest.raises(ValueError, match="outputs: they contain NaN"):
        sample_decomposition(torch.full((3, 5, 1), math.nan), xor)
    network = Architecture(1, (), 1).build()
    with pytest.raises(ValueError, match="eigenvalue"):
        sampled_outputs(network, torch.diag(torch.tensor([1.0, -1.0])), torch.zeros(2, 1))
