"""The proxy-bias figure's data: the networks of Figure 1 and Table 3, small enough for a page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch.nn.utils import parameters_to_vector

from gnuq.display import rounded
from gnuq.results import proxy_bias

#: Significant digits of a number on the page.
DIGITS = 6


def proxy_bias_options(
    problems: Sequence[str] = ("xor", "rings", "linear"), seed: int = 0
) -> dict[str, Any]:
    """What the proxy-bias figure shows: data and trained networks, λ = 1; JSON types only.

    Args:
        problems: of `gnuq.results.proxy_bias.PROBLEMS`, the first shown first.
        seed: of data and start; 0 gives the networks of Figure 1.

    Returns:
        widths of the hidden layers, and problems: by name, x (x₁ and x₂ of every point, one point
        after another), labels and theta, the parameters in torch's order.

    Raises:
        ValueError: another problem.
    """
    runs = {name: proxy_bias.trained(name, seed) for name in problems}
    shown = {
        name: {
            "x": rounded(run.problem.inputs.flatten().tolist(), DIGITS),
            "labels": run.problem.targets.tolist(),
            "theta": rounded(parameters_to_vector(run.fit.network.parameters()).tolist(), DIGITS),
        }
        for name, run in runs.items()
    }
    return {"widths": list(proxy_bias.NETWORK.hidden), "problems": shown}
