"""Curves of the question-answering experiments, a menu for the model and the benchmark."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from gnuq.display import COLOURS
from gnuq.figures.style import drop_down

#: Benchmark → how figures and tables name it.
BENCHMARKS = {"truthfulqa": "TruthfulQA", "triviaqa": "TriviaQA"}
#: Score → (label, colour, dash). Baselines are grey, what costs nothing is ink.
SCORES = {
    "p_true": ("P(True)", COLOURS["reference"], "solid"),
    "semantic_entropy": ("Semantic entropy", COLOURS["reference"], "dash"),
    "discrete_semantic_entropy": ("Discrete semantic entropy", COLOURS["reference"], "dashdot"),
    "naive_entropy": ("Naive entropy", COLOURS["reference"], "dot"),
    "aleatoric": ("Aleatoric", COLOURS["aleatoric"], "solid"),
    "epistemic": ("Epistemic ‖∇p̄‖²", COLOURS["epistemic"], "solid"),
    "length_free": ("T‖∇p̄‖²", COLOURS["epistemic"], "dash"),
    "length": ("Length T", COLOURS["ink"], "dash"),
    "mean_probability": ("Mean probability", COLOURS["ink"], "solid"),
    "mean_log_probability": ("Mean log-probability", COLOURS["ink"], "dot"),
    "oracle": ("The labels themselves", COLOURS["good"], "dot"),
}
#: Series of the reliability diagram → (colour, symbol).
FITS = {
    "Epi. & alea., fitted": (COLOURS["total"], "circle"),
    "Mean probability, fitted": (COLOURS["ink"], "diamond-open"),
    "P(True), fitted": (COLOURS["good"], "square-open"),
    "P(True), as it stands": (COLOURS["reference"], "x-thin-open"),
}
_DIAGONAL = {"color": COLOURS["reference"], "dash": "dot", "width": 1}
#: What a menu's entry changes of each trace: attribute (`error_y.array`) → value.
Change = Mapping[str, Any]


def roc(curves: pd.DataFrame) -> go.Figure:
    """Wrong answers caught against correct ones suspected, one line a score.

    Args:
        curves: model, benchmark, score, suspected, caught (both shares), auroc.
    """

    def change(score: str, part: pd.DataFrame) -> Change:
        area = part["auroc"].iloc[0]
        ends = {"x": part["suspected"].tolist(), "y": part["caught"].tolist()}
        return {**ends, "name": f"{SCORES[score][0]}: {area:.2f}"}

    figure = _lines(curves, change)
    figure.add_shape(type="line", x0=0, y0=0, x1=1, y1=1, line=_DIAGONAL, layer="below")
    figure.update_xaxes(title_text="share of correct answers suspected", range=[0, 1])
    return figure.update_yaxes(title_text="share of wrong answers caught", range=[0, 1])


def risk_coverage(curves: pd.DataFrame) -> go.Figure:
    """The share of wrong answers among the most certain ones, one line a score.

    Args:
        curves: model, benchmark, score (`oracle` among them), coverage, risk.
    """

    def change(score: str, part: pd.DataFrame) -> Change:
        ends = {"x": part["coverage"].tolist(), "y": part["risk"].tolist()}
        return {**ends, "name": SCORES[score][0]}

    figure = _lines(curves, change)
    figure.update_xaxes(title_text="share of questions answered", range=[0, 1], tickformat=".0%")
    return figure.update_yaxes(title_text="share of them wrong", range=[0, 1], tickformat=".0%")


def reliability(bins: pd.DataFrame) -> go.Figure:
    """Predicted probability of being correct against the share that is, with 95 % intervals.

    Args:
        bins: model, benchmark, fit (a key of `FITS`), predicted, observed, low, high.
    """
    fits = [name for name in FITS if name in set(bins["fit"])]
    figure = go.Figure([_marks(name) for name in fits])
    views = {}
    for run, part in runs(bins):
        of = [part[part["fit"] == name] for name in fits]
        views[run] = [
            {
                "x": one["predicted"].tolist(),
                "y": one["observed"].tolist(),
                "error_y.array": (one["high"] - one["observed"]).tolist(),
                "error_y.arrayminus": (one["observed"] - one["low"]).tolist(),
            }
            for one in of
        ]
    figure.add_shape(type="line", x0=0, y0=0, x1=1, y1=1, line=_DIAGONAL, layer="below")
    figure.update_xaxes(title_text="probability of being correct, as told", range=[0, 1])
    figure.update_yaxes(title_text="share correct", range=[0, 1], tickformat=".0%")
    return finished(figure, views)


def _marks(name: str) -> go.Scatter:
    shade, symbol = FITS[name]
    return go.Scatter(
        name=name,
        mode="markers",
        marker={"color": shade, "symbol": symbol, "size": 9, "line": {"width": 2}},
        error_y={"type": "data", "thickness": 1, "width": 3, "color": shade},
        hovertemplate="told %{x:.2f}, %{y:.0%} correct<extra>" + name + "</extra>",
    )


def _lines(curves: pd.DataFrame, change: Callable[[str, pd.DataFrame], Change]) -> go.Figure:
    """One line a score; the menu moves all of them to another run."""
    scores = [name for name in SCORES if name in set(curves["score"])]
    figure = go.Figure()
    for name in scores:
        label, shade, dash = SCORES[name]
        figure.add_scatter(
            mode="lines",
            line={"color": shade, "dash": dash, "width": 2},
            hovertemplate="%{x:.2f}: %{y:.2f}<extra>" + label + "</extra>",
        )
    views = {
        run: [change(name, part[part["score"] == name]) for name in scores]
        for run, part in runs(curves)
    }
    return finished(figure, views)


def runs(frame: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Each run's label in the menu and its rows, in the order of the table.

    Args:
        frame: columns model and benchmark, and others.
    """
    labels = frame["model"] + ", " + frame["benchmark"].map(BENCHMARKS)
    return [(str(label), part) for label, part in frame.groupby(labels, sort=False)]


def finished(figure: go.Figure, views: Mapping[str, Sequence[Change]]) -> go.Figure:
    """Show the first view, and offer all of them in a menu.

    Args:
        figure: as many traces as each view has changes.
        views: the menu's entries.
    """
    for trace, change in zip(figure.data, next(iter(views.values())), strict=True):
        trace.update(**{name.replace(".", "_"): value for name, value in change.items()})
    return figure.update_layout(
        height=520,
        margin={"l": 60, "r": 15, "t": 70, "b": 150},
        updatemenus=[drop_down(entries(views), y=1.04) | {"name": "Model and benchmark"}],
        legend={"orientation": "h", "x": 0, "y": -0.18},
    )


def entries(views: Mapping[str, Sequence[Change]]) -> list[dict]:
    """A menu's entries, which change every trace at once.

    Args:
        views: label → a change for each trace, all of the same attributes.
    """
    items = []
    for label, changes in views.items():
        changed = {name: [change[name] for change in changes] for name in changes[0]}
        items.append({"label": label, "method": "restyle", "args": [changed]})
    return items
