"""Curves in panels: estimates along rays, and their limits against the direction."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from gnuq.display import COLOURS

#: Colour and dash of each estimate, the same in every figure of the chapter.
STYLES = {
    "hmc": (COLOURS["ink"], "solid"),
    "limit": (COLOURS["ink"], "solid"),
    "linearised": (COLOURS["good"], "dash"),
    "laplace": (COLOURS["total"], "dashdot"),
    "norm": (COLOURS["epistemic"], "solid"),
    "bernoulli": (COLOURS["aleatoric"], "dot"),
}


def panels(
    frame: pd.DataFrame,
    series: Mapping[str, str],
    *,
    x: tuple[str, str],
    y: tuple[float, float],
    log_x: bool = False,
) -> go.Figure:
    """Several curves in panels side by side, on one logarithmic vertical axis.

    Args:
        frame: column `panel` (its title), the column of the horizontal axis, one column a
            series; where it has the column `error`, the first series gets error bars of twice it.
        series: columns to draw, with their names in the legend; keys of `STYLES`.
        x: column of the horizontal axis, and its title.
        y: limits of the vertical axis; curves leave the panel where they are beyond.
        log_x: whether the horizontal axis is logarithmic.
    """
    titles = list(dict.fromkeys(frame["panel"]))
    figure = make_subplots(1, len(titles), horizontal_spacing=0.08, subplot_titles=titles)
    column, label = x
    for place, title in enumerate(titles, 1):
        part = frame[frame["panel"] == title]
        for name, text in series.items():
            # Zero has no logarithm: a decade below the axis it is out of sight.
            curve = _curve(part[column], part[name].clip(lower=y[0] / 10), name, text)
            curve.showlegend = place == 1
            if "error" in part and name == next(iter(series)):
                curve.error_y = {"array": 2 * part["error"], "thickness": 1, "width": 0}
            figure.add_trace(curve, 1, place)
    figure.update_xaxes(title_text=label, type="log" if log_x else "linear")
    figure.update_yaxes(type="log", range=list(np.log10(y)), exponentformat="power", dtick=1)
    figure.update_yaxes(title_text="variance of p", col=1)
    figure.update_layout(
        height=430,
        margin={"l": 60, "r": 20, "t": 40, "b": 110},
        legend={"orientation": "h", "x": 0, "y": -0.24},
    )
    return figure


def _curve(x: pd.Series, y: pd.Series, name: str, text: str) -> go.Scatter:
    colour, dash = STYLES[name]
    return go.Scatter(
        x=x,
        y=y,
        name=text,
        legendgroup=name,
        mode="lines",
        line={"color": colour, "dash": dash, "width": 2.2},
        hovertemplate="%{x:.3g}: %{y:.3g}<extra>" + text + "</extra>",
    )
