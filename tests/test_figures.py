"""Figures show the numbers that they were given."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from gnuq import figures, results
from gnuq.figures.style import TITLES
from gnuq.problems import make_problem


def grid_frame(side: int = 12) -> pd.DataFrame:
    x, y = np.meshgrid(np.linspace(-2, 2, side), np.linspace(-1, 1, side))
    frame = pd.DataFrame({"x": x.ravel(), "y": y.ravel(), "inside": np.abs(x.ravel()) < 1})
    names = ("hmc_epistemic", *figures.EPISTEMIC_METHODS)
    return frame.assign(**{n: (i + 1) * frame["x"] ** 2 + frame["y"] for i, n in enumerate(names)})


@pytest.fixture
def maps() -> go.Figure:
    return figures.uncertainty_maps(
        grid_frame(),
        make_problem("xor", points=40),
        reference="hmc_epistemic",
        methods=figures.EPISTEMIC_METHODS,
    )


def test_each_map_holds_its_column_in_place(maps: go.Figure) -> None:
    frame = grid_frame()
    names = ("hmc_epistemic", *figures.EPISTEMIC_METHODS)
    for trace, name in zip(maps.data, names, strict=False):
        assert trace.type == "heatmap"
        expected = frame.pivot_table(index="y", columns="x", values=name).to_numpy()
        np.testing.assert_allclose(trace.z, expected, rtol=2**-10)
        assert trace.zmax == pytest.approx(expected.max(), rel=2**-10)
    assert len({str(trace.colorscale) for trace in maps.data[:4]}) == 1


def test_each_button_shows_its_method_and_keeps_the_reference(maps: go.Figure) -> None:
    for i, button in enumerate(maps.layout.updatemenus[0].buttons):
        visible = button.args[0]["visible"]
        assert visible[:4] == [True, *(j == i for j in range(3))]
        assert all(visible[4:])
        assert button.args[1]["annotations[1].text"] == TITLES[figures.EPISTEMIC_METHODS[i]]
        assert len(visible) == len(maps.data)


def test_every_training_point_is_drawn_in_both_panels(maps: go.Figure) -> None:
    drawn = sum(len(trace.x) for trace in maps.data if trace.type == "scatter")
    assert drawn == 2 * 40


def test_agreement_shares_both_axes_relative_to_the_maximum() -> None:
    figure = figures.agreement(
        grid_frame(), reference="hmc_epistemic", methods=figures.EPISTEMIC_METHODS
    )
    assert sum(len(trace.x) for trace in figure.data) == 144
    assert max(np.max(trace.x) for trace in figure.data) == pytest.approx(1)
    for button in figure.layout.updatemenus[0].buttons:
        lengths = [len(x) for x in button.args[0]["x"]]
        assert lengths == [len(trace.x) for trace in figure.data]


def test_dots_show_ours_with_range_and_the_papers() -> None:
    rows = [
        {
            "problem": p,
            "comparison": c,
            "quantity": "epistemic",
            "class": "overall",
            "pearson": r,
            "spearman": r,
        }
        for p in ("linear", "xor")
        for c in results.EPISTEMIC
        for r in (0.5, 0.7)
    ]
    table = results.table(pd.DataFrame(rows), "epistemic", {"xor": {"laplace": (0.1, 0.2)}})
    figure = figures.table_dots(table, results.EPISTEMIC_LABELS, colour="epistemic")
    ours = next(t for t in figure.data if t.name == "Pearson, ours")
    np.testing.assert_allclose(ours.x, 0.6)
    np.testing.assert_allclose(ours.error_x.array, 0.1)
    printed = [t for t in figure.data if t.name == "paper, second column"][1]
    position = list(results.EPISTEMIC_LABELS).index("laplace")
    assert printed.x[position] == 0.2
    assert np.isnan(np.delete(printed.x, position)).all()


def test_sensitivity_switches_every_curve() -> None:
    rows = [
        {"problem": p, "prior": q, "region": g, "comparison": c, "pearson": 0.1, "spearman": 0.2}
        for p in ("xor", "rings")
        for q in ("a", "b")
        for g in ("wide", "inside")
        for c in ("gradient_norm", "bernoulli")
    ]
    labels = {"gradient_norm": "norm", "bernoulli": "p(1 − p)"}
    figure = figures.sensitivity(pd.DataFrame(rows), labels, {"a": "A", "b": "B"})
    assert len(figure.data) == 8
    pearson, spearman = (b.args[0]["y"] for b in figure.layout.updatemenus[0].buttons)
    assert pearson == [[0.1, 0.1]] * 8
    assert spearman == [[0.2, 0.2]] * 8


def test_gradient_bars_start_at_the_largest_norm() -> None:
    gradients = pd.DataFrame([[0.1, 0.0], [0.3, -0.4]], index=["a", "b"], columns=["v", "w"])
    figure = figures.gradient_bars(gradients)
    assert [bar.visible for bar in figure.data] == [False, True]
    assert "0.2500" in figure.layout.title.text
    assert figure.layout.sliders[0].active == 1


def test_curves_keep_their_columns() -> None:
    frame = pd.DataFrame({"x": [0.0, 1.0], "one": [1.0, 2.0], "two": [3.0, 4.0]})
    figure = figures.variance_curves(frame)
    assert [trace.name for trace in figure.data] == ["one", "two"]
    np.testing.assert_array_equal(figure.data[1].y, [3.0, 4.0])
