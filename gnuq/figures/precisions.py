"""Scores under several precisions of the weights, and what a score means."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go

from gnuq.display import COLOURS
from gnuq.figures.style import buttons


def against_float32(table: pd.DataFrame, names: Sequence[str]) -> go.Figure:
    """Norms in other precisions against those in float32; buttons choose the precision.

    Args:
        table: as `results.language.precisions` gives it.
        names: the precisions.
    """
    figure = go.Figure()
    ends = [table["reference"].min(), table["reference"].max()]
    for name in names:
        part = table[table["precision"] == name]
        figure.add_scatter(
            x=part["reference"],
            y=part["total"],
            mode="markers",
            name=name,
            visible=name == names[0],
            marker={"size": 7, "opacity": 0.7, "color": COLOURS["epistemic"]},
            hovertemplate="float32 %{x:.3g}, " + name + " %{y:.3g}<extra></extra>",
        )
    figure.add_scatter(
        x=ends,
        y=ends,
        mode="lines",
        name="equal",
        line={"color": COLOURS["reference"], "dash": "dot"},
        hoverinfo="skip",
    )
    shown = [[name == other for other in names] + [True] for name in names]
    items = [
        {"label": name, "method": "restyle", "args": [{"visible": visible}]}
        for name, visible in zip(names, shown, strict=True)
    ]
    figure.update_xaxes(type="log", title_text="‖∇p̄‖² in float32", exponentformat="power")
    figure.update_yaxes(type="log", title_text="‖∇p̄‖² in the other", exponentformat="power")
    figure.update_layout(
        height=470,
        showlegend=False,
        margin={"l": 60, "r": 20, "t": 60, "b": 60},
        updatemenus=[buttons(items)],
    )
    return figure


def kind_bars(table: pd.DataFrame) -> go.Figure:
    """Mean share of each kind of module, by whether `.grad` holds it.

    Args:
        table: kind, where, share.
    """
    shades = {"packed weights": COLOURS["reference"], ".grad": COLOURS["epistemic"]}
    figure = go.Figure()
    for where, shade in shades.items():
        part = table[table["where"] == where]
        figure.add_bar(
            x=part["kind"],
            y=part["share"],
            name=where,
            marker_color=shade,
            hovertemplate="%{x}: %{y:.1%}<extra>" + where + "</extra>",
        )
    figure.update_yaxes(title_text="mean share of ‖∇p̄‖²", tickformat=".0%")
    figure.update_layout(
        barmode="stack",
        height=400,
        margin={"l": 60, "r": 20, "t": 20, "b": 150},
        legend={"orientation": "h", "x": 0, "y": 1.12},
    )
    return figure


def held_shares(table: pd.DataFrame, names: Sequence[str]) -> go.Figure:
    """How much of ‖∇p̄‖² `.grad` holds, a box for each precision.

    Args:
        table: as `results.language.precisions` gives it.
        names: the precisions.
    """
    figure = go.Figure()
    for name in names:
        part = table[table["precision"] == name]
        figure.add_box(
            y=part["share"],
            name=name,
            marker_color=COLOURS["epistemic"],
            boxpoints="all",
            pointpos=0,
            jitter=0.6,
            marker={"size": 4, "opacity": 0.5},
            hovertemplate="%{y:.1%}<extra>" + name + "</extra>",
        )
    figure.update_yaxes(title_text="share that .grad holds", tickformat=".0%", range=[0, 1.05])
    figure.update_layout(height=380, showlegend=False, margin={"l": 60, "r": 20, "t": 20, "b": 40})
    return figure


def reliability(curve: pd.DataFrame) -> go.Figure:
    """Predicted probability of being wrong against how often it is so.

    Args:
        curve: as `Calibration.reliability` gives it.
    """
    figure = go.Figure()
    figure.add_scatter(
        x=[0, 1],
        y=[0, 1],
        mode="lines",
        name="perfect",
        line={"color": COLOURS["reference"], "dash": "dot"},
        hoverinfo="skip",
    )
    figure.add_scatter(
        x=curve["predicted"],
        y=curve["observed"],
        error_y={
            "array": curve["high"] - curve["observed"],
            "arrayminus": curve["observed"] - curve["low"],
        },
        mode="markers",
        name="held-out answers, 95 % interval",
        marker={"color": COLOURS["epistemic"], "size": 10},
        customdata=curve[["count"]],
        hovertemplate="predicted %{x:.2f}, observed %{y:.2f}, %{customdata[0]} answers"
        "<extra></extra>",
    )
    figure.update_xaxes(title_text="predicted probability of being wrong", range=[-0.02, 1.02])
    figure.update_yaxes(title_text="share that is wrong", range=[-0.05, 1.05])
    figure.update_layout(
        height=430,
        margin={"l": 60, "r": 20, "t": 20, "b": 100},
        legend={"orientation": "h", "x": 0, "y": -0.24},
    )
    return figure
