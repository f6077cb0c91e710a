"""The book's maps with controls, for a live kernel; on the website, a figure with a slider.

The controls only read and show: `gnuq.walkthrough` computes, `gnuq.figures` draws.
"""

from __future__ import annotations

from collections.abc import Callable

from gnuq.display import in_book
from gnuq.widgets.panel import Explorer
from gnuq.widgets.website import show_priors

__all__ = ["Explorer", "explorer"]


def explorer() -> None:
    """Show the explorer: controls in a live kernel, a figure with a slider on the website."""
    if in_book():
        show_priors()
        return
    from IPython.display import display

    publish: Callable[..., None] = display  # IPython does not say its types
    publish(Explorer().panel)
