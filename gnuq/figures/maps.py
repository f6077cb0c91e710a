"""Uncertainty maps of the plane, and their agreement point by point."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from gnuq.display import COLOURS
from gnuq.figures.style import CLASS_SYMBOLS, MAP_SCALE, TITLES, buttons
from gnuq.problems import Problem

EPISTEMIC_METHODS = ("gradient_norm", "laplace_epistemic", "bernoulli")
ALEATORIC_METHODS = ("bernoulli", "linearised_aleatoric", "sampled_aleatoric")


def uncertainty_maps(
    frame: pd.DataFrame, problem: Problem, *, reference: str, methods: Sequence[str]
) -> go.Figure:
    """Figures 2, 5, 6 and 8: the reference beside one method, which buttons choose.

    Args:
        frame: one row per grid point (`gnuq.results.maps`), the first coordinate fastest.
        problem: whose training points are drawn on top.
        reference: the column of the left map.
        methods: the columns that the right map can show.

    Returns:
        Two maps with one relative colour scale, from zero to each map's own maximum, because
        ‖g‖² knows no absolute scale. Hovering shows the raw value.
    """
    x, y = np.unique(frame["x"]), np.unique(frame["y"])
    titles = (TITLES[reference], TITLES[methods[0]])
    figure = make_subplots(
        1, 2, shared_yaxes=True, horizontal_spacing=0.03, subplot_titles=titles
    )  # fmt: skip
    for i, name in enumerate((reference, *methods)):
        shown = _heatmap(x, y, _image(frame[name], len(y)), visible=i < 2, show_scale=i > 0)
        figure.add_trace(shown, 1, 1 if i == 0 else 2)
    for column in (1, 2):
        for trace in _points(problem):
            figure.add_trace(trace, 1, column)
    items = [_button(i, name, len(methods), len(figure.data)) for i, name in enumerate(methods)]
    return _finish(figure, x, y, items)


def class_maps(
    frame: pd.DataFrame, problem: Problem, *, reference: str, method: str, stride: int = 2
) -> go.Figure:
    """Maps of several classes: the reference beside one method; buttons choose the class.

    Args:
        frame: one row per class and grid point (`gnuq.results.maps`), class by class.
        problem: whose training points are drawn on top.
        reference: the column of the left map.
        method: the column of the right map.
        stride: draw every `stride`-th grid line, to keep the page light.
    """
    x, y = np.unique(frame["x"])[::stride], np.unique(frame["y"])[::stride]
    figure = make_subplots(
        1, 2, shared_yaxes=True, horizontal_spacing=0.03,
        subplot_titles=(TITLES[reference], TITLES[method]),
    )  # fmt: skip
    classes = list(frame["class"].unique())
    for k in classes:
        part = frame[frame["class"] == k]
        for column, name in enumerate((reference, method), 1):
            image = _image(part[name], part["y"].nunique())[::stride, ::stride]
            shown = _heatmap(x, y, image, visible=k == classes[0], show_scale=column == 2)
            figure.add_trace(shown, 1, column)
    for column in (1, 2):
        for trace in _points(problem):
            figure.add_trace(trace, 1, column)
    always = [True] * (len(figure.data) - 2 * len(classes))
    items = [
        {
            "label": f"class {k}",
            "method": "update",
            "args": [{"visible": [j == k for j in classes for _ in (1, 2)] + always}],
        }
        for k in classes
    ]
    return _finish(figure, x, y, items)


def _finish(figure: go.Figure, x: np.ndarray, y: np.ndarray, items: list[dict]) -> go.Figure:
    """Equal scales, axis titles and buttons of a pair of maps."""
    figure.update_layout(
        height=450,
        margin={"l": 50, "r": 20, "t": 40, "b": 50},
        updatemenus=[buttons(items)],
    )
    figure.update_xaxes(title_text="x₁", range=[x[0], x[-1]], constrain="domain")
    figure.update_yaxes(range=[y[0], y[-1]], constrain="domain")
    figure.update_yaxes(title_text="x₂", scaleanchor="x", col=1)
    figure.update_xaxes(scaleanchor="y2", col=2)
    return figure


def agreement(
    frame: pd.DataFrame, *, reference: str, methods: Sequence[str], points: int = 1500
) -> go.Figure:
    """Every method against the reference, one dot a grid point, each divided by its maximum.

    Args:
        frame: as for `uncertainty_maps`.
        reference: the column on the vertical axis.
        methods: the columns that the buttons offer for the horizontal axis.
        points: how many grid points to draw, evenly spaced through the grid.
    """
    chosen = frame.iloc[:: max(1, len(frame) // points)]
    parts = [chosen[chosen["inside"]], chosen[~chosen["inside"]]]
    colour = COLOURS["epistemic" if reference.endswith("epistemic") else "aleatoric"]
    styles = (("inside the data", colour, "circle"),
              ("beyond the data", COLOURS["reference"], "x-thin-open"))  # fmt: skip
    figure = go.Figure()
    for part, (name, shade, symbol) in zip(parts, styles, strict=True):
        figure.add_scatter(
            x=_relative(part, frame, methods[0]),
            y=_relative(part, frame, reference),
            mode="markers",
            name=name,
            marker={"size": 5, "opacity": 0.55, "color": shade, "symbol": symbol},
        )
    axis = {name: f"{TITLES[name]} / its maximum" for name in (reference, *methods)}
    items = [
        {
            "label": TITLES[name],
            "method": "update",
            "args": [
                {"x": [_relative(part, frame, name) for part in parts]},
                {"xaxis.title.text": axis[name]},
            ],
        }
        for name in methods
    ]
    figure.update_layout(
        height=420,
        margin={"l": 60, "r": 20, "t": 20, "b": 60},
        updatemenus=[buttons(items)],
        xaxis_title=axis[methods[0]],
        yaxis_title=axis[reference],
        legend={"x": 0.02, "y": 0.98},
    )
    return figure


def _heatmap(
    x: np.ndarray, y: np.ndarray, z: np.ndarray, *, visible: bool, show_scale: bool
) -> go.Heatmap:
    top = float(z.max())
    return go.Heatmap(
        x=x,
        y=y,
        z=z,
        zmin=0,
        zmax=top,
        colorscale=MAP_SCALE,
        visible=visible,
        showscale=show_scale,
        colorbar={"thickness": 12, "tickvals": [0, top], "ticktext": ["0", "max"]},
        hovertemplate="x = (%{x:.2f}, %{y:.2f})<br>%{z:.3g}<extra></extra>",
    )


def _points(problem: Problem) -> list[go.Scatter]:
    """The training points, one trace a class."""
    traces = []
    for k in range(problem.classes):
        chosen = problem.inputs[problem.targets == k].numpy()
        traces.append(
            go.Scatter(
                x=chosen[:, 0],
                y=chosen[:, 1],
                mode="markers",
                showlegend=False,  # white on the map, it would be unseen in a legend
                hoverinfo="skip",
                marker={
                    "symbol": CLASS_SYMBOLS[k],
                    "size": 5,
                    "color": "rgba(255,255,255,0.65)",
                    "line": {"width": 1, "color": "rgba(255,255,255,0.65)"},
                },
            )
        )
    return traces


def _button(index: int, name: str, methods: int, traces: int) -> dict:
    """Shows the map of one method; trace 0 is the reference, then come the methods' maps."""
    shown = [not 1 <= i <= methods or i == index + 1 for i in range(traces)]
    title = {"annotations[1].text": TITLES[name]}
    return {"label": TITLES[name], "method": "update", "args": [{"visible": shown}, title]}


def _image(values: pd.Series, rows: int) -> np.ndarray:
    """Grid values as an image in float32 with ten mantissa bits: what a hover can show."""
    image = values.to_numpy(np.float32).reshape(rows, -1)
    return (image.view(np.int32) & np.int32(~0x1FFF)).view(np.float32)


def _relative(part: pd.DataFrame, whole: pd.DataFrame, name: str) -> np.ndarray:
    return (part[name] / whole[name].max()).to_numpy(np.float32).round(4)
