"""Figures of §1 and §2: what more data change, and variance against mutual information."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from gnuq.display import COLOURS
from gnuq.figures.style import MAP_SCALE

DASHES = ("dot", "dashdot", "dash", "solid")
SHADES = tuple(COLOURS[name] for name in ("reference", "aleatoric", "total", "epistemic"))
SYMBOLS = ("circle", "diamond", "square", "cross")


def shrinking(curves: pd.DataFrame) -> go.Figure:
    """Both uncertainties along a line, one curve per number of training points.

    Args:
        curves: size, x, aleatoric and epistemic; one data set per size.
    """
    titles = ("Aleatoric: E[p(1 − p)]", "Epistemic: Var[p]")
    figure = make_subplots(1, 2, subplot_titles=titles, horizontal_spacing=0.12)
    groups = curves.groupby("size")
    for (size, part), dash, shade in zip(groups, DASHES, SHADES, strict=False):
        for column, name in enumerate(("aleatoric", "epistemic"), start=1):
            line = go.Scatter(
                x=part["x"],
                y=part[name],
                name=f"N = {size}",
                legendgroup=str(size),
                showlegend=column == 1,
                line={"dash": dash, "color": shade, "width": 2.5},
            )
            figure.add_trace(line, 1, column)
    figure.update_xaxes(title_text="x₁ (x₂ = 0)")
    figure.update_yaxes(range=[0, 0.26], title_text="E[p(1 − p)]", col=1)
    figure.update_yaxes(type="log", exponentformat="power", dtick=1, title_text="Var[p]", col=2)
    legend = {"orientation": "h", "x": 0, "y": -0.22}
    figure.update_layout(height=430, margin={"l": 60, "r": 20, "t": 40, "b": 90}, legend=legend)
    return figure


def rates(found: pd.DataFrame, labels: Mapping[str, str]) -> go.Figure:
    """Quantities against the number of training points, each relative to its first value.

    Args:
        found: size, seed and the quantities; several seeds per size.
        labels: column → name in the legend.

    Returns:
        Means over seeds with their range, on two logarithmic axes, and the line 1/N.
    """
    figure = go.Figure()
    sizes = found["size"].unique()
    figure.add_scatter(
        x=sizes,
        y=sizes[0] / sizes,
        name="1 / N",
        mode="lines",
        line={"color": COLOURS["reference"], "dash": "dash"},
    )
    shades = (COLOURS["epistemic"], COLOURS["aleatoric"], COLOURS["good"])
    for (name, label), shade, symbol in zip(labels.items(), shades, SYMBOLS, strict=False):
        values = found.groupby("size")[name].agg(["mean", "min", "max"])
        values = values / values["mean"].iloc[0]
        figure.add_scatter(
            x=values.index,
            y=values["mean"],
            error_y={
                "array": values["max"] - values["mean"],
                "arrayminus": values["mean"] - values["min"],
            },
            name=label,
            mode="lines+markers",
            marker={"symbol": symbol, "size": 9},
            line={"color": shade, "width": 2.5},
        )
    figure.update_layout(
        height=420,
        margin={"l": 70, "r": 20, "t": 20, "b": 100},
        xaxis={"type": "log", "title": "training points N", "tickvals": sizes},
        yaxis={"type": "log", "title": "relative to the first", "dtick": 1},
        legend={"orientation": "h", "x": 0, "y": -0.22},
    )
    return figure


def information_curves(family: pd.DataFrame, pair: pd.DataFrame) -> go.Figure:
    """Mutual information against variance, one curve per mean, with two points picked out.

    Args:
        family: mean, variance, mutual_information.
        pair: the two points: index (names), `Var` and `I`.
    """
    figure = go.Figure()
    groups = family.groupby("mean", sort=False)
    for (mean, part), dash, shade in zip(groups, DASHES[::-1], SHADES[::-1], strict=False):
        figure.add_scatter(
            x=part["variance"],
            y=part["mutual_information"],
            mode="lines",
            name=f"p̄ = {mean:g}",
            line={"dash": dash, "color": shade, "width": 2.5},
        )
    figure.add_scatter(
        x=pair["Var"],
        y=pair["I"],
        mode="markers+text",
        text=[str(name)[0] for name in pair.index],
        textposition="top left",
        showlegend=False,
        marker={"size": 11, "color": COLOURS["ink"], "symbol": "diamond"},
    )
    figure.update_layout(
        height=430,
        margin={"l": 70, "r": 20, "t": 20, "b": 100},
        xaxis={"title": "Var[p]", "range": [-4, -0.5]},
        yaxis={"title": "I(y; θ), nats", "range": [-3.5, 0]},
        legend={"orientation": "h", "x": 0, "y": -0.22},
    )
    for update in (figure.update_xaxes, figure.update_yaxes):
        update(type="log", dtick=1, exponentformat="power")
    return figure


def two_maps(frame: pd.DataFrame, labels: Mapping[str, str]) -> go.Figure:
    """Two columns over the plane, side by side, each on a scale up to its own maximum.

    Args:
        frame: one row per grid point, with x and y, the first coordinate fastest.
        labels: column → title of its map.
    """
    x, y = np.unique(frame["x"]), np.unique(frame["y"])
    titles = tuple(labels.values())
    figure = make_subplots(
        1, 2, shared_yaxes=True, horizontal_spacing=0.03, subplot_titles=titles
    )  # fmt: skip
    for column, name in enumerate(labels, start=1):
        z = frame[name].to_numpy(np.float32).reshape(len(y), len(x))
        shown = go.Heatmap(
            x=x,
            y=y,
            z=z,
            zmin=0,
            zmax=float(z.max()),
            colorscale=MAP_SCALE,
            showscale=column == 2,
            colorbar={"thickness": 12, "tickvals": [0, float(z.max())], "ticktext": ["0", "max"]},
            hovertemplate="x = (%{x:.2f}, %{y:.2f})<br>%{z:.3g}<extra></extra>",
        )
        figure.add_trace(shown, 1, column)
    figure.update_layout(height=400, margin={"l": 50, "r": 20, "t": 40, "b": 50})
    figure.update_xaxes(title_text="x₁", range=[x[0], x[-1]], constrain="domain")
    figure.update_xaxes(matches="x", col=2)
    figure.update_yaxes(range=[y[0], y[-1]], constrain="domain")
    figure.update_yaxes(title_text="x₂", scaleanchor="x", col=1)
    return figure


def point_and_mean(frames: Mapping[str, pd.DataFrame], *, points: int = 600) -> go.Figure:
    """The posterior mean against the probability at the mode, one dot a grid point.

    Args:
        frames: name → columns point and mean.
        points: dots to draw per name, evenly spaced through the grid.
    """
    figure = go.Figure()
    styles = zip(SHADES[1:], SYMBOLS, strict=False)
    for (name, frame), (shade, symbol) in zip(frames.items(), styles, strict=False):
        chosen = frame.iloc[:: max(1, len(frame) // points)]
        figure.add_scatter(
            x=chosen["point"].round(4),
            y=chosen["mean"].round(4),
            mode="markers",
            name=name,
            marker={"size": 5, "opacity": 0.55, "color": shade, "symbol": symbol},
        )
    figure.add_scatter(
        x=[0, 1],
        y=[0, 1],
        mode="lines",
        name="p̄ = p*",
        line={"color": COLOURS["reference"], "dash": "dash"},
    )
    figure.update_layout(
        height=450,
        margin={"l": 60, "r": 20, "t": 20, "b": 100},
        xaxis={"title": "p*, at the mode", "range": [-0.02, 1.02], "constrain": "domain"},
        yaxis={"title": "p̄, posterior mean", "range": [-0.02, 1.02], "scaleanchor": "x"},
        legend={"orientation": "h", "x": 0, "y": -0.2},
    )
    return figure
