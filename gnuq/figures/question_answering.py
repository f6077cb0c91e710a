"""AUROCs of the question-answering experiments, and the distributions behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from gnuq.display import COLOURS
from gnuq.figures.question_curves import BENCHMARKS, SCORES, Change, entries, runs
from gnuq.figures.style import drop_down

#: Methods drawn in a colour of their own; the others are grey.
_SHADES = {
    "Aleatoric": COLOURS["aleatoric"],
    "Epistemic": COLOURS["epistemic"],
    "T‖∇p̄‖²": COLOURS["epistemic"],
    "Epi. & alea.": COLOURS["total"],
    "Epi. & alea. (log)": COLOURS["total"],
}
#: Of the two series of a row: symbol with which it is drawn, and its distance from the row.
_MARKS = (("circle", 0.15), ("diamond-open", -0.2))


class _Rows(NamedTuple):
    """The rows of a figure, headings among them.

    Attributes:
        ticks: what stands before each row, top first; headings are bold.
        places: height of each method's row.
    """

    ticks: list[str]
    places: dict[str, int]


def auroc_dots(frame: pd.DataFrame, groups: Mapping[str, Sequence[str]]) -> go.Figure:
    """AUROC of every method with its interval, one panel a benchmark; a menu chooses the model.

    Args:
        frame: model, benchmark, method, series (two of them at most), value, low, high.
        groups: heading → methods, top first. Chance, ½, is dotted.
    """
    rows, series = _rows(groups), list(frame["series"].unique())
    benchmarks = [name for name in BENCHMARKS if name in set(frame["benchmark"])]
    titles = [BENCHMARKS[name] for name in benchmarks]
    figure = make_subplots(
        1, len(titles), shared_yaxes=True, horizontal_spacing=0.04, subplot_titles=titles
    )
    views: dict[str, list[Change]] = {model: [] for model in frame["model"].unique()}
    for column, benchmark in enumerate(benchmarks, 1):
        for number, name in enumerate(series):
            figure.add_trace(_dots(rows, number, name, legend=column == 1), 1, column)
            for model, changes in views.items():
                part = _chosen(frame, model=model, benchmark=benchmark, series=name)
                changes.append(_interval(part.set_index("method").reindex(list(rows.places))))
    figure.add_vline(x=0.5, line={"color": COLOURS["reference"], "dash": "dot", "width": 1})
    for trace, change in zip(figure.data, next(iter(views.values())), strict=True):
        trace.update(**{key.replace(".", "_"): value for key, value in change.items()})
    figure.update_xaxes(title_text="AUROC", range=_range(frame))
    count = len(rows.ticks)
    figure.update_yaxes(tickvals=np.arange(count)[::-1], ticktext=rows.ticks)
    figure.update_yaxes(range=[-0.7, count - 0.3], zeroline=False)
    return figure.update_layout(
        height=170 + 26 * count,
        margin={"l": 20, "r": 15, "t": 90, "b": 90},
        updatemenus=[drop_down(entries(views), y=1.1) | {"name": "Model"}],
        legend={"orientation": "h", "x": 0, "y": -0.14},
    )


def _rows(groups: Mapping[str, Sequence[str]]) -> _Rows:
    ticks = [text for head, methods in groups.items() for text in (f"<b>{head}</b>", *methods)]
    chosen = {method for methods in groups.values() for method in methods}
    places = {text: len(ticks) - 1 - i for i, text in enumerate(ticks) if text in chosen}
    return _Rows(ticks, places)


def _dots(rows: _Rows, number: int, name: str, *, legend: bool) -> go.Scatter:
    symbol, offset = _MARKS[number]
    shades = [_SHADES.get(method, COLOURS["ink"]) for method in rows.places]
    return go.Scatter(
        y=np.array(list(rows.places.values())) + offset,
        name=name,
        legendgroup=name,
        showlegend=legend,
        mode="markers",
        marker={"color": shades, "symbol": symbol, "size": 9, "line": {"width": 1.5}},
        error_x={"type": "data", "color": COLOURS["reference"], "thickness": 1.2, "width": 0},
        customdata=list(rows.places),
        hovertemplate="%{customdata}: %{x:.2f}<extra>" + name + "</extra>",
    )


def _chosen(frame: pd.DataFrame, **wanted: str) -> pd.DataFrame:
    """The rows with these values."""
    return frame[(frame[list(wanted)] == pd.Series(wanted)).all(axis=1)]


def _interval(part: pd.DataFrame) -> Change:
    return {
        "x": part["value"].tolist(),
        "error_x.array": (part["high"] - part["value"]).tolist(),
        "error_x.arrayminus": (part["value"] - part["low"]).tolist(),
    }


def _range(frame: pd.DataFrame) -> list[float]:
    low, high = frame[["low", "value"]].min().min(), frame[["high", "value"]].max().max()
    return [min(low, 0.4) - 0.02, max(high, 0.6) + 0.02]


def distributions(bins: pd.DataFrame) -> go.Figure:
    """Any score among correct and wrong answers; menus for the run and for the score.

    The two menus are independent: one moves all traces to another run, the other shows the pair
    of traces that belongs to a score.

    Args:
        bins: model, benchmark, score, correct, value (a bin's left end; a logarithm where
            `logarithmic`), share (of the answers with that label), answers (with that label),
            auroc (of the score), logarithmic.
    """
    scores = [name for name in SCORES if name in set(bins["score"])]
    figure = go.Figure()
    for name in scores:
        for correct in (True, False):
            figure.add_trace(_steps(correct=correct, visible=name == scores[0]))
    views = {
        run: [
            _pair(part[(part["score"] == name) & (part["correct"] == correct)])
            for name in scores
            for correct in (True, False)
        ]
        for run, part in runs(bins)
    }
    for trace, change in zip(figure.data, next(iter(views.values())), strict=True):
        trace.update(**change)
    choices = [_choice(bins, name, scores) for name in scores]
    figure.update_xaxes(title_text=choices[0]["args"][1]["xaxis.title.text"])
    figure.update_yaxes(title_text="share of the answers", tickformat=".0%", rangemode="tozero")
    return figure.update_layout(
        height=480,
        margin={"l": 60, "r": 15, "t": 110, "b": 100},
        updatemenus=[
            drop_down(entries(views), y=1.16) | {"name": "Model and benchmark"},
            drop_down(choices, y=1.02) | {"name": "Score"},
        ],
        legend={"orientation": "h", "x": 0, "y": -0.22},
    )


def _steps(*, correct: bool, visible: bool) -> go.Scatter:
    shade = COLOURS["good" if correct else "ink"]
    return go.Scatter(
        visible=visible,
        mode="lines",
        line={"color": shade, "shape": "hv", "dash": "solid" if correct else "dash", "width": 2},
        fill="tozeroy" if correct else None,
        fillcolor="rgba(0, 121, 90, 0.15)" if correct else None,
        hovertemplate="from %{x:.3g}: %{y:.1%}<extra>%{fullData.name}</extra>",
    )


def _pair(part: pd.DataFrame) -> Change:
    """One trace's histogram, and what the legend says of it."""
    told = part.iloc[0]
    name = f"correct: {told['answers']} answers"
    if not told["correct"]:
        name = f"wrong: {told['answers']} answers (AUROC {told['auroc']:.2f})"
    return {"x": part["value"].tolist(), "y": part["share"].tolist(), "name": name}


def _choice(bins: pd.DataFrame, name: str, scores: Sequence[str]) -> dict:
    """The entry of the score menu that shows one score."""
    logarithmic = bins.loc[bins["score"] == name, "logarithmic"].iloc[0]
    title = f"log₁₀ of {SCORES[name][0]}" if logarithmic else SCORES[name][0]
    visible = [one == name for one in scores for _ in (True, False)]
    args = [{"visible": visible}, {"xaxis.title.text": title}]
    return {"label": SCORES[name][0], "method": "update", "args": args}
