"""Tidy frame in, plotly figure out: this module computes nothing that a table could hold."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from gnuq.display import COLOURS
from gnuq.problems import Problem

#: One colour scale for every uncertainty map; ordered in lightness, safe for colour-blind eyes.
MAP_SCALE = "Viridis"
CLASS_SYMBOLS = ("circle-open", "cross-thin-open", "diamond-open", "square-open")
TITLES = {
    "hmc_epistemic": "HMC: variance of p",
    "hmc_aleatoric": "HMC: mean of p(1 − p)",
    "gradient_norm": "Gradient norm ‖g‖²",
    "laplace_epistemic": "Laplace gᵀΣg",
    "linearised_aleatoric": "Laplace, linearised",
    "sampled_aleatoric": "Laplace, sampled weights",
    "bernoulli": "p(1 − p) at the mode",
    "probability": "p at the mode",
    "hmc_total": "HMC: p̄(1 − p̄)",
}
EPISTEMIC_METHODS = ("gradient_norm", "laplace_epistemic", "bernoulli")
ALEATORIC_METHODS = ("bernoulli", "linearised_aleatoric", "sampled_aleatoric")


def uncertainty_maps(
    frame: pd.DataFrame, problem: Problem, *, reference: str, methods: Sequence[str]
) -> go.Figure:
    """Figures 2, 5, 6 and 8: the reference beside one method, which buttons choose.

    Args:
        frame: one row per grid point (`gnuq.results.maps`), the first coordinate fastest.
        problem: whose training points are drawn on top.
        reference: the column of the left map.
        methods: the columns that the right map can show.

    Returns:
        Two maps with one relative colour scale, from zero to each map's own maximum, because
        ‖g‖² knows no absolute scale. Hovering shows the raw value.
    """
    x, y = np.unique(frame["x"]), np.unique(frame["y"])
    figure = make_subplots(
        1, 2, shared_yaxes=True, horizontal_spacing=0.03,
        subplot_titles=(TITLES[reference], TITLES[methods[0]]),
    )  # fmt: skip
    for i, name in enumerate((reference, *methods)):
        z = _image(frame[name], len(y))
        shown = _heatmap(x, y, z, visible=i < 2, show_scale=i > 0)
        figure.add_trace(shown, 1, 1 if i == 0 else 2)
    for column in (1, 2):
        for trace in _points(problem, legend=column == 1):
            figure.add_trace(trace, 1, column)
    buttons = [_button(i, name, len(methods), len(figure.data)) for i, name in enumerate(methods)]
    figure.update_layout(
        height=470,
        margin={"l": 50, "r": 20, "t": 40, "b": 70},
        updatemenus=[_buttons(buttons)],
        legend={"orientation": "h", "x": 0, "y": -0.12},
    )
    figure.update_xaxes(title_text="x₁", range=[x[0], x[-1]], constrain="domain")
    figure.update_yaxes(range=[y[0], y[-1]], constrain="domain")
    figure.update_yaxes(title_text="x₂", scaleanchor="x", col=1)
    return figure


def agreement(
    frame: pd.DataFrame, *, reference: str, methods: Sequence[str], points: int = 1500
) -> go.Figure:
    """Every method against the reference, one dot a grid point, each divided by its maximum.

    Args:
        frame: as for `uncertainty_maps`.
        reference: the column on the vertical axis.
        methods: the columns that the buttons offer for the horizontal axis.
        points: how many grid points to draw, evenly spaced through the grid.
    """
    chosen = frame.iloc[:: max(1, len(frame) // points)]
    colour = COLOURS["epistemic" if reference.endswith("epistemic") else "aleatoric"]
    figure = go.Figure()
    for inside, name in ((True, "inside the data"), (False, "beyond the data")):
        part = chosen[chosen["inside"] == inside]
        figure.add_scatter(
            x=_relative(part, frame, methods[0]),
            y=_relative(part, frame, reference),
            mode="markers",
            name=name,
            marker={
                "size": 5,
                "opacity": 0.55,
                "color": colour if inside else COLOURS["reference"],
                "symbol": "circle" if inside else "x-thin-open",
            },
        )
    parts = [chosen[chosen["inside"]], chosen[~chosen["inside"]]]
    buttons = [
        {
            "label": TITLES[name],
            "method": "update",
            "args": [
                {"x": [_relative(part, frame, name) for part in parts]},
                {"xaxis.title.text": f"{TITLES[name]} / its maximum"},
            ],
        }
        for name in methods
    ]
    figure.update_layout(
        height=420,
        margin={"l": 60, "r": 20, "t": 20, "b": 60},
        updatemenus=[_buttons(buttons)],
        xaxis_title=f"{TITLES[methods[0]]} / its maximum",
        yaxis_title=f"{TITLES[reference]} / its maximum",
        legend={"x": 0.02, "y": 0.98},
    )
    return figure


def table_dots(table: pd.DataFrame, labels: dict[str, str], *, colour: str) -> go.Figure:
    """A table of correlations as dots: ours (mean and range over data seeds) and the paper's.

    Args:
        table: what `gnuq.results.table_5` and its like return.
        labels: label of each comparison, in the order to show (top first).
        colour: a key of `gnuq.display.COLOURS`.
    """
    problems = list(dict.fromkeys(table["problem"]))
    figure = make_subplots(
        1, len(problems), shared_yaxes=True, horizontal_spacing=0.03, subplot_titles=problems
    )
    kept = table[table["comparison"].isin(labels)]
    series = (
        ("Pearson, ours", "r", COLOURS[colour], "circle", True),
        ("Spearman, ours", "rho", COLOURS[colour], "diamond-open", True),
        ("first column, paper", "r_paper", COLOURS["ink"], "line-ns-open", False),
        ("second column, paper", "rho_paper", COLOURS["reference"], "x-thin-open", False),
    )
    for column, problem in enumerate(problems, 1):
        part = kept[kept["problem"] == problem].set_index("comparison").reindex(list(labels))
        for name, key, shade, symbol, ranged in series:
            offset = {"r": 0.13, "r_paper": 0.13, "rho": -0.13, "rho_paper": -0.13}[key]
            position = np.arange(len(labels))[::-1] + offset
            dots = go.Scatter(
                x=part[key],
                y=position,
                name=name,
                mode="markers",
                showlegend=column == 1,
                legendgroup=name,
                marker={"color": shade, "symbol": symbol, "size": 9, "line": {"width": 2}},
                customdata=[labels[key_] for key_ in labels],
                hovertemplate="%{customdata}<br>%{x:.2f}<extra>" + name + "</extra>",
            )
            if ranged:
                low, high = part[key] - part[f"{key}_low"], part[f"{key}_high"] - part[key]
                dots.error_x = {"array": high, "arrayminus": low, "color": shade, "thickness": 1.5}
            figure.add_trace(dots, 1, column)
    figure.update_yaxes(
        tickvals=np.arange(len(labels))[::-1], ticktext=list(labels.values()), col=1
    )
    figure.update_xaxes(
        range=[min(-0.05, float(kept[["r_low", "rho_low"]].min().min()) - 0.05), 1.05]
    )
    figure.update_layout(
        height=150 + 48 * len(labels),
        margin={"l": 20, "r": 20, "t": 50, "b": 80},
        legend={"orientation": "h", "x": 0, "y": -0.18},
    )
    return figure


def sensitivity(table: pd.DataFrame, labels: dict[str, str], priors: dict[str, str]) -> go.Figure:
    """How correlations move with the prior and the extent of the grid; buttons choose the kind.

    Args:
        table: problem, prior, region, comparison, pearson, spearman: means over seeds.
        labels: label of each comparison to show.
        priors: label of each prior, in the order to show.
    """
    problems = list(dict.fromkeys(table["problem"]))
    figure = make_subplots(
        1, len(problems), shared_yaxes=True, horizontal_spacing=0.03, subplot_titles=problems
    )
    shades = (COLOURS["epistemic"], COLOURS["good"], COLOURS["reference"], COLOURS["total"])
    values: dict[str, list[list[float]]] = {"pearson": [], "spearman": []}
    for column, problem in enumerate(problems, 1):
        for (comparison, label), shade in zip(labels.items(), shades, strict=False):
            for region, symbol in (("wide", "circle"), ("inside", "circle-open")):
                part = table[
                    (table["problem"] == problem)
                    & (table["comparison"] == comparison)
                    & (table["region"] == region)
                ].set_index("prior")
                for kind in values:
                    values[kind].append(part[kind].reindex(list(priors)).tolist())
                where = "wide grid" if region == "wide" else "inside the data"
                figure.add_trace(
                    go.Scatter(
                        x=list(priors.values()),
                        y=values["pearson"][-1],
                        name=f"{label}, {where}",
                        legendgroup=f"{label}{region}",
                        showlegend=column == 1,
                        mode="markers+lines",
                        line={"dash": "solid" if region == "wide" else "dot", "color": shade},
                        marker={"color": shade, "symbol": symbol, "size": 9},
                    ),
                    1,
                    column,
                )
    buttons = [
        {"label": kind.capitalize(), "method": "update",
         "args": [{"y": values[kind]}, {"yaxis.title.text": f"{kind.capitalize()} correlation"}]}
        for kind in values
    ]  # fmt: skip
    figure.update_layout(
        height=520,
        margin={"l": 60, "r": 20, "t": 40, "b": 170},
        updatemenus=[_buttons(buttons)],
        legend={"orientation": "h", "x": 0, "y": -0.42},
    )
    figure.update_yaxes(title_text="Pearson correlation", col=1)
    return figure


def gradient_bars(gradients: pd.DataFrame) -> go.Figure:
    """The gradient of one prediction, one bar a parameter, for several inputs by a slider.

    Args:
        gradients: rows inputs (the index labels them), columns parameters (named).
    """
    limit = 1.05 * float(gradients.abs().to_numpy().max())
    norms = (gradients**2).sum(axis=1)
    titles = [f"x = {x}, ‖g‖² = {norm:.4f}" for x, norm in norms.items()]
    first = int(norms.argmax())
    figure = go.Figure()
    for i, (_, row) in enumerate(gradients.iterrows()):
        figure.add_bar(
            x=list(gradients.columns),
            y=row.to_numpy(),
            visible=i == first,
            marker_color=COLOURS["epistemic"],
            hovertemplate="%{x}: %{y:.4f}<extra></extra>",
        )
    steps = [
        {
            "label": str(label),
            "method": "update",
            "args": [{"visible": [j == i for j in range(len(titles))]}, {"title.text": titles[i]}],
        }
        for i, label in enumerate(gradients.index)
    ]
    figure.update_layout(
        title_text=titles[first],
        title_font_size=15,
        height=420,
        showlegend=False,
        margin={"l": 60, "r": 20, "t": 50, "b": 50},
        yaxis={"range": [-limit, limit], "title": "∂p/∂θ_i"},
        sliders=[
            {
                "steps": steps,
                "active": first,
                "pad": {"t": 45},
                "currentvalue": {"prefix": "input x = "},
            }
        ],
    )
    return figure


def variance_curves(frame: pd.DataFrame) -> go.Figure:
    """Var[p] along a line through input space and its approximations, each on its own scale.

    Args:
        frame: column `x` (position), then one column per curve, named as the legend shows it.
    """
    figure = go.Figure()
    dashes = ("solid", "dash", "dot", "dashdot")
    shades = (COLOURS["ink"], COLOURS["good"], COLOURS["epistemic"], COLOURS["aleatoric"])
    curves = [name for name in frame.columns if name != "x"]
    for name, dash, shade in zip(curves, dashes, shades, strict=False):
        figure.add_scatter(
            x=frame["x"],
            y=frame[name],
            name=name,
            line={"dash": dash, "color": shade, "width": 2.5},
        )
    figure.update_layout(
        height=420,
        margin={"l": 60, "r": 20, "t": 30, "b": 100},
        xaxis_title="x₁ (x₂ = 0)",
        yaxis_title="variance of p",
        legend={"orientation": "h", "x": 0, "y": -0.22},
    )
    return figure


def _heatmap(
    x: np.ndarray, y: np.ndarray, z: np.ndarray, *, visible: bool, show_scale: bool
) -> go.Heatmap:
    return go.Heatmap(
        x=x,
        y=y,
        z=z,
        zmin=0,
        zmax=float(z.max()),
        colorscale=MAP_SCALE,
        visible=visible,
        showscale=show_scale,
        colorbar={"thickness": 12, "tickvals": [0, float(z.max())], "ticktext": ["0", "max"]},
        hovertemplate="x = (%{x:.2f}, %{y:.2f})<br>%{z:.3g}<extra></extra>",
    )


def _points(problem: Problem, *, legend: bool) -> list[go.Scatter]:
    """The training points, one trace a class."""
    traces = []
    for k in range(problem.classes):
        chosen = problem.inputs[problem.targets == k].numpy()
        traces.append(
            go.Scatter(
                x=chosen[:, 0],
                y=chosen[:, 1],
                mode="markers",
                name=f"training points, class {k}",
                legendgroup=f"class {k}",
                showlegend=legend,
                hoverinfo="skip",
                marker={"symbol": CLASS_SYMBOLS[k], "size": 5, "color": "rgba(255,255,255,0.65)",
                        "line": {"width": 1, "color": "rgba(255,255,255,0.65)"}},
            )
        )  # fmt: skip
    return traces


def _button(index: int, name: str, methods: int, traces: int) -> dict:
    """Shows the map of one method; trace 0 is the reference, then come the methods' maps."""
    shown = [not 1 <= i <= methods or i == index + 1 for i in range(traces)]
    title = {"annotations[1].text": TITLES[name]}
    return {"label": TITLES[name], "method": "update", "args": [{"visible": shown}, title]}


def _buttons(buttons: list[dict]) -> dict:
    """A row of buttons above the figure."""
    return {
        "type": "buttons",
        "direction": "right",
        "buttons": buttons,
        "x": 0,
        "xanchor": "left",
        "y": 1.12,
        "yanchor": "bottom",
        "showactive": True,
    }


def _image(values: pd.Series, rows: int) -> np.ndarray:
    """Grid values as an image in float32 with ten mantissa bits: what a hover can show."""
    image = values.to_numpy(np.float32).reshape(rows, -1)
    return (image.view(np.int32) & np.int32(~0x1FFF)).view(np.float32)


def _relative(part: pd.DataFrame, whole: pd.DataFrame, name: str) -> np.ndarray:
    return (part[name] / whole[name].max()).to_numpy(np.float32).round(4)
