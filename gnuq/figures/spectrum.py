"""Figures of §3.2: spectra, how isotropic a covariance is, and what the gradients see of it."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go
from plotly.colors import sample_colorscale
from plotly.subplots import make_subplots

from gnuq.display import COLOURS
from gnuq.figures.proxy_maps import one_of_many
from gnuq.figures.style import MAP_SCALE, buttons, drop_down

#: Prior → (label, colour, band of the same colour).
PRIORS = {
    "unit-1": ("N(0, 1)", COLOURS["epistemic"], "rgba(0,104,168,0.18)"),
    "fan-in": ("N(0, 2.25 / fan-in)", COLOURS["aleatoric"], "rgba(200,80,10,0.18)"),
}
#: Eigenvalues below this are not drawn: they are 0 beside the prior's 1.
FLOOR = 1e-6
SIZE = "parameters P"


def eigenvalue_curves(eigenvalues: pd.DataFrame, *, menu: bool = True) -> go.Figure:
    """Sorted eigenvalues in the prior's coordinates, a line a width; buttons choose the rest.

    Args:
        eigenvalues: as `gnuq.results.spectrum.spectra` gives them.
        menu: offer every prior and matrix; without, all are of one prior and matrix.

    Returns:
        Logarithmic axes. Negative eigenvalues are dotted, by their size, ranked from the
        smallest. The dashed line at 1 is the damping.
    """
    views = {
        f"{matrix}, {PRIORS[prior][0]}": _width_lines(part)
        for matrix in ("GGN", "Hessian")
        for prior in PRIORS
        if len(part := eigenvalues.query("prior == @prior and matrix == @matrix"))
    }
    figure = go.Figure()
    for view, lines in enumerate(views.values()):
        for line in lines:
            figure.add_trace(line.update(visible=view == 0))
    figure.add_hline(y=1, line={"color": COLOURS["reference"], "dash": "dash", "width": 1})
    figure.update_xaxes(type="log", title_text="rank", exponentformat="power")
    figure.update_yaxes(type="log", title_text="eigenvalue / damping", exponentformat="power")
    figure.update_layout(
        height=520,
        margin={"l": 70, "r": 15, "t": 90 if menu else 20, "b": 120},
        legend={"orientation": "h", "x": 0, "y": -0.2, "title": {"text": SIZE}},
    )
    if menu:
        figure.update_layout(updatemenus=[_menu(views)])
    return figure


def _menu(views: dict[str, list[go.Scatter]]) -> dict:
    """One view at a time."""
    shown = [view for view, lines in enumerate(views.values()) for _ in lines]
    items = [
        {
            "label": label,
            "method": "restyle",
            "args": [{"visible": [view == chosen for view in shown]}],
        }
        for chosen, label in enumerate(views)
    ]
    return drop_down(items, y=1.04)


def _width_lines(part: pd.DataFrame) -> list[go.Scatter]:
    """One line a width, and one for its negative eigenvalues."""
    sizes = sorted(part["parameters"].unique())
    places = [0.85 * i / max(1, len(sizes) - 1) for i in range(len(sizes))]
    lines = []
    for size, shade in zip(sizes, sample_colorscale(MAP_SCALE, places), strict=True):
        one = part[part["parameters"] == size]
        up, down = one[one["eigenvalue"] > FLOOR], one[one["eigenvalue"] < -FLOOR]
        lines.append(_line(up["rank"], up["eigenvalue"], f"{size:,}", shade))
        if len(down):
            from_below = size + 1 - down["rank"]
            lines.append(_line(from_below, -down["eigenvalue"], f"{size:,}", shade, negative=True))
    return lines


def _line(
    ranks: pd.Series, values: pd.Series, name: str, shade: str, *, negative: bool = False
) -> go.Scatter:
    sign, word = ("−", "smallest") if negative else ("", "largest")
    return go.Scatter(
        x=ranks,
        y=values,
        name=name,
        legendgroup=name,
        showlegend=not negative,
        mode="lines+markers",
        marker={"size": 3, "color": shade},
        line={"color": shade, "width": 2, "dash": "dot" if negative else "solid"},
        hovertemplate=f"%{{x}}. {word}: {sign}%{{y:.3g}}<extra>P = {name}</extra>",
    )


def isotropy(summary: pd.DataFrame, correlation: pd.DataFrame) -> go.Figure:
    """Effective dimension, distance from cI, and how well the gradient norm does, against P.

    Args:
        summary: parameters, prior, flat, effective_dimension, distance, distance_raw: one row a
            network.
        correlation: parameters, prior, spearman, pearson, of the squared gradient norm with the
            reference variance.

    Returns:
        Three panels above each other. Open symbols mark modes that are the zero network.
    """
    figure = make_subplots(
        3, 1, shared_xaxes=True, vertical_spacing=0.07,
        subplot_titles=("effective dimension", "distance of Σ from cI", "correlation with HMC"),
    )  # fmt: skip
    columns = {
        1: {"effective_dimension": ("", "solid")},
        2: {
            "distance": (", prior's coordinates", "solid"),
            "distance_raw": (", weights' own", "dot"),
        },
        3: {"spearman": (", Spearman", "solid"), "pearson": (", Pearson", "dot")},
    }
    for panel, lines in columns.items():
        frame = correlation if panel == 3 else summary
        for prior, (label, shade, _) in PRIORS.items():
            part = frame[frame["prior"] == prior].sort_values("parameters")
            for column, (kind, dash) in lines.items():
                curve = _against_size(part, column, label + kind, shade, dash)
                figure.add_trace(curve, panel, 1)
    figure.update_xaxes(type="log", exponentformat="power")
    figure.update_xaxes(title_text=SIZE, row=3)
    figure.update_yaxes(type="log", row=1)
    figure.update_yaxes(range=[0, 1.02], row=2)
    return figure.update_layout(
        height=760,
        margin={"l": 60, "r": 15, "t": 40, "b": 180},
        legend={"orientation": "h", "x": 0, "y": -0.1},
    )


def _against_size(part: pd.DataFrame, column: str, name: str, shade: str, dash: str) -> go.Scatter:
    flat = part.get("flat", pd.Series(False, index=part.index))
    return go.Scatter(
        x=part["parameters"],
        y=part[column],
        name=name,
        mode="lines+markers",
        line={"color": shade, "dash": dash, "width": 2},
        marker={"size": 9, "symbol": ["circle-open" if one else "circle" for one in flat]},
        hovertemplate="P = %{x:,}<br>%{y:.3g}<extra>%{fullData.name}</extra>",
    )


def seen_bands(summary: pd.DataFrame) -> go.Figure:
    """Which part of the prior's variance the data leave, seen by gradients and on average.

    Args:
        summary: parameters, prior, flat, mean_variance, ratio_low, ratio_median, ratio_high, one
            row a network.

    Returns:
        Bands from the 5 % to the 95 % quantile over points and classes, medians, and dashed the
        mean over all directions; buttons choose the prior.
    """
    figure = go.Figure()
    for view, (prior, (_, shade, band)) in enumerate(PRIORS.items()):
        part = summary[summary["prior"] == prior].sort_values("parameters")
        random = _against_size(
            part, "mean_variance", "a random direction", COLOURS["reference"], "dash"
        )
        seen = _against_size(part, "ratio_median", "gradients, median", shade, "solid")
        for trace in (*_band(part, band), seen, random):
            figure.add_trace(trace.update(visible=view == 0))
    items = one_of_many([label for label, _, _ in PRIORS.values()], each=4)
    figure.update_xaxes(type="log", title_text=SIZE, exponentformat="power")
    figure.update_yaxes(type="log", title_text="variance / the prior's", exponentformat="power")
    return figure.update_layout(
        height=480,
        margin={"l": 70, "r": 15, "t": 80, "b": 110},
        updatemenus=[buttons(items)],
        legend={"orientation": "h", "x": 0, "y": -0.2},
    )


def _band(part: pd.DataFrame, shade: str) -> list[go.Scatter]:
    """Two edges, the area between them filled."""
    edges = {"ratio_low": None, "ratio_high": "tonexty"}
    return [
        go.Scatter(
            x=part["parameters"],
            y=part[column],
            name="gradients, 5 % to 95 %",
            mode="lines",
            line={"width": 0, "color": shade},
            fill=fill,
            fillcolor=shade,
            showlegend=fill is not None,
            hoverinfo="skip",
        )
        for column, fill in edges.items()
    ]
