"""Figure 1: maps under the identity and under the covariances of either half of the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from gnuq.display import COLOURS
from gnuq.figures.style import CLASS_SYMBOLS, MAP_SCALE, buttons
from gnuq.problems import Problem

#: Column of the maps → title, in reading order of a two by two figure.
PANELS = {
    "identity": "identity, ‖g‖²",
    "log_ratio": "log(top / bottom)",
    "top": "proxy: top half",
    "bottom": "proxy: bottom half",
}
#: Log-ratios from blue through grey to vermillion, which any eye tells apart.
DIVERGING = [[0.0, COLOURS["epistemic"]], [0.5, "#e6e6e6"], [1.0, COLOURS["aleatoric"]]]

Panel = tuple[int, go.Heatmap | go.Scatter]


def proxy_bias_maps(maps: pd.DataFrame, problems: Mapping[str, Problem]) -> go.Figure:
    """Figure 1: the identity, both proxies and their log-ratio; a menu chooses the problem.

    Args:
        maps: as `gnuq.results.proxy_bias.figure_1` gives it, or a part of its problems.
        problems: the training data by name, in the order of the menu; a proxy's panel shows the
            points that it saw.

    Returns:
        Four maps. Uncertainties are scaled to each map's maximum, as in the paper; the
        log-ratio's scale is symmetric about 0. Hovering shows raw values.
    """
    views = {
        f"{name}, {covariance} Fisher": _panels(part, problem)
        for name, problem in problems.items()
        for covariance, part in maps[maps["problem"] == name].groupby("covariance", sort=False)
    }
    figure = make_subplots(
        2, 2, subplot_titles=list(PANELS.values()), horizontal_spacing=0.08, vertical_spacing=0.1
    )
    for view, traces in enumerate(views.values()):
        for panel, trace in traces:
            trace.visible = view == 0
            figure.add_trace(trace, panel // 2 + 1, panel % 2 + 1)
    items = one_of_many(list(views), each=len(figure.data) // len(views))
    return _arranged(figure, items)


def one_of_many(labels: Sequence[str], *, each: int) -> list[dict]:
    """Menu entries that each show one of several views and hide the others.

    Args:
        labels: of the views, in the order of their traces.
        each: traces a view, all views alike.
    """
    views = range(len(labels))
    shown = [[other == view for other in views for _ in range(each)] for view in views]
    return [
        {"label": label, "method": "restyle", "args": [{"visible": visible}]}
        for label, visible in zip(labels, shown, strict=True)
    ]


def _arranged(figure: go.Figure, items: list[dict]) -> go.Figure:
    """The menu, and equal scales along both axes of every map."""
    menu = buttons(items) | {"type": "dropdown", "direction": "down", "y": 1.06}
    figure.update_layout(
        height=680,
        margin={"l": 30, "r": 10, "t": 90, "b": 40},
        updatemenus=[menu],
        showlegend=False,
    )
    for panel in range(len(PANELS)):
        axis = "x" if panel == 0 else f"x{panel + 1}"
        place = {"row": panel // 2 + 1, "col": panel % 2 + 1}
        figure.update_xaxes(constrain="domain", **place)
        figure.update_yaxes(scaleanchor=axis, constrain="domain", constraintoward="top", **place)
    return figure


def _panels(maps: pd.DataFrame, problem: Problem) -> list[Panel]:
    """The traces of one view, each with the number of its panel; always as many."""
    x, y = np.unique(maps["x"]), np.unique(maps["y"])
    upper = problem.inputs[:, 1].numpy() > 0
    seen = {"identity": upper | True, "top": upper, "bottom": ~upper}
    traces: list[Panel] = []
    for panel, name in enumerate(PANELS):
        image = maps[name].to_numpy(np.float32).reshape(len(y), len(x))
        if name not in seen:
            traces.append((panel, _ratio_map(x, y, image)))
            continue
        traces.append((panel, _uncertainty_map(x, y, image, bar=name == "bottom")))
        traces += [(panel, dots) for dots in _points(problem, seen[name])]
    return traces


def _uncertainty_map(x: np.ndarray, y: np.ndarray, z: np.ndarray, *, bar: bool) -> go.Heatmap:
    top = float(z.max())
    ticks = {"tickvals": [0, top], "ticktext": ["0", "max"]}
    return _heatmap(x, y, z, MAP_SCALE, (0.0, top)).update(
        showscale=bar, colorbar={"y": 0.45, **ticks}
    )


def _ratio_map(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> go.Heatmap:
    top = float(np.abs(z).max())
    ticks = {"tickvals": [-top, 0, top], "ticktext": [f"−{top:.1f}", "0", f"{top:.1f}"]}
    return _heatmap(x, y, z, DIVERGING, (-top, top)).update(colorbar={"y": 1.0, **ticks})


def _heatmap(
    x: np.ndarray, y: np.ndarray, z: np.ndarray, scale: str | list, ends: tuple[float, float]
) -> go.Heatmap:
    """One map, with its colour bar to the right of the figure, half as high."""
    return go.Heatmap(
        x=x,
        y=y,
        z=z,
        zmin=ends[0],
        zmax=ends[1],
        colorscale=scale,
        colorbar={"x": 1.02, "yanchor": "top", "len": 0.45, "thickness": 12},
        hovertemplate="x = (%{x:.2f}, %{y:.2f})<br>%{z:.3g}<extra></extra>",
    )


def _points(problem: Problem, seen: np.ndarray) -> list[go.Scatter]:
    """The training points that a proxy saw, one trace a class."""
    inputs, targets = problem.inputs.numpy()[seen], problem.targets.numpy()[seen]
    white = "rgba(255,255,255,0.7)"
    return [
        go.Scatter(
            x=inputs[targets == k, 0].astype(np.float32),
            y=inputs[targets == k, 1].astype(np.float32),
            mode="markers",
            hoverinfo="skip",
            marker={
                "symbol": CLASS_SYMBOLS[k],
                "size": 4,
                "color": white,
                "line": {"width": 1, "color": white},
            },
        )
        for k in range(problem.classes)
    ]
