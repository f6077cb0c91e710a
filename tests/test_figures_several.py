"""What the figures of several classes, regression and methods draw is what their tables hold."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from gnuq.figures.calibration import constants
from gnuq.figures.maps import class_maps
from gnuq.figures.methods import VIEWS, cost_and_accuracy, method_heat
from gnuq.figures.regression import regression
from gnuq.problems import make_grid, make_problem


def test_each_button_shows_its_own_classs_pair_of_maps() -> None:
    problem = make_problem("clusters-3", points=30)
    points = make_grid(problem, resolution=6).points.numpy()
    frame = pd.DataFrame(np.tile(points, (3, 1)), columns=["x", "y"])
    frame["class"] = np.repeat([0, 1, 2], len(points))
    frame["hmc_epistemic"] = np.arange(len(frame), dtype=float)
    frame["gradient_norm"] = 2 * frame["hmc_epistemic"]
    figure = class_maps(frame, problem, reference="hmc_epistemic", method="gradient_norm")
    for k, button in enumerate(figure.layout.updatemenus[0].buttons):
        shown = [t for t, on in zip(figure.data, button.args[0]["visible"], strict=True) if on]
        left, right = (t for t in shown if t.type == "heatmap")
        expected = frame.loc[frame["class"] == k, "hmc_epistemic"].to_numpy().reshape(6, 6)
        np.testing.assert_allclose(left.z, expected[::2, ::2], rtol=1e-3)
        np.testing.assert_allclose(right.z, 2 * expected[::2, ::2], rtol=1e-3)
        assert len(shown) == 2 + 2 * problem.classes  # and the points of every class, twice


def test_the_heat_map_puts_every_number_in_its_cell() -> None:
    rows = [("a", "p", "epistemic", 0.1, 0.2), ("b", "q", "aleatoric", 0.3, 0.4)]
    found = pd.DataFrame(rows, columns=["method", "problem", "quantity", "pearson", "spearman"])
    figure = method_heat(found)
    shown = {label: trace.z for label, trace in zip(VIEWS, figure.data, strict=True)}
    np.testing.assert_equal(shown["epistemic, Spearman"], [[0.2, np.nan], [np.nan, np.nan]])
    np.testing.assert_equal(shown["aleatoric, Pearson"], [[np.nan, np.nan], [np.nan, 0.3]])


def test_costs_keep_each_method_with_its_label() -> None:
    frame = pd.DataFrame(
        {
            "method": ["b", "a"], "label": ["b", "a"], "family": "one", "setup": [1.0, 2.0],
            "prediction": [30.0, 3.0], "spearman": [0.5, 0.6],
        }
    )  # fmt: skip
    (dots,) = cost_and_accuracy(frame).data
    assert list(zip(dots.text, dots.x, dots.y, strict=True)) == [("a", 3.0, 0.6), ("b", 30.0, 0.5)]


def test_the_band_is_two_standard_deviations_wide() -> None:
    problem = make_problem("wave", points=20)
    x = np.linspace(-2, 2, 5)
    frame = pd.DataFrame({"x": x, "hmc_mean": x, "hmc_epistemic": 0.25, "value": x})
    frame = frame.assign(laplace_epistemic=0.16, scaled_norm=0.09)
    figure = regression(frame, problem)
    low, high = figure.data[:2]
    np.testing.assert_allclose(high.y - low.y, 2.0)
    curves = {trace.name: trace.y[0] for trace in figure.data if trace.xaxis == "x2"}
    assert list(curves.values()) == pytest.approx([0.5, 0.4, 0.3])


def test_a_constant_lies_within_the_line_of_its_problem() -> None:
    row = {"problem": ["p"], "low": [1.0], "median": [2.0], "high": [4.0]}
    found = pd.DataFrame(row | {"constant": [1.5], "mean_variance": [9.0]})
    spread, *dots = constants(found).data
    assert list(spread.x[:2]) == [1.0, 4.0]
    assert {t.name: t.x[0] for t in dots}["c, least squares"] == 1.5
