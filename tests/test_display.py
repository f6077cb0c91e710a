"""The website's figures: complete, accessible, and safe inside a page."""

from __future__ import annotations

import base64
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest

from gnuq.display import COLOURS, figure_html, figure_json, show

STATIC = Path(__file__).parents[1] / "book" / "static"
HOSTILE = "</script><script>alert('$x$ & \\(y\\)')</script><!--"


class _Figure(HTMLParser):
    """Collect the elements, attributes and JSON of one figure's markup."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: dict[str, dict[str, str | None]] = {}
        self.texts: dict[str, str] = {}
        self.feed(markup)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes[tag] = dict(attrs)

    def handle_data(self, data: str) -> None:
        self.texts[self.tags[-1]] = self.texts.get(self.tags[-1], "") + data


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What `show` hands to IPython."""
    seen: list[Any] = []
    monkeypatch.setattr("IPython.display.display", lambda value, **_: seen.append(value))
    return seen


def _heatmap(values: np.ndarray, **layout: Any) -> go.Figure:
    return go.Figure(go.Heatmap(z=values), layout=layout)


def _stored(figure: go.Figure) -> np.ndarray:
    z = json.loads(figure_json(figure))["data"][0]["z"]
    return np.frombuffer(base64.b64decode(z["bdata"]), dtype=z["dtype"])


def test_the_website_gets_the_figure_as_data(
    shown: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GNUQ_BOOK", "1")
    show(_heatmap(np.eye(2), height=300), alt="It falls.", caption="A < B", name="falls")
    (bundle,) = shown
    page = _Figure(bundle["text/html"])
    assert bundle["text/plain"] == "It falls."
    assert page.tags == ["figure", "div", "p", "figcaption", "script"]
    assert page.attributes["div"]["role"] == "img"
    assert page.attributes["div"]["aria-label"] == "It falls."
    assert page.attributes["figure"]["id"] == "falls"
    assert page.attributes["figure"]["style"] == "--gnuq-height: 300px"
    assert page.texts["figcaption"] == "A < B"
    assert json.loads(page.texts["script"])["data"][0]["type"] == "heatmap"


def test_a_live_kernel_gets_plotlys_own_figure(
    shown: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GNUQ_BOOK", raising=False)
    figure = _heatmap(np.eye(2))
    show(figure, alt="It falls.", caption="A < B")
    assert shown[0] is figure
    assert "A &lt; B" in shown[1]["text/html"]
    show(figure, alt="It falls.")
    assert len(shown) == 3


def test_no_text_can_leave_its_place_in_the_page() -> None:
    page = _Figure(figure_html(_heatmap(np.eye(2), title=HOSTILE), HOSTILE, HOSTILE, None))
    assert page.tags == ["figure", "div", "p", "figcaption", "script"]
    assert page.attributes["div"]["aria-label"] == HOSTILE
    assert page.texts["figcaption"] == HOSTILE
    assert json.loads(page.texts["script"])["layout"]["title"]["text"] == HOSTILE


def test_the_json_has_no_template_and_no_markup() -> None:
    figure = _heatmap(np.eye(2), title="<b>&</b>")
    figure.update_layout(template="plotly_white")
    text = figure_json(figure)
    assert "template" not in json.loads(text)["layout"]
    assert not re.search(r"[<>&]", text)


def test_large_arrays_take_half_the_bytes_and_keep_their_values() -> None:
    values = np.random.default_rng(0).lognormal(sigma=5, size=(40, 40))
    values[0, 0] = np.nan
    stored = _stored(_heatmap(values))
    assert stored.dtype == np.float32
    np.testing.assert_allclose(stored.reshape(values.shape), values, rtol=1e-6)


@pytest.mark.parametrize("extreme", [1e-60, 1e60])
def test_numbers_beyond_single_precision_stay_doubles(extreme: float) -> None:
    values = np.full((40, 40), extreme)
    stored = _stored(_heatmap(values))
    assert stored.dtype == np.float64
    assert (stored == extreme).all()


def test_frames_and_lists_survive() -> None:
    figure = go.Figure(go.Scatter(x=[1, None, 3], y=["a", "b", "c"]))
    figure.frames = [go.Frame(name="first", data=[go.Scatter(x=[2])])]
    content = json.loads(figure_json(figure))
    assert content["data"][0]["x"] == [1, None, 3]
    assert content["frames"][0]["name"] == "first"


@pytest.mark.parametrize(
    ("arguments", "error", "named"),
    [
        ({"figure": {"data": []}}, TypeError, "figure"),
        ({"alt": None}, TypeError, "alt"),
        ({"alt": "  "}, ValueError, "alt"),
        ({"caption": 3}, TypeError, "caption"),
        ({"caption": ""}, ValueError, "caption"),
        ({"name": "2 words"}, ValueError, "name"),
        ({"name": 'x" onload="'}, ValueError, "name"),
    ],
)
def test_a_wrong_argument_is_named(
    arguments: dict[str, Any], error: type[Exception], named: str, shown: list[Any]
) -> None:
    good: dict[str, Any] = {"figure": _heatmap(np.eye(2)), "alt": "It falls."} | arguments
    with pytest.raises(error, match=f"^{named} must"):
        show(good.pop("figure"), **good)
    assert not shown


def test_the_script_and_the_style_sheet_know_every_colour() -> None:
    script = (STATIC / "figures.js").read_text(encoding="utf-8")
    style = (STATIC / "theme.css").read_text(encoding="utf-8")
    for role, colour in COLOURS.items():
        assert f'"{colour}"' in script, role
        assert f"--gnuq-{role}: {colour};" in style, role
