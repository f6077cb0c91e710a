"""Every method against the reference: a heat map of correlations, and cost beside accuracy."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from gnuq.display import COLOURS
from gnuq.figures.style import buttons

#: Diverging about zero, since correlations can point the wrong way; blue and red, both theme-safe.
SCALE = [[0.0, "#e0805f"], [0.5, "#f3f1ec"], [1.0, "#7ab4de"]]
_DARK = "#1e2530"  # on these cells in either theme: not a colour that the theme swaps
VIEWS = {
    "epistemic, Pearson": ("epistemic", "pearson"),
    "epistemic, Spearman": ("epistemic", "spearman"),
    "aleatoric, Pearson": ("aleatoric", "pearson"),
    "aleatoric, Spearman": ("aleatoric", "spearman"),
}


def method_heat(found: pd.DataFrame) -> go.Figure:
    """Correlation of every method with the reference on every problem; buttons choose which.

    Args:
        found: tidy means over data seeds: problem, method, quantity, pearson, spearman.
    """
    methods, problems = found["method"].unique(), found["problem"].unique()
    figure = go.Figure()
    for i, (quantity, kind) in enumerate(VIEWS.values()):
        part = found[found["quantity"] == quantity]
        cells = part.pivot_table(index="method", columns="problem", values=kind, sort=False)
        shown = cells.reindex(index=methods, columns=problems)
        figure.add_heatmap(
            x=list(problems),
            y=list(methods),
            z=shown.to_numpy(),
            text=shown.map(lambda v: "" if pd.isna(v) else f"{v:.2f}").to_numpy(),
            texttemplate="%{text}",
            zmin=-1,
            zmax=1,
            colorscale=SCALE,
            visible=i == 0,
            xgap=2,
            ygap=2,
            colorbar={"thickness": 12, "title": {"text": "r"}},
            textfont={"color": _DARK},
            hovertemplate="%{y} on %{x}: %{z:.2f}<extra></extra>",
        )
    items = [
        {
            "label": label,
            "method": "update",
            "args": [{"visible": [j == i for j in range(len(VIEWS))]}],
        }
        for i, label in enumerate(VIEWS)
    ]
    figure.update_layout(
        height=130 + 27 * len(methods),
        margin={"l": 150, "r": 20, "t": 30, "b": 60},
        updatemenus=[buttons(items)],
    )
    figure.update_yaxes(autorange="reversed")
    return figure


def cost_and_accuracy(frame: pd.DataFrame) -> go.Figure:
    """Rank correlation against the cost of one prediction, one dot a method.

    Args:
        frame: method, family, prediction (cost in forward passes), setup (in trainings),
            spearman (epistemic, mean over problems).
    """
    figure = go.Figure()
    symbols = ("circle", "diamond", "square", "x", "triangle-up", "cross")
    shades = ("epistemic", "good", "aleatoric", "total", "reference", "ink")
    groups = frame.groupby("family", sort=False)
    families = list(frame["family"].unique())  # the first is labelled, the rest would overlap
    for (family, rows), symbol, shade in zip(groups, symbols, shades, strict=False):
        part = rows.sort_values("prediction")  # so that neighbours' labels alternate
        figure.add_scatter(
            x=part["prediction"],
            y=part["spearman"],
            name=str(family),
            mode="markers+text" if family == families[0] else "markers",
            text=part["label"],
            textposition=["top center", "bottom center"] * len(part),
            textfont={"size": 11},
            customdata=part[["method", "setup"]].to_numpy(),
            marker={"color": COLOURS[shade], "symbol": symbol, "size": 11},
            hovertemplate="%{customdata[0]}<br>%{x:.3g} forward passes, setup %{customdata[1]:.2g} "
            "trainings<br>ρ = %{y:.2f}<extra></extra>",
        )
    figure.update_yaxes(rangemode="tozero")
    figure.update_xaxes(type="log", title_text="cost of a prediction, in forward passes")
    figure.update_yaxes(title_text="Spearman correlation, epistemic")
    figure.update_layout(
        height=460,
        margin={"l": 60, "r": 20, "t": 20, "b": 120},
        legend={"orientation": "h", "x": 0, "y": -0.2},
    )
    return figure
