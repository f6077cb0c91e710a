"""Figure 4 and its variants: how two proxies of different domains judge the same texts."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from gnuq.display import COLOURS
from gnuq.figures.style import buttons

SHADES = {"science": COLOURS["good"], "sports": COLOURS["total"]}
MEASURES = {"cohens_d": "d", "gap": "gap"}
LABELS = {"cohens_d": "Cohen's d of the log-ratio", "gap": "difference of the domains' medians"}
#: Name, colour and symbol of what a dot is.
SERIES = {
    "": ("science against sports", COLOURS["epistemic"], "circle"),
    "control": ("mixed halves, median size", COLOURS["reference"], "diamond-open"),
}
PANELS = {"training": "proxies that were trained on", "fresh": "proxies that were not"}


def log_ratios(table: pd.DataFrame) -> go.Figure:
    """The log-ratio of either proxy's variance by domain and seed; a button shows the control.

    Args:
        table: seed, domain, log_ratio, control; one row a test text.
    """
    figure = go.Figure()
    shown: dict[str, list[list[float]]] = {"log_ratio": [], "control": []}
    for domain, shade in SHADES.items():
        part = table[table["domain"] == domain]
        for column, values in shown.items():
            values.append(part[column].tolist())
        seeds = "seed " + part["seed"].astype(str)
        figure.add_trace(_box(seeds.tolist(), shown["log_ratio"][-1], f"{domain} texts", shade))
    labels = {"log_ratio": "a proxy from either domain", "control": "two mixed halves"}
    items = [
        {"label": label, "method": "restyle", "args": [{"y": shown[column]}]}
        for column, label in labels.items()
    ]
    figure.update_yaxes(title_text="log-ratio of two variances")
    figure.update_layout(updatemenus=[buttons(items)], **_layout())
    return figure


def remaining_shares(table: pd.DataFrame) -> go.Figure:
    """What either proxy leaves of the prior's variance, by the text's domain.

    Args:
        table: domain, proxy, share.
    """
    figure = go.Figure()
    for domain, shade in SHADES.items():
        part = table[table["domain"] == domain]
        proxies = (part["proxy"] + " proxy").tolist()
        figure.add_trace(_box(proxies, part["share"].tolist(), f"{domain} texts", shade))
    figure.update_yaxes(title_text="share of the prior's variance", tickformat=".0%")
    figure.update_layout(**_layout())
    return figure


def _box(x: list[str], y: list[float], name: str, shade: str) -> go.Box:
    return go.Box(
        x=x,
        y=y,
        name=name,
        marker={"color": shade, "size": 4, "opacity": 0.5},
        boxpoints="all",
        pointpos=0,
        jitter=0.6,
        hovertemplate="%{y:.3f}<extra>" + name + "</extra>",
    )


def _layout() -> dict:
    return {
        "boxmode": "group",
        "height": 430,
        "margin": {"l": 70, "r": 20, "t": 60, "b": 70},
        "legend": {"orientation": "h", "x": 0, "y": -0.12},
    }


def variants(table: pd.DataFrame) -> go.Figure:
    """Two measures of the distortion under every reading of the text, beside those of chance.

    Args:
        table: as `results.text_summary.sensitivity` gives it.
    """
    figure = make_subplots(
        1, 2, shared_yaxes=True, horizontal_spacing=0.04, subplot_titles=list(PANELS.values())
    )
    shown: dict[str, list[list[float]]] = {column: [] for column in MEASURES}
    for column, proxies in enumerate(PANELS, 1):
        part = table[table["proxies"] == proxies]
        fisher, reduction = part["fisher"], part["reduction"]
        labels = fisher + ", " + reduction + ", λ = " + part["prior_precision"].map("{:g}".format)
        for prefix, (name, shade, symbol) in SERIES.items():
            for measure, short in MEASURES.items():
                values = part[f"control_{short}"] if prefix == "control" else part[measure]
                shown[measure].append(values.tolist())
            dots = _dots(shown["cohens_d"][-1], labels.tolist(), name, shade)
            dots.update(marker_symbol=symbol, showlegend=column == 1)
            figure.add_trace(dots, 1, column)
    items = [
        {
            "label": label,
            "method": "update",
            "args": [{"x": shown[measure]}, {f"xaxis{n}.title.text": label for n in ("", "2")}],
        }
        for measure, label in LABELS.items()
    ]
    figure.update_xaxes(title_text=LABELS["cohens_d"])
    figure.update_yaxes(autorange="reversed")
    figure.update_layout(
        height=600,
        margin={"l": 20, "r": 20, "t": 90, "b": 100},
        legend={"orientation": "h", "x": 0, "y": -0.14},
        updatemenus=[buttons(items)],
    )
    return figure


def _dots(x: list[float], y: list[str], name: str, shade: str) -> go.Scatter:
    return go.Scatter(
        x=x,
        y=y,
        name=name,
        legendgroup=name,
        mode="markers",
        marker={"color": shade, "size": 8},
        hovertemplate="%{y}<br>%{x:.3g}<extra>" + name + "</extra>",
    )
