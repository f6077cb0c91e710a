"""The explorer's figures: maps side by side, a fit with its band, maps over prior precisions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from gnuq.display import COLOURS
from gnuq.figures import style
from gnuq.figures.maps import _heatmap, _image, _points
from gnuq.problems import Problem

TITLES = style.TITLES | {"linearised_epistemic": "Laplace, linearised: variance of p"}
#: Half the width of a band, in standard deviations.
DEVIATIONS = 2


def live_maps(panels: Sequence[tuple[pd.DataFrame, str]], problem: Problem) -> go.Figure:
    """Maps of the plane side by side, each from zero to its own maximum, which its title gives.

    Args:
        panels: frame (one row per grid point, the first coordinate fastest) and column of each
            map; the frames may have different grids.
        problem: whose training points are drawn on top.
    """
    titles = [f"{TITLES[name]}<br>max {frame[name].max():.2g}" for frame, name in panels]
    figure = _side_by_side(titles)
    for i, (frame, name) in enumerate(panels):
        figure.add_trace(_map(frame, name, visible=True, show_scale=i == 0), 1, i + 1)
        figure.add_traces(_points(problem), rows=1, cols=i + 1)
    return _in_the_plane(figure, panels[0][0])


def prior_maps(
    frames: Mapping[float, pd.DataFrame], problem: Problem, columns: Sequence[str]
) -> go.Figure:
    """Maps side by side, and a slider that moves the prior precision.

    Args:
        frames: a frame as `live_maps` takes it for each λ, all on one grid.
        problem: whose training points are drawn on top.
        columns: one map each.
    """
    figure = _side_by_side([TITLES[name] for name in columns])
    first = len(frames) // 2
    for i, frame in enumerate(frames.values()):
        for j, name in enumerate(columns):
            shown = _map(frame, name, visible=i == first, show_scale=j == 0)
            figure.add_trace(shown, 1, j + 1)
    maps = len(figure.data)
    for j in range(len(columns)):
        figure.add_traces(_points(problem), rows=1, cols=j + 1)
    rest = [True] * (len(figure.data) - maps)
    steps = [
        {
            "label": f"{precision:g}",
            "method": "restyle",
            "args": [{"visible": [k // len(columns) == i for k in range(maps)] + rest}],
        }
        for i, precision in enumerate(frames)
    ]
    prefix = {"prefix": "prior precision λ = "}
    slider = {"steps": steps, "active": first, "pad": {"t": 55}, "currentvalue": prefix}
    figure.update_layout(sliders=[slider])
    return _in_the_plane(figure, next(iter(frames.values()))).update_layout(height=520)


def live_fit(
    frame: pd.DataFrame,
    problem: Problem,
    method: str,
    *,
    reference: pd.DataFrame | None = None,
) -> go.Figure:
    """A regression's fit with a band of ±2 standard deviations, and the sampled one if given.

    The squared gradient norm has no absolute scale: c, which the legend gives, makes its widest
    band as wide as Laplace's.

    Args:
        frame: x, prediction, gradient_norm and laplace_epistemic, a variance.
        problem: whose training points are drawn.
        method: the column that makes the band.
        reference: x, hmc_mean and hmc_epistemic.
    """
    scale, label, axis = 1.0, f"Laplace: ± {DEVIATIONS} √(gᵀΣg)", "prediction"
    if method == "gradient_norm":
        scale = float(frame["laplace_epistemic"].max() / frame[method].max())
        label = f"Gradient norm: ± {DEVIATIONS} c‖g‖, c² = {scale:.2g}"
        axis = "prediction; the widest band is Laplace's"
    deviation = np.sqrt(scale * frame[method])
    lower, upper = _band(frame["x"], frame["prediction"], deviation, COLOURS["epistemic"])
    upper.update(fill="tonexty", fillcolor="rgba(0,104,168,0.2)", name=label)
    figure = go.Figure([lower, upper])
    figure.add_scatter(
        x=frame["x"], y=frame["prediction"], name="mode", line={"color": COLOURS["epistemic"]}
    )
    if reference is not None:
        figure.add_traces(_reference(reference))
    figure.add_trace(_data(problem))
    return figure.update_layout(
        height=450,
        margin={"l": 60, "r": 20, "t": 20, "b": 50},
        xaxis_title="x",
        yaxis_title=axis,
        legend={"orientation": "h", "x": 0, "y": -0.18},
    )


def _data(problem: Problem) -> go.Scatter:
    """The training points of a regression."""
    return go.Scatter(
        x=problem.inputs[:, 0].numpy(),
        y=problem.targets.numpy(),
        name="training points",
        mode="markers",
        marker={"color": COLOURS["reference"], "size": 4, "opacity": 0.7},
    )


def _band(x: pd.Series, centre: pd.Series, deviation: pd.Series, shade: str) -> list[go.Scatter]:
    """Lower and upper edge; only the upper one is in the legend."""
    return [
        go.Scatter(
            x=x,
            y=centre + sign * DEVIATIONS * deviation,
            mode="lines",
            showlegend=sign > 0,
            hoverinfo="skip",
            line={"width": 0.5, "color": shade},
        )
        for sign in (-1, 1)
    ]


def _reference(frame: pd.DataFrame) -> list[go.Scatter]:
    """The sampled mean and its band, as dashes."""
    shade = COLOURS["ink"]
    mean = go.Scatter(x=frame["x"], y=frame["hmc_mean"], name="HMC: mean", line={"color": shade})
    edges = _band(frame["x"], frame["hmc_mean"], np.sqrt(frame["hmc_epistemic"]), shade)
    for edge in edges:
        edge.update(line={"width": 2, "dash": "dash"}, name=f"HMC: ± {DEVIATIONS} std. dev.")
    return [mean, *edges]


def _map(frame: pd.DataFrame, name: str, *, visible: bool, show_scale: bool) -> go.Heatmap:
    x, y = np.unique(frame["x"]), np.unique(frame["y"])
    return _heatmap(x, y, _image(frame[name], len(y)), visible=visible, show_scale=show_scale)


def _side_by_side(titles: list[str]) -> go.Figure:
    return make_subplots(
        1, len(titles), shared_yaxes=True, horizontal_spacing=0.03, subplot_titles=titles
    )


def _in_the_plane(figure: go.Figure, frame: pd.DataFrame) -> go.Figure:
    """Equal units on both axes, the grid's extent."""
    x, y = frame["x"], frame["y"]
    figure.update_xaxes(title_text="x₁", range=[x.min(), x.max()], constrain="domain")
    figure.update_yaxes(range=[y.min(), y.max()], constrain="domain")
    figure.update_yaxes(title_text="x₂", col=1)
    for axis in figure.select_yaxes():
        axis.scaleanchor = axis.anchor
    figure.update_annotations(font_size=14)
    return figure.update_layout(height=450, margin={"l": 50, "r": 20, "t": 60, "b": 50})
