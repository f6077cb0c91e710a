"""Live figures: their markup on the website, their modules in a notebook, their errors."""

from __future__ import annotations

import base64
import json
import re
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from gnuq.widgets import live_figure
from gnuq.widgets.live_figure import FOLDER, LiveFigure, embedded
from gnuq.widgets.live_figures import PRESETS, delta_method, drag_the_data, proxy_bias

MODULES = sorted(path.stem for path in FOLDER.glob("*.js"))
TEXTS: dict[str, Any] = {"alt": "A finding.", "caption": "Its words.", "name": "it", "height": 300}


class _Elements(HTMLParser):
    """The attributes and text of each element, by tag."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.attributes: dict[str, dict[str, str | None]] = {}
        self.texts: dict[str, str] = {}
        self._tag = ""
        self.feed(markup)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._tag = tag
        self.attributes[tag] = dict(attrs)

    def handle_data(self, data: str) -> None:
        self.texts[self._tag] = self.texts.get(self._tag, "") + data


@pytest.fixture
def book(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GNUQ_BOOK", "1")


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GNUQ_BOOK", raising=False)


def _elements(figure: LiveFigure) -> _Elements:
    return _Elements(figure._repr_mimebundle_()["text/html"])


@pytest.mark.usefixtures("book")
def test_the_website_gets_a_place_for_the_figure_and_its_words() -> None:
    found = _elements(drag_the_data("xor", 3))
    host = found.attributes["div"]
    assert host["data-gnuq-live"] == "drag_the_data"
    assert json.loads(host["data-options"] or "") == {"preset": "xor", "classes": 3}
    assert found.attributes["figure"]["id"] == "live-drag-the-data"
    assert (found.attributes["figure"]["class"] or "").split()[:2] == ["gnuq-figure", "gnuq-live"]
    assert "gradient norm" in found.texts["p"]
    assert "disagreement" in found.texts["figcaption"]


@pytest.mark.usefixtures("book")
@pytest.mark.parametrize(
    ("make", "module"), [(delta_method, "delta_method"), (proxy_bias, "proxy_bias")]
)
def test_each_figure_names_its_module(make: Callable[[], LiveFigure], module: str) -> None:
    assert _elements(make()).attributes["div"]["data-gnuq-live"] == module


@pytest.mark.usefixtures("book")
def test_texts_and_options_arrive_as_they_are() -> None:
    hostile = """</figure><script>alert("x & 'y'")</script>"""
    texts = TEXTS | {"alt": hostile, "caption": hostile, "name": 'a"b'}
    found = _elements(LiveFigure("drag_the_data", {"text": hostile}, **texts))
    assert json.loads(found.attributes["div"]["data-options"] or "") == {"text": hostile}
    assert (found.texts["p"], found.texts["figcaption"]) == (hostile, hostile)
    assert "script" not in found.attributes


@pytest.mark.usefixtures("book")
def test_on_the_website_nothing_needs_anywidget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "anywidget", None)
    figure = drag_the_data()
    assert figure.widget is None
    assert figure.state == {}


@pytest.mark.usefixtures("notebook")
def test_without_anywidget_the_error_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "anywidget", None)
    with pytest.raises(ImportError, match="pip install anywidget"):
        drag_the_data()


@pytest.mark.usefixtures("notebook")
def test_a_notebook_gets_a_widget_whose_state_can_be_read() -> None:
    pytest.importorskip("anywidget")
    figure = drag_the_data("rings")
    assert figure.widget.options == {"preset": "rings", "classes": 2}
    assert figure.widget._esm == embedded("drag_the_data")
    assert ".gnuq-live-host" in figure.widget._css
    assert figure.state == {}
    figure.widget.state = {"points": [[0.5, 1.0, 0]]}
    assert figure.state["points"] == [[0.5, 1.0, 0]]


def _parts(source: str) -> list[str]:
    """The modules that a module carries inside itself."""
    found = re.findall(r'from "data:text/javascript;base64,([^"]+)"', source)
    return [base64.b64decode(text).decode() for text in found]


@pytest.mark.parametrize("module", MODULES)
def test_an_embedded_module_carries_what_it_imports(module: str) -> None:
    source = (FOLDER / f"{module}.js").read_text(encoding="utf-8")
    wanted = re.findall(r'from "\./(\w+)\.js"', source)
    text = embedded(module)
    assert "./" not in "".join(re.findall(r'from "([^"]{,40})', text))
    assert _parts(text) == [embedded(name) for name in wanted]


@pytest.mark.parametrize("module", MODULES)
def test_modules_import_only_their_neighbours(module: str) -> None:
    """No package, no other host: the site serves all that a figure needs."""
    source = (FOLDER / f"{module}.js").read_text(encoding="utf-8")
    for name in re.findall(r'(?:from|import) ?\(?"([^"]+)"', source):
        assert re.fullmatch(r"\./\w+\.js", name)
        assert name[2:-3] in MODULES
    assert "http" not in re.sub(r"http://www\.w3\.org/\S+", "", source)


def test_presets_are_those_of_the_module() -> None:
    source = (FOLDER / "drag_the_data.js").read_text(encoding="utf-8")
    block = re.search(r"const PRESETS = \{(.*?)\n\};", source, flags=re.DOTALL)
    assert block
    assert tuple(re.findall(r"^  (\w+): \{$", block[1], flags=re.MULTILINE)) == PRESETS


@pytest.mark.usefixtures("book")
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: drag_the_data("spirals"), "preset: 'spirals' is unknown; choose one of moons"),  # type: ignore[arg-type]
        (lambda: drag_the_data("moons", 4), "classes: 4 is neither 2 nor 3"),  # type: ignore[arg-type]
        (lambda: LiveFigure("absent", {}, **TEXTS), "module: live/absent.js does not exist"),
        (
            lambda: LiveFigure("drag_the_data", {"x": float("nan")}, **TEXTS),
            "options: .* finite numbers only",
        ),
        (lambda: LiveFigure("drag_the_data", {"x": object()}, **TEXTS), "options: .* JSON types"),
    ],
)
def test_errors_name_the_argument_and_the_remedy(
    make: Callable[[], LiveFigure], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_anywidget_is_imported_only_here() -> None:
    """The package works without it: only the figure in a notebook asks for it."""
    package = FOLDER.parents[1]
    users = [p for p in package.rglob("*.py") if "import anywidget" in p.read_text("utf-8")]
    assert users == [Path(live_figure.__file__)]
