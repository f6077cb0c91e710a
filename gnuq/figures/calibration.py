"""What constant turns ‖g‖² into a variance: one per problem, and how it spreads over the map."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from gnuq.display import COLOURS


def constants(found: pd.DataFrame) -> go.Figure:
    """The constant of every problem, the spread of the pointwise ones, and two guesses.

    Args:
        found: rows of one estimate, prior and region: problem, constant, low, median, high,
            mean_variance; one row per problem (means or medians over data seeds).
    """
    figure = go.Figure()
    problems = found["problem"]
    spread = go.Scatter(
        x=np.column_stack([found["low"], found["high"], np.full(len(found), np.nan)]).ravel(),
        y=np.repeat(problems, 3),
        mode="lines",
        name="Var[p] / ‖g‖² at 90 % of the points",
        line={"color": COLOURS["reference"], "width": 3},
        hoverinfo="skip",
    )
    figure.add_trace(spread)
    series = (
        ("median", "its median", COLOURS["reference"], "circle"),
        ("constant", "c, least squares", COLOURS["epistemic"], "diamond"),
        ("mean_variance", "tr Σ / P, Laplace", COLOURS["good"], "x-thin-open"),
    )
    for column, label, shade, symbol in series:
        figure.add_scatter(
            x=found[column],
            y=problems,
            mode="markers",
            name=label,
            marker={"color": shade, "symbol": symbol, "size": 10, "line": {"width": 2}},
            hovertemplate="%{y}: %{x:.3g}<extra>" + label + "</extra>",
        )
    figure.update_xaxes(type="log", title_text="constant", exponentformat="power")
    figure.update_yaxes(autorange="reversed")
    figure.update_layout(
        height=150 + 34 * len(found),
        margin={"l": 90, "r": 20, "t": 20, "b": 110},
        legend={"orientation": "h", "x": 0, "y": -0.25},
    )
    return figure
