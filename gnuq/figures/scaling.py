"""The scaling study in figures: Figure 3, the sweep, and the terms of Eq. (5) to (7)."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from gnuq.display import COLOURS
from gnuq.figures.style import drop_down

SHADES = {
    "gradient_norm": COLOURS["epistemic"],
    "prior_norm": COLOURS["good"],
    "bernoulli": COLOURS["aleatoric"],
    "laplace": COLOURS["total"],
    "ceiling": COLOURS["reference"],
}
SYMBOLS = {
    "gradient_norm": "circle",
    "prior_norm": "diamond",
    "bernoulli": "square",
    "laplace": "triangle-up",
    "ceiling": "line-ew-open",
}
#: Button → columns of the correlation, and the region.
VIEWS = {
    "Spearman, whole grid": ("rho", "wide"),
    "Pearson, whole grid": ("r", "wide"),
    "Spearman, inside": ("rho", "inside"),
    "Pearson, inside": ("r", "inside"),
}
SIZE = "parameters"


def scaling_curves(
    curves: pd.DataFrame,
    labels: Mapping[str, str],
    priors: Mapping[str, str],
    printed: pd.DataFrame,
) -> go.Figure:
    """Figure 3: correlation with HMC against the number of parameters, one panel a prior.

    Args:
        curves: what `gnuq.results.scaling_tables.curves` returns.
        labels: label of each comparison to show, a key of `SHADES`.
        priors: title of each prior's panel.
        printed: the paper's: parameters, r, rho; shown in the views of the whole grid.
    """
    figure = _panels(list(priors.values()))
    shown: dict[str, list] = {view: [] for view in VIEWS}
    for (column, prior), comparison in itertools.product(enumerate(priors, 1), labels):
        of = curves[(curves["prior"] == prior) & (curves["comparison"] == comparison)]
        for view, (kind, region) in VIEWS.items():
            part = of[of["region"] == region].sort_values(SIZE)
            shown[view].append((part, kind))
        figure.add_trace(_line(comparison, labels[comparison], legend=column == 1), 1, column)
    for column, _ in enumerate(priors, 1):
        for view, (kind, region) in VIEWS.items():
            kept = printed if region == "wide" else printed.iloc[:0]
            shown[view].append((kept, kind))
        figure.add_trace(_paper(legend=column == 1), 1, column)
    items = [_view(view, parts) for view, parts in shown.items()]
    _first_view(figure, items[0])
    return _finished(figure, items)


def _panels(titles: list[str]) -> go.Figure:
    return make_subplots(
        1, len(titles), shared_yaxes=True, horizontal_spacing=0.04, subplot_titles=titles
    )


def _line(comparison: str, label: str, *, legend: bool) -> go.Scatter:
    shade = SHADES[comparison]
    return go.Scatter(
        name=label,
        legendgroup=label,
        showlegend=legend,
        mode="lines+markers",
        line={"color": shade, "dash": "dot" if comparison == "ceiling" else "solid"},
        marker={"color": shade, "symbol": SYMBOLS[comparison], "size": 8},
        error_y={"type": "data", "thickness": 1, "color": shade},
        hovertemplate="%{x:,} parameters: %{y:.2f}<extra>" + label + "</extra>",
    )


def _paper(*, legend: bool) -> go.Scatter:
    return go.Scatter(
        name="‖g‖², the paper",
        legendgroup="paper",
        showlegend=legend,
        mode="lines+markers",
        line={"color": COLOURS["ink"], "dash": "dash", "width": 1},
        marker={"color": COLOURS["ink"], "symbol": "x-thin-open", "size": 9, "line": {"width": 2}},
        hovertemplate="%{x:,} parameters: %{y:.2f}<extra>the paper</extra>",
    )


def _view(label: str, parts: list[tuple[pd.DataFrame, str]]) -> dict:
    """One button: every trace's coordinates and ranges."""
    changed: dict[str, list] = {"x": [], "y": [], "error_y.array": [], "error_y.arrayminus": []}
    for part, kind in parts:
        values = part[kind]
        high, low = (part.get(f"{kind}_{end}", values) for end in ("high", "low"))
        changed["x"].append(part[SIZE].tolist())
        changed["y"].append(values.tolist())
        changed["error_y.array"].append((high - values).tolist())
        changed["error_y.arrayminus"].append((values - low).tolist())
    title = f"{label.split(',')[0]} correlation"
    return {"label": label, "method": "update", "args": [changed, {"yaxis.title.text": title}]}


def _first_view(figure: go.Figure, item: dict) -> None:
    """Show what the first button would."""
    changed, layout = item["args"]
    for index, trace in enumerate(figure.data):
        trace.update(x=changed["x"][index], y=changed["y"][index])
        trace.error_y.update(
            array=changed["error_y.array"][index], arrayminus=changed["error_y.arrayminus"][index]
        )
    figure.update_yaxes(title_text=layout["yaxis.title.text"], col=1)


def _finished(figure: go.Figure, items: list[dict]) -> go.Figure:
    figure.update_xaxes(type="log", title_text="parameters", exponentformat="power", dtick=1)
    figure.update_layout(
        height=520,
        margin={"l": 60, "r": 20, "t": 100, "b": 130},
        updatemenus=[drop_down(items, y=1.14)],
        legend={"orientation": "h", "x": 0, "y": -0.22},
    )
    return figure


def sweep_curves(
    swept: pd.DataFrame, settings: Sequence[str], titles: Mapping[str, str]
) -> go.Figure:
    """One setting changed: the norm's and p(1 − p)'s curve, the study's own behind them.

    Args:
        swept: what `gnuq.results.scaling_tables.swept` returns; ranks, whole grid.
        settings: those that the menu offers, labels in the column `setting`.
        titles: title of each prior's panel; the panels are the priors of the study.
    """
    figure = _panels(list(titles.values()))
    names = {"gradient_norm": "‖g‖²", "bernoulli": "p(1 − p)", "partial": "‖g‖² given p(1 − p)"}
    parts: dict[str, list] = {setting: [] for setting in settings}
    for (column, prior), comparison in itertools.product(enumerate(titles, 1), names):
        of = swept[(swept["prior"] == prior) & (swept["comparison"] == comparison)]
        base = of[of["setting"] == "as in the study"].sort_values(SIZE)
        for setting in settings:
            parts[setting].append(of[of["setting"] == setting].sort_values(SIZE))
        shade = SHADES.get(comparison, COLOURS["total"])
        for legend, dash, name in ((False, "dot", "as in the study"), (column == 1, "solid", "")):
            trace = go.Scatter(
                name=names[comparison] if not name else f"{names[comparison]}, {name}",
                legendgroup=names[comparison],
                showlegend=legend,
                mode="lines+markers",
                opacity=0.6 if name else 1,
                line={"color": shade, "dash": dash},
                marker={"color": shade, "size": 5 if name else 8},
                x=base[SIZE] if name else [],
                y=base["spearman"] if name else [],
                hovertemplate="%{x:,} parameters: %{y:.2f}<extra>%{fullData.name}</extra>",
            )
            figure.add_trace(trace, 1, column)
    moved = [i for i, trace in enumerate(figure.data) if trace.line.dash == "solid"]
    items = []
    for setting, chosen in parts.items():
        changed = {
            "x": [part[SIZE].tolist() for part in chosen],
            "y": [part["spearman"].tolist() for part in chosen],
        }
        items.append({"label": setting, "method": "restyle", "args": [changed, moved]})
    for index, part in zip(moved, parts[settings[0]], strict=True):
        figure.data[index].update(x=part[SIZE], y=part["spearman"])
    figure.update_yaxes(title_text="Spearman correlation", col=1)
    return _finished(figure, items)


#: Column of `by_size` → (title, colour).
TERMS = {
    "off_diagonal": ("size of [i] over the variance", COLOURS["ink"]),
    "proxy_term_larger": ("points with |[ii]| > |[iii]|, Eq. (7)", COLOURS["aleatoric"]),
    "proxy_worse": ("points where the proxy’s whole error is larger", COLOURS["epistemic"]),
}


def term_curves(by_size: pd.DataFrame, titles: Mapping[str, str]) -> go.Figure:
    """The terms of Eq. (5) to (7) against the number of parameters; a menu chooses Σ.

    Args:
        by_size: what `gnuq.results.scaling_tables.by_size` returns, for one scaling.
        titles: title of each prior's panel.
    """
    figure = _panels(list(titles.values()))
    sources = {"hmc": "Σ from the posterior’s draws", "laplace": "Σ from the full Laplace"}
    parts: dict[str, list] = {source: [] for source in sources}
    for (column, prior), (name, (title, shade)) in itertools.product(
        enumerate(titles, 1), TERMS.items()
    ):
        of = by_size[by_size["prior"] == prior].sort_values(SIZE)
        for source in sources:
            parts[source].append(of[of["sigma"] == source][[SIZE, name]])
        first = parts["hmc"][-1]
        trace = go.Scatter(
            name=title,
            legendgroup=title,
            showlegend=column == 1,
            mode="lines+markers",
            line={"color": shade},
            marker={"color": shade, "size": 8},
            x=first[SIZE],
            y=first[name],
            hovertemplate="%{x:,} parameters: %{y:.2f}<extra>" + title + "</extra>",
        )
        figure.add_trace(trace, 1, column)
    items = [
        {
            "label": label,
            "method": "restyle",
            "args": [
                {
                    "x": [part[SIZE].tolist() for part in parts[source]],
                    "y": [part.iloc[:, 1].tolist() for part in parts[source]],
                }
            ],
        }
        for source, label in sources.items()
    ]
    figure.update_yaxes(type="log", exponentformat="power")
    figure.update_yaxes(title_text="share, or multiple of the variance", col=1)
    return _finished(figure, items)
