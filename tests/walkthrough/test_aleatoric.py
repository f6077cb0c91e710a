"""The chapter on §3.3: an exact identity, a symmetry, and two facts of linear algebra."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from gnuq.estimators import label_wise_decomposition
from gnuq.networks import Architecture
from gnuq.posteriors.settings import HMC
from gnuq.problems import make_problem
from gnuq.walkthrough import aleatoric, mean_weights


@pytest.fixture(scope="module")
def logistic() -> mean_weights.MeanWeights:
    pytest.importorskip("pymc")
    settings = HMC(draws=2000, tune=300)
    architecture = Architecture(2, (), 1)
    return mean_weights.compare(make_problem("linear"), architecture, settings, resolution=10)


@pytest.mark.parametrize("seed", range(5))
def test_the_four_terms_are_the_aleatoric_part_exactly(seed: int) -> None:
    """E[p(1 − p)] = p*(1 − p*) + (1 − 2p*)d − d² − Var[p] for any draws and any p*."""
    p = torch.randn(50, 20, generator=torch.Generator().manual_seed(seed)).mul(3).sigmoid()
    point = np.random.default_rng(seed).uniform(size=20)
    terms = aleatoric.expand(point, p.mean(0).numpy(), p.var(0, correction=0).numpy())
    exact = label_wise_decomposition(p).aleatoric.numpy()
    np.testing.assert_allclose(terms.total, exact, atol=1e-15)
    assert abs(terms.kept - exact).max() > 0.01


def test_if_the_mean_is_the_mode_the_estimate_is_the_total() -> None:
    """With d = 0 the error is Var[p], and p*(1 − p*) is the total of Eq. (2)."""
    p = torch.rand(50, 20)
    mean, variance = p.mean(0).numpy(), p.var(0, correction=0).numpy()
    terms = aleatoric.expand(mean, mean, variance)
    np.testing.assert_allclose(terms.kept, label_wise_decomposition(p).total.numpy(), atol=1e-15)
    np.testing.assert_allclose(terms.kept - terms.total, variance, atol=1e-15)


def test_sizes_and_levels_of_a_frame_that_is_known() -> None:
    """p* = ½ and p̄ = ½ ± a: no first-order term, d² = a², and the level is ¼ / (¼ − a² − v)."""
    a, v = 0.1, 0.02
    signs = np.array([1, -1] * 10)
    mean = 0.5 + a * signs
    slope = np.linspace(0.9, 1.1, 20)  # correlations of a constant would be undefined
    frame = pd.DataFrame({"probability": 0.5, "hmc_mean": mean, "hmc_epistemic": v}, range(20))
    total = mean * (1 - mean) * slope
    frame = frame.assign(
        problem="known", seed=0, inside=True, bernoulli=0.25 * slope, hmc_total=total,
        hmc_aleatoric=total - v, second_order_aleatoric=-slope, best_correction=0.25 * slope - v,
    )  # fmt: skip
    sizes = aleatoric.term_sizes(frame).set_index("region").loc["whole grid"]
    assert sizes["first_order"] == 0
    assert sizes["shift"] == pytest.approx(a**2 / 0.25)
    assert sizes["spread"] == pytest.approx(v / 0.25)
    assert sizes["error"] == pytest.approx((a**2 + v) / 0.25)
    held = aleatoric.levels(frame).loc["known"]
    level = 0.25 / (0.25 - a**2 - v)
    assert held.loc[("p*(1 − p*)", "aleatoric"), "level"] == pytest.approx(level)
    assert held.loc[("p*(1 − p*) − gᵀΣg, Laplace", "aleatoric"), "negative"] == 1


def test_one_input_fixes_one_direction(logistic: mean_weights.MeanWeights) -> None:
    """Gradients x ↦ p(1 − p)(x, 1) of logistic regression span R³ from three inputs on."""
    ranks = mean_weights.rank_growth(logistic.jacobian, (1, 2, 3, 100))
    assert ranks.tolist() == [1, 2, 3, 3]


@pytest.mark.bad_input
@pytest.mark.parametrize("counts", [(0, 1), (1, 4)])
def test_a_rank_of_no_rows_or_too_many_is_refused(counts: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"counts: .* must lie in 1 … 3"):
        mean_weights.rank_growth(torch.eye(3), counts)


def test_for_logistic_regression_two_terms_give_the_shift(
    logistic: mean_weights.MeanWeights,
) -> None:
    """gᵀ(E[θ] − θ*) alone does not predict d; with the next term it does, to Monte Carlo noise."""
    d, first = logistic.grid["d"], logistic.grid["first_order"]
    both = first + mean_weights.logistic_second_order(logistic)
    assert both.corr(d) > 0.97
    assert first.corr(d) < 0.3
    assert (first - d).abs().mean() > d.abs().mean()
    third_order = 0.25 * d.abs().max()
    assert ((both - d).abs() < third_order + 4 * logistic.grid["error"]).all()


def test_flipping_a_tanh_unit_changes_nothing() -> None:
    """The symmetry that puts E[θ] of hidden and output weights at zero."""
    architecture = Architecture(2, (3,), 1)
    w = np.random.default_rng(0).normal(size=architecture.parameters)
    flipped = w.copy()
    flipped[[0, 1, 6, 9]] *= -1  # unit 0: its two weights, its bias, its output weight
    points = torch.randn(7, 2)
    expected = mean_weights.at_weights(architecture, w, points)
    found = mean_weights.at_weights(architecture, flipped, points)
    np.testing.assert_allclose(found, expected, atol=1e-15)
    assert abs(mean_weights.at_weights(architecture, -w, points) - expected).max() > 0.01


def test_the_mean_of_hidden_weights_is_zero() -> None:
    """Within Monte Carlo error for every weight; the network at the mean is a constant."""
    pytest.importorskip("pymc")
    settings = HMC(draws=1000, tune=300, path_length=4.0)
    found = mean_weights.compare(
        make_problem("xor"), Architecture(2, (8,), 1), settings, resolution=6
    )
    assert found.weights["r̂"].max() < 1.05  # the chains cross between the mirrored modes
    z = found.weights["z"].iloc[:-1]
    assert len(z) == 32
    assert z.abs().max() < 4.5
    lengths = np.linalg.norm(found.weights[["mode", "mean"]], axis=0)
    assert lengths[1] < 0.15 * lengths[0]
    assert np.ptp(found.grid["point"]) > 0.9 > 4 * np.ptp(found.grid["at_mean"])
