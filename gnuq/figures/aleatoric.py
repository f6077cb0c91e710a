"""The terms of Eq. (8), and the mean of the weights against the mode."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from gnuq.display import COLOURS

TERMS = {
    "first_order": ("(1 − 2p*) d, set to zero", COLOURS["total"]),
    "spread": ("Var[p], neglected", COLOURS["epistemic"]),
    "shift": ("d², neglected", COLOURS["reference"]),
    "error": ("error of p*(1 − p*) in all", COLOURS["aleatoric"]),
}


def term_bars(sizes: pd.DataFrame) -> go.Figure:
    """Size of each term relative to the mean of p*(1 − p*): mean and range over data sets.

    Args:
        sizes: problem, seed, region, and one column for each key of `TERMS`.
    """
    regions = list(dict.fromkeys(sizes["region"]))
    figure = make_subplots(1, len(regions), horizontal_spacing=0.08, subplot_titles=regions)
    for place, region in enumerate(regions, 1):
        grouped = sizes[sizes["region"] == region].groupby("problem", sort=False)
        for name, (label, colour) in TERMS.items():
            mean, low, high = (grouped[name].agg(how) for how in ("mean", "min", "max"))
            bars = go.Bar(
                x=list(mean.index),
                y=mean,
                error_y={"array": high - mean, "arrayminus": mean - low, "thickness": 1.2},
                name=label,
                legendgroup=name,
                showlegend=place == 1,
                marker_color=colour,
                hovertemplate="%{x}: %{y:.3f}<extra>" + label + "</extra>",
            )
            figure.add_trace(bars, 1, place)
    figure.update_yaxes(title_text="mean size / mean of p*(1 − p*)")
    figure.update_layout(
        barmode="group",
        height=430,
        margin={"l": 60, "r": 20, "t": 40, "b": 90},
        legend={"orientation": "h", "x": 0, "y": -0.14},
    )
    return figure


def predicted_against_true(grids: Mapping[str, pd.DataFrame], *, estimate: str) -> go.Figure:
    """An estimate of d = E[p] − p* against d itself, one dot a grid point, a panel a model.

    Args:
        grids: by the panel's title: columns d and `estimate`.
        estimate: the column on the horizontal axis.
    """
    figure = make_subplots(1, len(grids), horizontal_spacing=0.1, subplot_titles=list(grids))
    for place, grid in enumerate(grids.values(), 1):
        ends = np.array([grid["d"].min(), grid["d"].max()])
        figure.add_scatter(
            x=ends,
            y=ends,
            name="equal",
            showlegend=place == 1,
            mode="lines",
            line={"color": COLOURS["reference"], "dash": "dot"},
            row=1,
            col=place,
        )
        figure.add_scatter(
            x=grid[estimate],
            y=grid["d"],
            name="one grid point",
            showlegend=place == 1,
            mode="markers",
            marker={"size": 5, "opacity": 0.6, "color": COLOURS["epistemic"]},
            hovertemplate="%{x:.4f}, %{y:.4f}<extra></extra>",
            row=1,
            col=place,
        )
    figure.update_xaxes(title_text="gᵀ(E[θ] − θ*)")
    figure.update_yaxes(title_text="d = E[p] − p*")
    figure.update_layout(
        height=420,
        margin={"l": 60, "r": 20, "t": 40, "b": 100},
        legend={"orientation": "h", "x": 0, "y": -0.24},
    )
    return figure


def predictions_along(line: pd.DataFrame) -> go.Figure:
    """Along a line: p at the mode, its posterior mean, and p at the mean of the weights.

    Args:
        line: columns x, point, mean, at_mean.
    """
    curves = {
        "point": ("p*, at the mode", COLOURS["aleatoric"], "dash"),
        "mean": ("E[p], posterior mean", COLOURS["ink"], "solid"),
        "at_mean": ("p(x; E[θ]), at the mean of the weights", COLOURS["epistemic"], "dot"),
    }
    figure = go.Figure()
    for name, (label, colour, dash) in curves.items():
        figure.add_scatter(
            x=line["x"],
            y=line[name],
            name=label,
            mode="lines",
            line={"color": colour, "dash": dash, "width": 2.5},
        )
    figure.update_layout(
        height=400,
        margin={"l": 60, "r": 20, "t": 30, "b": 100},
        xaxis_title="x₁",
        yaxis={"title": "probability of class 1", "range": [-0.02, 1.02]},
        legend={"orientation": "h", "x": 0, "y": -0.22},
    )
    return figure
