"""Figures of §3.1 and Appendix A: how large the distortion is, and what Eq. (7) says of it."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from gnuq.display import COLOURS
from gnuq.figures.proxy_maps import one_of_many
from gnuq.figures.style import buttons

SHADES = {
    "linear": COLOURS["epistemic"],
    "xor": COLOURS["aleatoric"],
    "rings": COLOURS["good"],
}
MARKS = {"linear": "circle", "xor": "diamond", "rings": "square"}
DASHES = {"full": "solid", "diagonal": "dot"}
#: What Eq. (7) compares, and what counts: column → (label, colour, symbol, offset).
COMPARISONS = {
    "larger": ("|[ii]| exceeds |[iii]|, Eq. (7)", COLOURS["aleatoric"], "diamond", 0.15),
    "worse": ("the proxy's total error is larger", COLOURS["epistemic"], "circle", -0.15),
}
PROXIES = {"top": "top half", "bottom": "bottom half", "all": "all data"}


def variant_dots(frame: pd.DataFrame, column: str, title: str, *, neutral: float) -> go.Figure:
    """Every variant of the experiment, a dot a seed, one panel a problem; buttons choose λ.

    Args:
        frame: problem, precision, seed, label (of the variant, in the order to show) and
            `column`.
        column: what to draw.
        title: of the horizontal axis.
        neutral: its value without distortion: 0, or 1 for a factor, whose axis is logarithmic.
    """
    problems, labels = list(frame["problem"].unique()), list(frame["label"].unique())
    figure = _stacked(problems, spacing=0.05)
    precisions = sorted(frame["precision"].unique())
    first = precisions[len(precisions) // 2]
    for precision in precisions:
        for row, problem in enumerate(problems, 1):
            kept = (frame["problem"] == problem) & (frame["precision"] == precision)
            dots = _seed_dots(frame[kept], column, SHADES[problem], MARKS[problem])
            figure.add_trace(dots.update(visible=precision == first), row, 1)
    items = one_of_many([f"λ = {p:g}" for p in precisions], each=len(problems))
    figure.add_vline(x=neutral, line={"color": COLOURS["reference"], "dash": "dot"})
    figure.update_xaxes(type="log" if neutral else "linear")
    figure.update_xaxes(title_text=title, row=len(problems))
    figure.update_yaxes(categoryorder="array", categoryarray=labels[::-1], tickfont={"size": 10})
    return figure.update_layout(
        height=160 + 22 * len(labels) * len(problems),
        margin={"l": 20, "r": 15, "t": 90, "b": 50},
        showlegend=False,
        updatemenus=[buttons(items) | {"active": precisions.index(first), "y": 1.04}],
    )


def _stacked(problems: list[str], *, spacing: float) -> go.Figure:
    """One panel a problem, one below the other, so that a phone shows them whole."""
    return make_subplots(
        len(problems), 1, shared_xaxes=True, vertical_spacing=spacing, subplot_titles=problems
    )


def _seed_dots(part: pd.DataFrame, column: str, shade: str, symbol: str) -> go.Scatter:
    return go.Scatter(
        x=part[column],
        y=part["label"],
        mode="markers",
        marker={"color": shade, "symbol": symbol, "size": 8, "opacity": 0.55},
        customdata=part["seed"],
        hovertemplate="%{y}<br>%{x:.3g}, seed %{customdata}<extra></extra>",
    )


def coverage_curves(table: pd.DataFrame) -> go.Figure:
    """How the distortion falls as the proxies cover more, mean and interval over seeds.

    Args:
        table: problem, covariance, share, then mean, low and high of the factor.
    """
    figure = go.Figure()
    for (problem, covariance), part in table.groupby(["problem", "covariance"], sort=False):
        above, below = part["high"] - part["mean"], part["mean"] - part["low"]
        figure.add_scatter(
            x=part["share"],
            y=part["mean"],
            name=f"{problem}, {covariance}",
            error_y={"array": above, "arrayminus": below},
            mode="markers+lines",
            line={"color": SHADES[str(problem)], "dash": DASHES[str(covariance)], "width": 2},
            marker={"symbol": MARKS[str(problem)], "size": 8},
            hovertemplate="%{x:.0%} of the other half<br>%{y:.2f}<extra>%{fullData.name}</extra>",
        )
    figure.add_hline(y=1, line={"color": COLOURS["reference"], "dash": "dash", "width": 1})
    figure.update_xaxes(title_text="share of the other half in each proxy", tickformat=".0%")
    figure.update_yaxes(title_text="factor between the halves", type="log", dtick="D2")
    return figure.update_layout(
        height=480,
        margin={"l": 60, "r": 15, "t": 20, "b": 140},
        legend={"orientation": "h", "x": 0, "y": -0.2},
    )


def eq_7(table: pd.DataFrame, scalings: Mapping[str, str]) -> go.Figure:
    """Eq. (7) against the total errors; buttons choose what c is.

    Args:
        table: problem, proxy, scaling, seed, larger, worse: shares of the grid.
        scalings: keys of the column `scaling` to show, with the labels of their buttons.
    """
    problems = list(table["problem"].unique())
    figure = _stacked(problems, spacing=0.07)
    for view, scaling in enumerate(scalings):
        for row, problem in enumerate(problems, 1):
            part = table[(table["problem"] == problem) & (table["scaling"] == scaling)]
            for column in COMPARISONS:
                dots = _share_dots(part, column, legend=row == 1)
                figure.add_trace(dots.update(visible=view == 0), row, 1)
    items = one_of_many(list(scalings.values()), each=len(problems) * len(COMPARISONS))
    figure.add_vline(x=0.5, line={"color": COLOURS["reference"], "dash": "dot"})
    figure.update_xaxes(range=[-0.04, 1.04], tickformat=".0%")
    figure.update_xaxes(title_text="share of the grid", row=len(problems))
    places = {"tickvals": list(range(len(PROXIES))), "ticktext": list(PROXIES.values())}
    figure.update_yaxes(range=[len(PROXIES) - 0.5, -0.5], **places)
    return figure.update_layout(
        height=560,
        margin={"l": 20, "r": 15, "t": 90, "b": 110},
        updatemenus=[buttons(items) | {"y": 1.07}],
        legend={"orientation": "h", "x": 0, "y": -0.14},
    )


def _share_dots(part: pd.DataFrame, column: str, *, legend: bool) -> go.Scatter:
    label, shade, symbol, offset = COMPARISONS[column]
    return go.Scatter(
        x=part[column],
        y=part["proxy"].map(list(PROXIES).index) - offset,
        name=label,
        legendgroup=label,
        showlegend=legend,
        mode="markers",
        marker={"color": shade, "symbol": symbol, "size": 9, "opacity": 0.6},
        customdata=part["seed"],
        hovertemplate="%{x:.0%} of the grid, seed %{customdata}<extra></extra>",
    )
