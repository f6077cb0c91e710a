"""Answers of a language model by token and by layer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from gnuq.display import COLOURS
from gnuq.figures.style import MAP_SCALE

_BELOW = {"orientation": "h", "x": 0, "y": -0.3}


def token_bars(frame: pd.DataFrame) -> go.Figure:
    """What each token of an answer adds to ‖∇p̄‖², and its probability.

    Args:
        frame: as `Scores.by_token` gives it.
    """
    answer = frame[frame["part"] == "answer"]
    labels = [f"{t}: {token}" for t, token in enumerate(answer["token"], 1)]
    figure = make_subplots(specs=[[{"secondary_y": True}]])
    figure.add_bar(
        x=labels,
        y=answer["share"] / frame["share"].sum(),
        name="share of ‖∇p̄‖²",
        marker_color=COLOURS["epistemic"],
        hovertemplate="%{x}<br>%{y:.1%}<extra>share</extra>",
    )
    figure.add_scatter(
        x=labels,
        y=answer["probability"],
        name="probability",
        mode="markers",
        marker={"color": COLOURS["aleatoric"], "size": 11, "symbol": "diamond"},
        hovertemplate="%{x}<br>%{y:.3f}<extra>p</extra>",
        secondary_y=True,
    )
    figure.update_yaxes(title_text="share of ‖∇p̄‖²", tickformat=".0%", secondary_y=False)
    figure.update_yaxes(
        title_text="probability",
        range=[0, 1.05],
        tickvals=[0, 0.25, 0.5, 0.75, 1],
        showgrid=False,
        secondary_y=True,
    )
    figure.update_layout(height=400, margin={"l": 60, "r": 60, "t": 20, "b": 100}, legend=_BELOW)
    return figure


def product_map(matrix: np.ndarray, labels: Sequence[str]) -> go.Figure:
    """⟨∇p_t, ∇p_s⟩ of an answer's tokens, relative to the largest.

    Args:
        matrix: shape (T, T).
        labels: the tokens.
    """
    names = [f"{t}: {token}" for t, token in enumerate(labels, 1)]
    most = float(np.abs(matrix).max())
    figure = go.Figure(
        go.Heatmap(
            z=matrix / most,
            x=names,
            y=names,
            zmin=-1,
            zmax=1,
            colorscale="RdBu_r",
            colorbar={"title": "relative"},
            hovertemplate="%{y} and %{x}<br>%{z:.2f}<extra></extra>",
        )
    )
    figure.update_yaxes(autorange="reversed")
    figure.update_layout(height=430, margin={"l": 90, "r": 20, "t": 20, "b": 90})
    return figure


def norms_by_length(table: pd.DataFrame) -> go.Figure:
    """‖∇p̄‖² and T ‖∇p̄‖² against the average of the tokens' norms, coloured by length.

    Args:
        table: as `results.language.sequences` gives it.
    """
    panels = {"epistemic": "‖∇p̄‖²", "length_free": "T ‖∇p̄‖²"}
    figure = make_subplots(1, 2, shared_yaxes=True, horizontal_spacing=0.18)
    ends = [table["token_average"].min(), table["token_average"].max()]
    for place, (name, label) in enumerate(panels.items(), 1):
        equal = {"color": COLOURS["reference"], "dash": "dot"}
        line = go.Scatter(x=ends, y=ends, mode="lines", line=equal, name="equal")
        for trace in (line, _by_length(table, name, label, scale=place == 2)):
            figure.add_trace(trace.update(showlegend=place == 1), 1, place)
        figure.update_yaxes(title_text=label, row=1, col=place)
    figure.update_xaxes(type="log", title_text="average of ‖∇p_t‖²", exponentformat="power")
    figure.update_yaxes(type="log", exponentformat="power", showticklabels=True)
    figure.update_layout(
        height=420, margin={"l": 60, "r": 20, "t": 20, "b": 100}, legend={**_BELOW, "y": -0.26}
    )
    return figure


def _by_length(table: pd.DataFrame, name: str, label: str, *, scale: bool) -> go.Scatter:
    """One dot an answer, coloured by its number of tokens."""
    ticks = np.arange(6)
    return go.Scatter(
        x=table["token_average"],
        y=table[name],
        mode="markers",
        name="one answer",
        marker={
            "color": np.log2(table["length"]),
            "colorscale": MAP_SCALE,
            "size": 7,
            "showscale": scale,
            "colorbar": {
                "title": "tokens",
                "tickvals": ticks,
                "ticktext": list(map(str, 2**ticks)),
            },
        },
        customdata=table[["length"]],
        hovertemplate=f"average %{{x:.3g}}, {label} %{{y:.3g}}, %{{customdata[0]}} tokens"
        "<extra></extra>",
    )


def cross_shares(table: pd.DataFrame) -> go.Figure:
    """The share of ‖∇p̄‖² that products of different tokens make, against the length.

    Args:
        table: as `results.language.sequences` gives it.
    """
    figure = go.Figure(
        go.Scatter(
            x=table["length"],
            y=table["cross"],
            mode="markers",
            marker={"color": COLOURS["epistemic"], "size": 7, "opacity": 0.7},
            hovertemplate="%{x} tokens: %{y:.0%}<extra></extra>",
        )
    )
    figure.add_hline(y=0, line_dash="dot", line_color=COLOURS["reference"])
    ticks = [1, 2, 5, 10, 20, 50, 100]
    figure.update_xaxes(type="log", title_text="tokens of the answer", tickvals=ticks)
    figure.update_yaxes(title_text="share of cross terms", tickformat=".0%")
    figure.update_layout(height=380, margin={"l": 60, "r": 20, "t": 20, "b": 60})
    return figure


def layer_map(table: pd.DataFrame) -> go.Figure:
    """Mean share of ‖∇p̄‖² by block and kind of module; what stands outside the blocks beside it.

    Args:
        table: layer, kind, share.
    """
    blocks = table[table["layer"].str.startswith("layer ")].copy()
    blocks["number"] = blocks["layer"].str.removeprefix("layer ").astype(int)
    grid = blocks.pivot_table("share", "kind", "number", sort=False)
    outside = table[~table["layer"].str.startswith("layer ")]
    figure = make_subplots(
        1,
        2,
        column_widths=[0.78, 0.22],
        horizontal_spacing=0.16,
        subplot_titles=["in the blocks", "outside"],
    )
    figure.add_trace(_block_heat(grid), 1, 1)
    percent = "%{x}: %{y:.1%}<extra></extra>"
    shade = COLOURS["epistemic"]
    bars = go.Bar(x=outside["kind"], y=outside["share"], marker_color=shade, hovertemplate=percent)
    figure.add_trace(bars, 1, 2)
    figure.update_xaxes(title_text="block", row=1, col=1)
    figure.update_yaxes(autorange="reversed", row=1, col=1)
    figure.update_yaxes(tickformat=".0%", row=1, col=2)
    figure.update_layout(
        height=470, showlegend=False, margin={"l": 150, "r": 10, "t": 40, "b": 130}
    )
    return figure


def _block_heat(grid: pd.DataFrame) -> go.Heatmap:
    """Kinds of module against blocks, its scale below it."""
    scale = {"orientation": "h", "x": 0.39, "y": -0.42, "len": 0.6, "thickness": 12}
    return go.Heatmap(
        z=grid.to_numpy(),
        x=grid.columns,
        y=list(grid.index),
        colorscale=MAP_SCALE,
        colorbar={"tickformat": ".1%", **scale},
        hovertemplate="block %{x}, %{y}: %{z:.2%}<extra></extra>",
    )
