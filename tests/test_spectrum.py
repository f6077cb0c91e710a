"""The spectra of §3.2: Gram against dense matrices, closed forms, what the gradients see."""

from __future__ import annotations

import builtins
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from gnuq.figures import spectrum as figures
from gnuq.gradnorm import gradient_factors
from gnuq.networks import Architecture, MapFit, Prior
from gnuq.posteriors.laplace import dense_covariance
from gnuq.problems import Problem, make_problem
from gnuq.results import hessian, spectrum
from gnuq.results.spectra import hessian as plain_hessian
from gnuq.scaling import Run

Case = tuple[MapFit, Problem, Prior]
PRIORS = {"unit": Prior(0.7), "fan-in": Prior(1 / 2.25, "fan_in")}
#: Fewer parameters than rows of K, and more.
HIDDEN = {"narrow": (6, 6), "wide": (14, 14)}


@pytest.fixture(params=PRIORS)
def prior(request: pytest.FixtureRequest) -> Prior:
    return PRIORS[request.param]


@pytest.fixture(params=HIDDEN)
def case(request: pytest.FixtureRequest, prior: Prior) -> Case:
    """No result here needs a mode, so the weights are as they start."""
    problem = make_problem("rings-4", points=24, seed=1)
    network = Architecture(2, HIDDEN[request.param], 4).build(seed=2).requires_grad_(False)
    return MapFit(network, 0.0, 0.0, 0), problem, prior


def covariance(case: Case) -> Tensor:
    """Σ in the prior's coordinates, multiplied out."""
    fit, _, prior = case
    roots = prior.precisions_of(fit.network).sqrt()
    return roots[:, None] * dense_covariance(*case) * roots


def distance_from_identity(matrix: Tensor) -> float:
    """‖Σ − cI‖ / ‖Σ‖, c found by trying: no c does better than the trace's."""
    size = len(matrix)
    tried = torch.linspace(0, 2 * float(matrix.diagonal().max()), 20_001, dtype=matrix.dtype)
    squares = matrix.square().sum() - 2 * tried * matrix.trace() + size * tried**2
    return float((squares.min().clamp_min(0) / matrix.square().sum()).sqrt())


def test_the_gram_matrix_has_the_dense_ggn_s_eigenvalues(case: Case) -> None:
    fit, problem, prior = case
    found = spectrum.curvature(fit, problem, prior)
    rows = found.laplace.training.jacobian() / prior.precisions_of(fit.network).sqrt()
    dense = torch.linalg.eigvalsh(rows.mT @ rows).flip(0)
    rank = len(found.eigenvalues)
    torch.testing.assert_close(found.eigenvalues, dense[:rank], rtol=1e-8, atol=1e-9)
    assert dense[rank:].abs().sum() < 1e-9 * dense[0]
    assert rank <= min(len(dense), 3 * 24)  # softmax: one direction of the logits has no curvature


def test_effective_dimension_is_the_trace_of_ggn_times_covariance(case: Case) -> None:
    found = spectrum.curvature(*case)
    rows = found.laplace.training.jacobian()
    trace = float((rows.mT @ rows * dense_covariance(*case)).sum())
    assert spectrum.effective_dimension(found.eigenvalues) == pytest.approx(trace, rel=1e-9)


def test_distances_are_those_of_the_dense_covariance(case: Case) -> None:
    fit, _, prior = case
    found = spectrum.curvature(*case)
    size = found.parameters
    assert spectrum.distance(found.eigenvalues, size) == pytest.approx(
        distance_from_identity(covariance(case)), abs=1e-5
    )
    assert spectrum.distance_of_parameters(found.laplace) == pytest.approx(
        distance_from_identity(dense_covariance(*case)), abs=1e-5
    )
    alone = torch.diag(1 / prior.precisions_of(fit.network))
    assert spectrum.distance_of_prior(prior, fit.network) == pytest.approx(
        distance_from_identity(alone), abs=1e-5
    )


def test_an_isotropic_covariance_has_no_distance() -> None:
    """Neither without data nor where they tell all directions the same."""
    assert spectrum.distance(torch.tensor([]), 5) == 0
    assert spectrum.distance(torch.full((5,), 3.0), 5) == 0
    assert spectrum.distance(torch.full((4,), 3.0), 5) > 0.3
    with pytest.raises(ValueError, match="exceed parameters"):
        spectrum.distance(torch.ones(3), 2)


def test_the_ratio_is_laplace_s_variance_over_the_prior_s(case: Case) -> None:
    found = spectrum.curvature(*case)
    points = torch.randn(30, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    views = spectrum.seen(found, points)
    variance = found.laplace.variance(points, lambda outputs: outputs.softmax(1))
    torch.testing.assert_close(views["ratio"] * views["norm"], variance, rtol=1e-8, atol=1e-14)
    assert views["ratio"].max() <= 1
    assert views["ratio"].min() > 0


def test_the_ratio_is_one_where_the_data_say_nothing(case: Case) -> None:
    """A prior that is certain enough leaves nothing to learn, in either coordinates."""
    fit, problem, prior = case
    found = spectrum.curvature(fit, problem, replace(prior, precision=1e9))
    views = spectrum.seen(found, problem.inputs)
    torch.testing.assert_close(views["ratio"], torch.ones_like(views["ratio"]), rtol=0, atol=1e-5)
    assert views["stiff"].abs().max() == 0
    assert spectrum.distance(found.eigenvalues, found.parameters) < 1e-5


def test_the_stiff_share_is_a_projection(case: Case) -> None:
    """Against eigenvectors of the dense GGN; and what is not stiff keeps half its variance."""
    fit, problem, prior = case
    found = spectrum.curvature(fit, problem, prior)
    roots = prior.precisions_of(fit.network).sqrt()
    rows = found.laplace.training.jacobian() / roots
    values, vectors = torch.linalg.eigh(rows.mT @ rows)
    objective = lambda outputs: outputs.softmax(1)  # noqa: E731
    g = gradient_factors(fit.network, problem.inputs, objective).jacobian() / roots
    share = (g @ vectors[:, values > 1]).square().sum(1) / g.square().sum(1)
    views = spectrum.seen(found, problem.inputs)
    torch.testing.assert_close(views["stiff"].flatten(), share, rtol=1e-8, atol=1e-10)
    assert (views["ratio"] >= (1 - views["stiff"]) / 2 - 1e-9).all()


@pytest.fixture(scope="module")
def tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    return spectrum.spectrum(Run(0, "fan-in"), hessian=False)


def test_softmax_regression_s_row_says_what_it_is(tables: tuple) -> None:
    """12 parameters, 3 directions of them without effect on the probabilities."""
    rows, eigenvalues = tables
    assert list(rows["region"]) == ["wide", "inside"]
    assert (rows["parameters"] == 12).all()
    assert (rows["rank"] == 9).all()
    assert not rows["flat"].any()
    assert (rows["distance_raw"] != rows["distance"]).all()
    assert (rows["ratio_low"] <= rows["ratio_median"]).all()
    assert list(eigenvalues["rank"]) == list(range(1, 10))


def test_thinning_keeps_both_ends_of_every_matrix() -> None:
    whole = pd.DataFrame(
        {"matrix": ["GGN"] * 900 + ["Hessian"] * 2000, "rank": [*range(1, 901), *range(1, 2001)]}
    )
    kept = spectrum.thinned(whole)
    for matrix, size in {"GGN": 900, "Hessian": 2000}.items():
        ranks = set(kept.loc[kept["matrix"] == matrix, "rank"])
        assert ranks >= {*range(1, 101), *range(size - 9, size + 1)}
        assert len(ranks) < 240


@pytest.fixture
def _curvlinops() -> None:
    pytest.importorskip("curvlinops", reason="pip install -e '.[oracle]'")


@pytest.mark.usefixtures("_curvlinops")
def test_curvlinops_finds_the_same_ggn(case: Case) -> None:
    found = spectrum.curvature(*case).eigenvalues
    peer = hessian.gauss_newton_by_curvlinops(*case)
    torch.testing.assert_close(found, peer[: len(found)], rtol=1e-8, atol=1e-9)


@pytest.mark.usefixtures("_curvlinops")
def test_the_hessian_is_the_plain_one_less_the_prior(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole, and by Lanczos at both ends; at these weights some eigenvalues are negative."""
    fit, problem, prior = case
    roots = prior.precisions_of(fit.network).sqrt()
    posterior = plain_hessian(fit, problem, prior) / roots[:, None] / roots
    exact = torch.linalg.eigvalsh(posterior).flip(0).numpy() - 1
    whole = hessian.hessian_eigenvalues(fit, problem, prior)
    np.testing.assert_allclose(whole["eigenvalue"], exact, rtol=1e-8, atol=1e-8)
    assert exact[-1] < -1e-3
    monkeypatch.setattr(hessian, "DENSE", 10)
    monkeypatch.setattr(hessian, "LARGEST", 12)
    ends = hessian.hessian_eigenvalues(fit, problem, prior)
    np.testing.assert_allclose(ends["eigenvalue"], exact[ends["rank"] - 1], rtol=1e-3, atol=2e-3)


def test_without_curvlinops_the_error_says_how_to_get_it(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def missing(name: str, *rest: Any, **more: Any) -> Any:
        if name == "curvlinops":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ImportError, match=r"pip install 'gnuq\[oracle\]'"):
        hessian.hessian_eigenvalues(*case)


@pytest.fixture
def drawn(tables: tuple) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Two sizes, both priors, a Hessian with a negative eigenvalue."""
    rows, values = tables
    row, hess = rows[rows["region"] == "wide"], values.assign(matrix="Hessian")
    hess.loc[hess["rank"] == 9, "eigenvalue"] = -0.2
    values = pd.concat([values, hess])
    several = [
        frame.assign(parameters=size, prior=prior)
        for frame in (row, values)
        for size in (12, 132)
        for prior in figures.PRIORS
    ]
    return pd.concat(several[:4]), pd.concat(several[4:])


def test_figures_show_every_prior_and_size(drawn: tuple) -> None:
    rows, values = drawn
    curves = figures.eigenvalue_curves(values)
    assert len(curves.layout.updatemenus[0].buttons) == 4
    assert sum(trace.line.dash == "dot" for trace in curves.data) == 4  # the negative ones
    assert not figures.eigenvalue_curves(values, menu=False).layout.updatemenus
    told = rows[["parameters", "prior"]].assign(spearman=0.5, pearson=0.6)
    assert len(figures.isotropy(rows.assign(flat=True), told).data) == 10
    assert sum(bool(trace.visible) for trace in figures.seen_bands(rows).data) == 4
