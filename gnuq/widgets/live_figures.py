"""The book's live figures: drag the data, paint the proxy, the delta method, token by token."""

from __future__ import annotations

from typing import Any, Literal

from gnuq.walkthrough.live_proxy_bias import proxy_bias_options
from gnuq.walkthrough.live_tokens import token_options
from gnuq.widgets.live_figure import LiveFigure

Preset = Literal["moons", "xor", "overlap", "rings", "clouds"]
PRESETS: tuple[Preset, ...] = ("moons", "xor", "overlap", "rings", "clouds")


def drag_the_data(preset: Preset = "moons", classes: Literal[2, 3] = 2) -> LiveFigure:
    """Points to drag, a network that learns them at once, and three maps of its uncertainty.

    The maps are ‖∇p‖², Eq. (4); p(1 − p), Eq. (8); and the variance of five networks that were
    trained from other starts. With three classes they show one class or the sum of all.

    Args:
        preset: which data to start from, one of `PRESETS`.
        classes: 2 or 3.

    Returns:
        The figure. In Jupyter its `state` holds the points (x, y, class from 0), the settings, the
        parameters (theta, in torch's order), their loss, and whether all networks converged.

    Raises:
        ValueError: an unknown preset, or another number of classes.
        ImportError: in Jupyter, without anywidget.
    """
    if preset not in PRESETS:
        raise ValueError(f"preset: {preset!r} is unknown; choose one of {', '.join(PRESETS)}.")
    if classes not in (2, 3):
        raise ValueError(f"classes: {classes} is neither 2 nor 3.")
    return LiveFigure(
        "drag_the_data",
        {"preset": preset, "classes": classes},
        alt=(
            "Three maps of the plane around training points: the squared gradient norm, p(1 − p), "
            "and the variance of five networks. All three follow the boundary between the classes. "
            "Along it the variance of the networks grows away from the data; the norm does so "
            "less, and p(1 − p) not at all."
        ),
        caption=(
            "Drag a point: a small network learns the new data at once. All three maps follow the "
            "boundary (line: p = ½). Along it p(1 − p) stays at its maximum, ¼, while the "
            "disagreement of networks trained from other starts depends on where the data are. "
            "Colours go with the square root of the value. Five networks are a reference, not the "
            "posterior: strong weight decay makes them agree, and then says little."
        ),
        name="live-drag-the-data",
        height=590,
    )


def proxy_bias() -> LiveFigure:
    """Data to paint, which build a Fisher matrix, and its map of uncertainty beside the identity's.

    The maps are ‖∇p‖² and ∇pᵀ(F + λI)⁻¹∇p on the networks, data and grid of Figure 1.

    Returns:
        The figure.

    Raises:
        ImportError: in Jupyter, without anywidget.
    """
    return LiveFigure(
        "proxy_bias",
        proxy_bias_options(),
        alt=(
            "Two maps of the plane side by side. The identity's is as symmetric as the data. The "
            "one from a Fisher matrix of the painted half of the data is small in that half and "
            "large in the other."
        ),
        caption=(
            "Paint the data that build the Fisher matrix: the variance sinks where you paint, on "
            "both sides of the boundary, and stays where you do not. The identity's map knows no "
            "half. With all data painted, the two halves are even again."
        ),
        name="live-proxy-bias",
        height=960,
    )


def delta_method() -> LiveFigure:
    """A Gaussian over one parameter, a prediction, its tangent, and the variance of each.

    Eq. (3) in one dimension, beside the exact variance, for a logistic unit, a cubic and a sine.

    Returns:
        The figure.

    Raises:
        ImportError: in Jupyter, without anywidget.
    """
    return LiveFigure(
        "delta_method",
        {},
        alt=(
            "A curve of a prediction against one parameter, with its tangent at the posterior's "
            "mean and the posterior below. While the posterior is narrow, curve and tangent give "
            "the prediction the same variance. As it widens, the tangent's grows without end and "
            "the logistic curve's does not."
        ),
        caption=(
            "Widen the posterior: the linearised variance, slope² times variance, is the true one "
            "only while the curve looks straight across the posterior. On the steep part of a "
            "logistic curve it becomes too large, on the flat part too small."
        ),
        name="live-delta-method",
        height=760,
    )


def tokens(tokenizer: Any) -> LiveFigure:
    """Recorded answers of a language model, split by Eq. (10) over tokens, pairs, and weights.

    Args:
        tokenizer: of the model that the records are of, SmolLM2-135M-Instruct.

    Returns:
        The figure.

    Raises:
        ArtefactError: a record is missing or torn.
        ImportError: in Jupyter, without anywidget.
    """
    return LiveFigure(
        "tokens",
        token_options(tokenizer),
        alt=(
            "An answer token by token, with bars for each token's probability and its share of the "
            "squared norm, a square of the products of all pairs of tokens, and bars for the "
            "weights that carry the norm. Unsure tokens carry most of it; where an answer repeats "
            "itself, so do products of different tokens."
        ),
        caption=(
            "Choose an answer, then a token. Tokens of middling probability carry most of the "
            "squared norm; tokens that the model is sure of carry almost none. Below: the products "
            "of pairs of tokens, and the weights in which the norm lies."
        ),
        name="live-tokens",
        height=880,
    )
