"""The gradient of one prediction, and the variance along a line."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from gnuq.display import COLOURS


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
