"""A live figure: a small model that runs in the reader's browser, with or without a kernel.

Each is one ES module in ``gnuq/widgets/live``. On the website ``book/static/live.js`` mounts it; in
Jupyter it is an anywidget, whose state a cell can read.
"""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from gnuq.display import in_book

FOLDER = Path(__file__).parent / "live"
_IMPORT = re.compile(r'(?<=from )"\./(\w+)\.js"')


class LiveFigure:
    """A live figure, which shows itself as the value of a cell.

    Attributes:
        widget: the anywidget; None in a book build.
    """

    def __init__(
        self,
        module: str,
        options: Mapping[str, Any],
        *,
        alt: str,
        caption: str,
        name: str,
        height: int,
    ) -> None:
        r"""Prepare a figure.

        Args:
            module: the name of its ES module in `FOLDER`, without ``.js``.
            options: what the module's ``mount`` takes; JSON types only.
            alt: the finding, for readers who do not see the figure. Plain text.
            caption: printed below it; plain text, in which the website typesets ``\(...\)``.
            name: the HTML ``id`` on the website.
            height: what the website keeps free until the figure is there, in pixels.

        Raises:
            ValueError: no such module, or options that are not JSON.
            ImportError: in Jupyter, without anywidget.
        """
        if not (FOLDER / f"{module}.js").is_file():
            raise ValueError(f"module: {FOLDER.name}/{module}.js does not exist.")
        self._alt = alt
        self._markup = _markup(module, options, alt, caption, name, height)
        self.widget = None if in_book() else _widget(module, options, alt, caption)

    @property
    def state(self) -> dict[str, Any]:
        """What the figure last reported from the reader's browser; empty before, and in a book."""
        return {} if self.widget is None else dict(self.widget.state)

    def _repr_mimebundle_(self, **_: Any) -> Any:
        """What IPython displays."""
        if self.widget is None:
            return {"text/html": self._markup, "text/plain": self._alt}
        return self.widget._repr_mimebundle_()


def _markup(
    module: str, options: Mapping[str, Any], alt: str, caption: str, name: str, height: int
) -> str:
    """What ``book/static/live.js`` makes a figure of; until then, the alternative text."""
    try:
        data = json.dumps(dict(options), separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"options: {error}; give JSON types and finite numbers only.") from error
    # MathJax leaves what a cell puts out alone unless a class asks for it.
    return (
        f'<figure class="gnuq-figure gnuq-live mathjax_ignore" id="{html.escape(name)}">'
        f'<div class="gnuq-live-host" data-gnuq-live="{module}" '
        f'data-options="{html.escape(data)}" style="min-height: {height}px">'
        f'<p class="gnuq-alt">{html.escape(alt)}</p></div>'
        f'<figcaption class="mathjax_process">{html.escape(caption)}</figcaption></figure>'
    )


def _widget(module: str, options: Mapping[str, Any], alt: str, caption: str) -> Any:
    """The figure as an anywidget."""
    try:
        import anywidget
        import traitlets
    except ImportError as error:
        raise ImportError(
            "A live figure in a notebook needs anywidget: pip install anywidget, then restart the "
            "kernel. The website shows the figure without it."
        ) from error

    class Live(anywidget.AnyWidget):  # type: ignore[misc]
        _esm = embedded(module)
        _css = (FOLDER / "live.css").read_text(encoding="utf-8")
        options = traitlets.Dict().tag(sync=True)
        alt = traitlets.Unicode().tag(sync=True)
        caption = traitlets.Unicode().tag(sync=True)
        state = traitlets.Dict().tag(sync=True)

    return Live(options=dict(options), alt=alt, caption=caption)


@cache
def embedded(module: str) -> str:
    """The module as one text: each import from beside it becomes a ``data:`` address.

    anywidget loads a module from its text, where relative imports lead nowhere.

    Args:
        module: its name in `FOLDER`, without ``.js``.
    """
    source = (FOLDER / f"{module}.js").read_text(encoding="utf-8")
    return _IMPORT.sub(lambda found: f'"{_address(found[1])}"', source)


def _address(module: str) -> str:
    """The address that holds the module itself."""
    text = base64.b64encode(embedded(module).encode()).decode("ascii")
    return f"data:text/javascript;base64,{text}"
