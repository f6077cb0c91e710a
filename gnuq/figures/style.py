"""What all figures share: names of columns as titles, one colour scale, buttons."""

from __future__ import annotations

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
}


def buttons(items: list[dict]) -> dict:
    """A row of buttons above the figure.

    Args:
        items: plotly buttons, each with label, method and args.
    """
    return {
        "type": "buttons",
        "direction": "right",
        "buttons": items,
        "x": 0,
        "xanchor": "left",
        "y": 1.12,
        "yanchor": "bottom",
        "showactive": True,
    }


def drop_down(items: list[dict], *, y: float) -> dict:
    """The same as a drop-down: several buttons a row would not fit a phone.

    Args:
        items: as for `buttons`.
        y: its lower edge, in heights of the plot.
    """
    return buttons(items) | {"type": "dropdown", "direction": "down", "y": y}
