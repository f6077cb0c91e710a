"""What the chapter on §2 says about MAP, Eq. (1), Eq. (2) and their axioms is true."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch

from gnuq.figures import background as figures
from gnuq.protocol import Experiment
from gnuq.walkthrough import axioms, background


def test_regularised_training_is_map_estimation() -> None:
    check = background.regularised_training(("linear", "xor"))
    assert check["gradient norm at the mode"].max() < 1e-4
    assert check["distance from the closed form"].max() < 1e-9
    assert list(check["parameters"]) == [3, 1185]


@pytest.mark.parametrize(("a", "b"), [(1.0, 1.0), (0.2, 9.8), (3.0, 5.0)])
def test_beta_moments_agree_with_draws(a: float, b: float) -> None:
    information, variance = background.beta_epistemic(a, b)
    p = np.random.default_rng(0).beta(a, b, 100_000)
    with np.errstate(divide="ignore", invalid="ignore"):
        entropy = np.nan_to_num(-p * np.log(p)) + np.nan_to_num(-(1 - p) * np.log1p(-p))
    m = a / (a + b)
    entropy_of_mean = -m * math.log(m) - (1 - m) * math.log(1 - m)
    for exact, sample in ((entropy_of_mean - information, entropy), (variance, (p - m) ** 2)):
        assert abs(sample.mean() - exact) < 4 * sample.std() / len(p) ** 0.5


def test_a_narrow_posterior_has_information_proportional_to_variance() -> None:
    for m in (0.5, 0.1):
        information, variance = background.beta_epistemic(m * 1e5, (1 - m) * 1e5)
        assert information == pytest.approx(variance / (2 * m * (1 - m)), rel=1e-3)


def test_the_pair_is_ordered_differently_exactly_and_by_draws() -> None:
    a, b = background.disagreeing_pair().to_dict("index").values()
    assert a["I"] > 2 * b["I"]
    assert 2 * a["Var"] < b["Var"]
    assert a["I, drawn"] > b["I, drawn"]
    assert a["Var, drawn"] < b["Var, drawn"]


def test_both_decompositions_add_up_for_any_posterior() -> None:
    p = torch.rand(50) ** 3
    row = axioms.measures({"any": p}).loc["any"]
    for number in (1, 2):
        parts = row[f"aleatoric ({number})"] + row[f"epistemic ({number})"]
        assert parts == pytest.approx(row[f"total ({number})"], abs=1e-14)


def test_neither_epistemic_part_is_greatest_at_the_uniform() -> None:
    found = axioms.measures({"uniform": torch.arange(0.5, 10_000) / 10_000, "opposed": [0, 1]})
    uniform, opposed = found.loc["uniform"], found.loc["opposed"]
    assert uniform["epistemic (1)"] == pytest.approx(math.log(2) - 0.5, abs=1e-6)
    assert uniform["epistemic (2)"] == pytest.approx(1 / 12, abs=1e-6)
    assert opposed["epistemic (1)"] == pytest.approx(math.log(2))
    assert opposed["epistemic (2)"] == pytest.approx(1 / 4)
    for number in (1, 2):
        total = f"total ({number})"
        assert uniform[total] == pytest.approx(opposed[total])


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_complete_ignorance_agrees_with_dirichlet_draws(classes: int) -> None:
    exact = axioms.complete_ignorance((classes,)).loc[classes]
    p = np.random.default_rng(0).dirichlet(np.ones(classes), 100_000)
    entropy = -(p * np.log(p)).sum(1)
    error = 4 / len(p) ** 0.5
    assert abs(math.log(classes) - entropy.mean() - exact["I"]) < error * entropy.std()
    squares = ((p - 1 / classes) ** 2).sum(1)
    assert abs(squares.mean() - exact["Σ Var"]) < error * squares.std()


def test_shares_cross_at_four_classes() -> None:
    found = axioms.complete_ignorance(range(2, 60))
    larger = found["share of Σ Var"] > found["share of I"]
    assert list(larger[larger].index) == [2, 3]


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_spreads_raise_both_epistemic_parts_and_no_total(classes: int) -> None:
    changes = axioms.random_spreads(classes, pairs=300)
    for number in (1, 2):
        assert changes[f"epistemic ({number})"].min() > 0
        assert changes[f"aleatoric ({number})"].max() < 0
        assert changes[f"total ({number})"].abs().max() < 1e-12


def test_a_spread_adds_its_own_variance() -> None:
    found = axioms.measures({"before": [0.3, 0.5], "after": [0.2, 0.4, 0.4, 0.6]})
    rise = found["epistemic (2)"].diff().iloc[-1]
    assert rise == pytest.approx(0.1**2)


def test_shifts_separate_the_two() -> None:
    shift = axioms.measures({"before": [0.45, 0.55], "after": [0.85, 0.95]})
    assert shift["epistemic (2)"].to_list() == pytest.approx([0.05**2, 0.05**2])
    assert shift.loc["after", "epistemic (1)"] > 2.5 * shift.loc["before", "epistemic (1)"]
    centre = axioms.measures({"before": [0.15] * 3 + [0.9] * 2, "after": [0.2] * 3 + [0.95] * 2})
    assert centre["aleatoric (1)"].diff().iloc[-1] < 0 < centre["aleatoric (2)"].diff().iloc[-1]


def test_verdicts_follow_the_numbers() -> None:
    still = axioms.measures({"before": [0.4, 0.6], "after": [0.4, 0.6]})
    spread = axioms.measures({"before": [0.4, 0.6], "after": [0.3, 0.5, 0.5, 0.7]})
    changes = spread.diff().iloc[1:]
    table = axioms.verdicts(ignorance=still, spreads=changes, shift=spread, centre=still)
    for column in ("Eq. (1), here", "Eq. (2), here"):
        assert table[column].to_list() == ["holds", "holds", "violated", "violated"]


def test_the_information_of_a_record_is_positive_and_bounded() -> None:
    for name in background.BINARY:
        frame = background.entropy_map(Experiment(name))
        information = frame["mutual_information"]
        assert information.min() > 0
        assert information.max() < math.log(2)
        assert (information >= 2 * frame["hmc_epistemic"] - 1e-6).all()  # strong concavity of h


def test_the_error_of_the_total_is_its_factorisation() -> None:
    frame = background.point_against_mean(Experiment("linear"))
    p, m = frame["point"], frame["mean"]
    np.testing.assert_allclose(frame["total_error"], (p - m) * (1 - p - m), atol=1e-12)


def test_the_assumption_costs_as_much_as_the_epistemic_part_on_networks() -> None:
    gaps = background.point_gaps(("linear", "xor"), seeds=(0,))
    assert gaps.loc["linear", "largest |p* − p̄|"] < 0.01
    assert gaps.loc["xor", "error / Var[p]"] > 0.9
    assert (gaps["p̄ nearer ½, share"] > 0.7).all()


def test_figures_show_what_they_were_given() -> None:
    curves = figures.information_curves(
        background.beta_family((0.5,)), background.disagreeing_pair()
    )
    assert (np.diff(curves.data[0].y) > 0).all()
    assert list(curves.data[1].text) == ["A", "B"]
    x, y = np.meshgrid([0.0, 1.0, 2.0], [0.0, 1.0])
    frame = pd.DataFrame({"x": x.ravel(), "y": y.ravel(), "a": np.arange(6.0), "b": 1.0})
    maps = figures.two_maps(frame, {"a": "A", "b": "B"})
    np.testing.assert_array_equal(maps.data[0].z, [[0, 1, 2], [3, 4, 5]])
    dots = figures.point_and_mean({"one": pd.DataFrame({"point": [0.1], "mean": [0.2]})})
    assert (dots.data[0].x[0], dots.data[0].y[0]) == (0.1, 0.2)
    lines = pd.DataFrame({"size": [25, 100], "x": 0.0, "aleatoric": 0.2, "epistemic": [0.1, 0.05]})
    assert [trace.y[0] for trace in figures.shrinking(lines).data] == [0.2, 0.1, 0.2, 0.05]
