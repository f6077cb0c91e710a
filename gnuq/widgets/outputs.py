"""What the explorer displays, as MIME bundles: figures, correlations, rank plots, messages."""

from __future__ import annotations

import base64
import html
import io
import json
from typing import Any

import ipywidgets
import numpy as np
import pandas as pd
import plotly.graph_objects as go

from gnuq.display import COLOURS, table
from gnuq.figures.live import TITLES
from gnuq.walkthrough import live
from gnuq.walkthrough.live import Settings
from gnuq.walkthrough.sampling import Comparison, Sampled


def fill(output: ipywidgets.Output, *bundles: dict[str, Any]) -> None:
    """Replace all that an output shows in one message, so that nothing flickers."""
    output.outputs = tuple(
        {"output_type": "display_data", "data": bundle, "metadata": {}} for bundle in bundles
    )


def plotly(figure: go.Figure) -> dict[str, Any]:
    """The figure as plotly would display it here; outside a notebook, as its MIME type."""
    fallback = {"application/vnd.plotly.v1+json": json.loads(figure.to_json())}
    return figure._repr_mimebundle_() or fallback


def say(message: str, *, shade: str = COLOURS["reference"]) -> str:
    """A line that screen readers announce."""
    return f'<span role="status" style="color: {shade}">{html.escape(message, quote=False)}</span>'


def state(settings: Settings, frame: pd.DataFrame, seconds: float) -> str:
    """What was computed, and what to make of it."""
    fit, _ = live.fitted(settings)
    said = (
        f"{settings.architecture.parameters} parameters; mode after {fit.iterations} steps, "
        f"gradient norm {fit.gradient_norm:.0e}; shown in {seconds:.1f} s. "
    )
    if live.is_flat(frame):
        said += "This mode predicts the same everywhere: its maps are flat. "
    return said


def evidence(sample: Sampled, comparison: Comparison) -> list[dict[str, Any]]:
    """The correlations, how well the chains agree, and ArviZ's rank plots."""
    titles = dict(TITLES)
    if sample.settings.task == "regression":
        titles["hmc_epistemic"] = "HMC: variance of the value"
    correlations = comparison.correlations.replace(titles)
    correlations.columns = pd.Index(["at the mode", "sampled", "Pearson", "Spearman"])
    styled = table(correlations.set_index(["at the mode", "sampled"])).to_html()
    said = (
        f"Sampled in {sample.seconds:.0f} s on a coarse grid of {len(comparison.frame)} points: "
        f"worst r̂ {comparison.r_hat:.3f}, smallest effective sample size "
        f"{comparison.effective_samples:.0f}, {sample.divergences} divergences. The book's rule "
        "asks for r̂ below 1.01 and more than 400. Below, ranks of the draws of each chain at four "
        "points of the grid, from the worst r̂ to the best: flat where the chains agree."
    )
    return [{"text/html": f"{styled}<p>{said}</p>"}, ranks(comparison.ranked)]


def ranks(ranked: np.ndarray) -> dict[str, Any]:
    """ArviZ's rank plot as something to display: matplotlib's before ArviZ 1, plotly's since."""
    from gnuq.posteriors import diagnostics

    drawn = diagnostics.plot_ranks(ranked)
    if diagnostics.ARVIZ_1:
        return plotly(drawn.viz["figure"].item().update_layout(width=None, height=300))
    from matplotlib import pyplot

    figure, image = drawn.ravel()[0].figure, io.BytesIO()
    figure.set_size_inches(16, 4)
    for axes in drawn.ravel()[1:]:
        axes.set_ylabel("")
    figure.savefig(image, format="png", bbox_inches="tight")
    pyplot.close(figure)
    data = base64.b64encode(image.getvalue()).decode("ascii")
    alt = "Rank plots of four predictions, one row of bars a chain."
    style = "max-width: 100%; background: white"
    return {"text/html": f'<img alt="{alt}" style="{style}" src="data:image/png;base64,{data}">'}
