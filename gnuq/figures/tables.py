"""Tables of correlations as dots: ours with their spread, the paper's beside them."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from gnuq.display import COLOURS
from gnuq.figures.style import buttons


def _panels(problems: list[str]) -> go.Figure:
    """One panel a problem, side by side."""
    return make_subplots(
        1, len(problems), shared_yaxes=True, horizontal_spacing=0.03, subplot_titles=problems
    )


def table_dots(table: pd.DataFrame, labels: dict[str, str], *, colour: str) -> go.Figure:
    """A table of correlations: mean and range over data seeds, and the paper's numbers.

    Args:
        table: what `gnuq.results.table_5` and its like return.
        labels: label of each comparison, in the order to show (top first).
        colour: a key of `gnuq.display.COLOURS`.
    """
    kept = table[table["comparison"].isin(labels)]
    problems = list(dict.fromkeys(kept["problem"]))
    figure = _panels(problems)
    for column, problem in enumerate(problems, 1):
        part = kept[kept["problem"] == problem].set_index("comparison").reindex(list(labels))
        for dots in _dots(part, list(labels.values()), COLOURS[colour], legend=column == 1):
            figure.add_trace(dots, 1, column)
    ticks = np.arange(len(labels))[::-1]
    figure.update_yaxes(tickvals=ticks, ticktext=list(labels.values()))
    low = min(0.0, float(kept[["r_low", "rho_low"]].min().min()))
    figure.update_xaxes(range=[low - 0.05, 1.05])
    figure.update_layout(
        height=150 + 48 * len(labels),
        margin={"l": 20, "r": 20, "t": 40, "b": 80},
        legend={"orientation": "h", "x": 0, "y": -0.18},
    )
    return figure


def _dots(part: pd.DataFrame, labels: list[str], shade: str, *, legend: bool) -> list[go.Scatter]:
    """Four series: either correlation, ours with its range and as printed in the paper."""
    series = (
        ("Pearson, ours", "r", 0.13, shade, "circle"),
        ("Spearman, ours", "rho", -0.13, shade, "diamond-open"),
        ("paper, first column", "r_paper", 0.13, COLOURS["ink"], "line-ns-open"),
        ("paper, second column", "rho_paper", -0.13, COLOURS["reference"], "x-thin-open"),
    )
    traces = []
    for name, key, offset, colour, symbol in series:
        dots = go.Scatter(
            x=part[key],
            y=np.arange(len(labels))[::-1] + offset,
            name=name,
            mode="markers",
            showlegend=legend,
            legendgroup=name,
            marker={"color": colour, "symbol": symbol, "size": 9, "line": {"width": 2}},
            customdata=labels,
            hovertemplate="%{customdata}<br>%{x:.2f}<extra>" + name + "</extra>",
        )
        if f"{key}_low" in part:
            low, high = part[key] - part[f"{key}_low"], part[f"{key}_high"] - part[key]
            dots.error_x = {"array": high, "arrayminus": low, "color": colour, "thickness": 1.5}
        traces.append(dots)
    return traces


def sensitivity(table: pd.DataFrame, labels: dict[str, str], priors: dict[str, str]) -> go.Figure:
    """How correlations move with the prior and the extent of the grid; buttons choose the kind.

    Args:
        table: problem, prior, region, comparison, pearson, spearman: means over seeds.
        labels: label of each comparison to show.
        priors: label of each prior, in the order to show.
    """
    problems = list(dict.fromkeys(table["problem"]))
    figure = _panels(problems)
    values: dict[str, list[list[float]]] = {"pearson": [], "spearman": []}
    curves = itertools.product(enumerate(problems, 1), labels, ("wide", "inside"))
    for (column, problem), comparison, region in curves:
        chosen = table[(table["problem"] == problem) & (table["region"] == region)]
        part = chosen[chosen["comparison"] == comparison].set_index("prior").reindex(list(priors))
        for kind, column_values in values.items():
            column_values.append(part[kind].tolist())
        shade = _SHADES[list(labels).index(comparison)]
        curve = _curve(list(priors.values()), values["pearson"][-1], shade, region)
        curve.update(name=f"{labels[comparison]}, {_REGIONS[region]}", showlegend=column == 1)
        figure.add_trace(curve.update(legendgroup=curve.name), 1, column)
    items = [
        {
            "label": kind.capitalize(),
            "method": "update",
            "args": [{"y": y}, {"yaxis.title.text": f"{kind.capitalize()} correlation"}],
        }
        for kind, y in values.items()
    ]
    figure.update_layout(
        height=480,
        margin={"l": 60, "r": 20, "t": 40, "b": 120},
        updatemenus=[buttons(items)],
        legend={"orientation": "h", "x": 0, "y": -0.18},
    )
    figure.update_yaxes(title_text="Pearson correlation", col=1)
    return figure


_SHADES = (COLOURS["epistemic"], COLOURS["good"], COLOURS["reference"], COLOURS["total"])
_REGIONS = {"wide": "whole grid", "inside": "inside the data"}


def _curve(x: list[str], y: list[float], shade: str, region: str) -> go.Scatter:
    wide = region == "wide"
    return go.Scatter(
        x=x,
        y=y,
        mode="markers+lines",
        line={"dash": "solid" if wide else "dot", "color": shade},
        marker={"color": shade, "symbol": "circle" if wide else "circle-open", "size": 9},
    )
