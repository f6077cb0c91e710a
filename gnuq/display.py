"""Show a plotly figure, with its finding in words, on the website and in a live kernel.

On the website plotly's own output would be blank (a page cannot run its MIME type) or weigh five
megabytes (plotly.js in every page). So a book build, which sets ``GNUQ_BOOK=1``, gets the figure as
data: an HTML ``<figure>`` with the alternative text, the caption and the figure's JSON, drawn by
``book/static/figures.js`` when it comes into view. Everywhere else plotly shows the figure itself.
"""

from __future__ import annotations

import base64
import html
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, SupportsInt

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from pandas.io.formats.style import Styler
    from plotly.basedatatypes import BaseFigure

# In the dark theme the website swaps exactly these for lighter ones (book/static/figures.js), so
# figures that use them are readable in both. Blue and vermillion differ for colour-blind eyes too.
COLOURS: Mapping[str, str] = MappingProxyType(
    {
        "epistemic": "#0068a8",
        "aleatoric": "#c8500a",
        "total": "#6b4fa0",
        "reference": "#5f6b76",
        "good": "#00795a",
        "ink": "#1f2430",
        "paper": "#ffffff",
    }
)

DEFAULT_HEIGHT = 450  # plotly's own, in pixels
_COMPACT_FROM = 1_000  # numbers in an array; below it half the bytes would save nothing
_IDENTIFIER = re.compile(r"[A-Za-z][\w-]*")


def show(
    figure: BaseFigure, *, alt: str, caption: str | None = None, name: str | None = None
) -> None:
    r"""Show one plotly figure.

    Args:
        figure: The figure. Texts inside it use HTML and Unicode (``‖g‖<sup>2</sup>``), not LaTeX:
            the website does not typeset mathematics inside figures. Leave the colours of paper,
            grid and text to the theme, and take those of data from `COLOURS`.
        alt: What the figure shows, as a finding ("The gradient norm follows ..."), for readers who
            do not see it. Plain text.
        caption: Printed below the figure; plain text, in which ``\(...\)`` is typeset.
        name: The HTML ``id`` of the figure, to link to it, and the name of a downloaded image.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If `alt` or `caption` is blank, or `name` cannot be an HTML identifier.
    """
    from IPython.display import display

    publish: Callable[..., None] = display  # IPython does not say its types
    _check(figure, alt, caption, name)
    if in_book():
        publish({"text/html": figure_html(figure, alt, caption, name), "text/plain": alt}, raw=True)
        return
    publish(figure)
    if caption is not None:
        text = html.escape(caption, quote=False)
        publish({"text/html": f"<p><em>{text}</em></p>", "text/plain": caption}, raw=True)


def table(frame: pd.DataFrame, *, precision: int = 2) -> Styler:
    """A table for a page: text flush left and wrapped, numbers rounded, nothing cut off.

    Args:
        frame: The table, indexed by what its rows are.
        precision: Decimal places of numbers.
    """
    left: Any = {"text-align": "left", "white-space": "normal"}
    heads: Any = [{"selector": "th", "props": list(left.items())}]
    return (
        frame.style.format(precision=precision, na_rep="–")
        .set_properties(**left)
        .set_table_styles(heads)
    )


def grouped(count: SupportsInt | str) -> str:
    """A whole number for a sentence, with a space every three digits."""
    return f"{int(count):,}".replace(",", " ")


def rounded(values: Iterable[float], digits: int) -> list[float]:
    """Numbers for a page, to so many significant digits."""
    return [float(f"{value:.{digits}g}") for value in values]


def in_book() -> bool:
    """Say whether this process runs a cell for the website."""
    return os.environ.get("GNUQ_BOOK") == "1"


def figure_html(figure: BaseFigure, alt: str, caption: str | None, name: str | None) -> str:
    """Return the markup that ``book/static/figures.js`` draws.

    Args:
        figure: The figure.
        alt: Its alternative text; also visible until the figure is drawn, or if it cannot be.
        caption: The text below it, or None.
        name: Its HTML ``id``, or None.
    """
    height = int(figure.layout.height or DEFAULT_HEIGHT)
    text = html.escape(alt)
    identifier = "" if name is None else f' id="{name}"'
    # MathJax leaves what a cell puts out alone unless a class asks for it.
    below = (
        ""
        if caption is None
        else f'<figcaption class="mathjax_process">{html.escape(caption)}</figcaption>'
    )
    return (
        f'<figure class="gnuq-figure mathjax_ignore"{identifier} style="--gnuq-height: {height}px">'
        f'<div class="gnuq-plot" role="img" aria-label="{text}">'
        f'<p class="gnuq-alt">{text}</p></div>{below}'
        f'<script type="application/json" class="gnuq-data">{figure_json(figure)}</script>'
        "</figure>"
    )


def figure_json(figure: BaseFigure) -> str:
    """Return the figure's data, layout and frames as JSON that is safe inside a script element.

    Args:
        figure: The figure. Its template is left out: the page's theme takes that place.
    """
    content = json.loads(figure.to_json(validate=False))
    content.get("layout", {}).pop("template", None)
    text = json.dumps(_compact(content), separators=(",", ":"), allow_nan=False)
    # Any "</script>" or "<!--" in a label would end the element early; JSON may spell these so.
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _compact(value: Any) -> Any:
    """Store large arrays of doubles as floats, if no number changes by over 1e-6 of itself."""
    if isinstance(value, list):
        return [_compact(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.get("dtype") == "f8" and "bdata" in value:
        return _single_precision(value)
    return {key: _compact(item) for key, item in value.items()}


def _single_precision(array: dict[str, Any]) -> dict[str, Any]:
    """Return plotly's typed array in single precision if that is smaller and as good."""
    double = np.frombuffer(base64.b64decode(array["bdata"]), dtype="<f8")
    with np.errstate(over="ignore", under="ignore"):
        single = double.astype("<f4")
    # Underflow and overflow fail this test, and so keep their doubles: a zero must not be invented.
    if double.size < _COMPACT_FROM or not np.allclose(single, double, 1e-6, 0, equal_nan=True):
        return array
    return array | {"dtype": "f4", "bdata": base64.b64encode(single.tobytes()).decode("ascii")}


def _check(figure: object, alt: object, caption: object, name: object) -> None:
    """Raise an error that names the wrong argument of `show`."""
    from plotly.basedatatypes import BaseFigure

    if not isinstance(figure, BaseFigure):
        raise TypeError(f"figure must be a plotly figure, not {type(figure).__name__}")
    for argument, value in {"alt": alt, "caption": caption, "name": name}.items():
        if value is None and argument != "alt":
            continue
        if not isinstance(value, str):
            raise TypeError(f"{argument} must be a string, not {type(value).__name__}")
        if not value.strip():
            raise ValueError(f"{argument} must not be blank")
    if isinstance(name, str) and not _IDENTIFIER.fullmatch(name):
        raise ValueError(f"name must be letters, digits, '-' and '_', not {name!r}")
