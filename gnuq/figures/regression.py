"""Figure 7: a regression with its uncertainty along the line."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from gnuq.display import COLOURS
from gnuq.problems import Problem

#: Standard deviations of the fit: column → (label, colour, dash).
DEVIATIONS = {
    "hmc_epistemic": ("HMC", COLOURS["ink"], "solid"),
    "laplace_epistemic": ("Laplace, √(gᵀΣg)", COLOURS["good"], "dash"),
    "scaled_norm": ("√c ‖g‖, Eq. (4)", COLOURS["epistemic"], "dot"),
}


def regression(frame: pd.DataFrame, problem: Problem) -> go.Figure:
    """The fit with the posterior's band, and the standard deviations of three methods.

    Args:
        frame: one row per position (`gnuq.results.maps` of a regression problem), with
            `scaled_norm` = c ‖g‖², c fitted to the reference.
        problem: whose training points are drawn.
    """
    figure = make_subplots(
        1, 2, horizontal_spacing=0.12, subplot_titles=("the fit", "standard deviation of the fit")
    )
    for trace in (*_band(frame), *_fit(frame, problem)):
        figure.add_trace(trace, 1, 1)
    for name, (label, shade, dash) in DEVIATIONS.items():
        curve = go.Scatter(
            x=frame["x"],
            y=np.sqrt(frame[name]),
            name=label,
            line={"color": shade, "dash": dash, "width": 2.5},
        )
        figure.add_trace(curve, 1, 2)
    figure.update_xaxes(title_text="x")
    figure.update_yaxes(title_text="y", row=1, col=1)
    figure.update_yaxes(type="log", title_text="log scale", row=1, col=2)
    figure.update_layout(
        height=440,
        margin={"l": 60, "r": 20, "t": 40, "b": 110},
        legend={"orientation": "h", "x": 0, "y": -0.2},
    )
    return figure


def _band(frame: pd.DataFrame) -> list[go.Scatter]:
    """Two posterior standard deviations on either side of the posterior mean."""
    width = 2 * np.sqrt(frame["hmc_epistemic"])
    outline = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip"}
    low = go.Scatter(x=frame["x"], y=frame["hmc_mean"] - width, showlegend=False, **outline)
    high = go.Scatter(
        x=frame["x"],
        y=frame["hmc_mean"] + width,
        fill="tonexty",
        fillcolor="rgba(120,130,140,0.35)",
        name="HMC mean ± 2 sd",
        **outline,
    )
    return [low, high]


def _fit(frame: pd.DataFrame, problem: Problem) -> list[go.Scatter]:
    """Training points and the network at the mode."""
    points = go.Scatter(
        x=problem.inputs[:, 0].numpy(),
        y=problem.targets.numpy(),
        mode="markers",
        name="data",
        marker={"size": 4, "opacity": 0.5, "color": COLOURS["reference"]},
        hoverinfo="skip",
    )
    mode = go.Scatter(
        x=frame["x"],
        y=frame["value"],
        name="network at the mode",
        line={"color": COLOURS["aleatoric"], "width": 2},
    )
    return [points, mode]
