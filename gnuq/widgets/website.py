"""The website's stand-in for the explorer: widgets do nothing on a page without a kernel."""

from __future__ import annotations

from collections.abc import Callable

from gnuq.display import show
from gnuq.figures.live import prior_maps
from gnuq.results import correlate
from gnuq.walkthrough.live import Settings, estimates, is_flat

PRECISIONS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


def show_priors() -> None:
    """The website's figure: two maps of XOR, and a slider over prior precisions."""
    from IPython.display import HTML, display

    publish: Callable[..., None] = display
    frames = {k: estimates(Settings(prior_precision=k)) for k in PRECISIONS}
    shown = ("gradient_norm", "laplace_epistemic")
    flat = [f"{precision:g}" for precision, frame in frames.items() if is_flat(frame)]
    curved = [frame for frame in frames.values() if not is_flat(frame)]
    found = [correlate(frame, {"": shown})["pearson"].item() for frame in curved]
    told = f"Pearson correlation from {min(found):.2f} to {max(found):.2f}"
    zero = f" At λ = {', '.join(flat)} the mode is the zero network: both are flat." if flat else ""
    show(
        prior_maps(frames, Settings().problem, shown),
        alt=f"XOR: maps of the squared gradient norm and of the Laplace variance, by prior "
        f"precision. Where neither is flat they agree with a {told}.{zero}",
        caption=rf"Move \(\lambda\): the two maps change, and with them their agreement ({told}). "
        rf"Each map is scaled to its own maximum.{zero}",
        name="fig-explorer",
    )
    publish(HTML("<p>For all problems and controls run <code>make lab</code>.</p>"))
