"""The site check: each thing that a reader must never meet is found, and a good page passes."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[1] / "book" / "check_site.py"
WIDGET = "application/vnd.jupyter.widget-view+json"
DATA = '<script type="application/json" class="gnuq-data">{"data": [{"y": [1]}]}</script>'
FIGURE = (
    '<figure class="gnuq-figure"><div class="gnuq-plot" role="img" aria-label="It falls.">'
    f'<p class="gnuq-alt">It falls.</p></div>{DATA}</figure>'
)
GOOD = f"""<!DOCTYPE html><html><head>
<link rel="stylesheet" href="theme.css?v=1"><link rel="canonical" href="https://example.org/page">
<style>body {{ background: url("theme.css") }}</style><script src="theme.css"></script></head>
<body id="top"><img src="data:image/png;base64,AAAA"><br><a href="https://example.org">elsewhere</a>
<a href="page.html#top">here</a><a href="#top">up</a><a href="mailto:a@b.org">write</a>
<div class="cell_output docutils container"><div class="output text_html">{FIGURE}</div></div>
<div class="cell_output docutils container"><img src="theme.css"></div>
<div class="cell_output docutils container"><div class="output"><pre>3.14</pre></div></div>
</body></html>"""


@pytest.fixture(scope="module")
def checks() -> ModuleType:
    """The script, which is no part of the package."""
    spec = importlib.util.spec_from_file_location("check_site", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A site of one good page."""
    for name in ("plotly.min.js", "live/stage.js", "live/live.css"):
        (tmp_path / "_static" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "_static" / name).write_text("/**/")
    (tmp_path / "theme.css").write_text("body { background: url(data:image/png;base64,AAAA) }")
    (tmp_path / "page.html").write_text(GOOD)
    return tmp_path


def _figure(old: str, new: str) -> str:
    assert old in FIGURE
    return FIGURE.replace(old, new)


def test_a_good_site_passes(
    checks: ModuleType, site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert checks.check_site(site) == {}
    assert checks.main([str(site)]) == 0
    assert "page.html" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("html", "problem"),
    [
        ('<script src="https://cdn.example.org/x.js"></script>', "asks another host"),
        ('<script src="//cdn.example.org/x.js"></script>', "asks another host"),
        ('<link rel="stylesheet" href="https://fonts.example.org/a">', "asks another host"),
        ('<link rel="preload" as="font" href="https://fonts.example.org/a">', "asks another host"),
        ('<img src="http://example.org/x.png">', "asks another host"),
        ('<img srcset="https://example.org/x.png 2x">', "asks another host"),
        ('<iframe src="https://example.org"></iframe>', "asks another host"),
        ('<style>@import "https://example.org/a.css";</style>', "asks another host"),
        ('<p style="background: url(https://example.org/x.png)">x</p>', "asks another host"),
        ('<a href="gone.html">x</a>', "leads nowhere: gone.html"),
        ('<script src="gone.js"></script>', "leads nowhere: gone.js"),
        (_figure('aria-label="It falls."', ""), "without alternative text"),
        (_figure('aria-label="It falls."', 'aria-label=" "'), "without alternative text"),
        (_figure(DATA, ""), "a figure without data"),
        (_figure(DATA, DATA.replace("]}]}", "")), "not JSON"),
        (_figure(DATA, DATA.replace('{"y": [1]}', "")), "no traces"),
        ('<div class="cell_output"><div class="output"> </div></div>', "nothing that a page can"),
        ('<div class="cell_output"><script>draw()</script></div>', "nothing that a page can"),
        ("<pre>Traceback (most recent call last)\nValueError</pre>", "a traceback"),
        ('<div class="output traceback"><pre>ValueError</pre></div>', "a traceback"),
        (f'<script type="{WIDGET}">{{"model_id": "x"}}</script>', "a widget, which a page cannot"),
        ('<p id="a">x</p><p id="a">y</p>', "two elements with id 'a'"),
    ],
)
def test_what_must_not_be_published_is_found(
    checks: ModuleType, site: Path, html: str, problem: str
) -> None:
    page = site / "page.html"
    page.write_text(GOOD.replace("</body>", html + "</body>"))
    found = checks.check_site(site)
    assert list(found) == ["page.html"]
    assert len(found["page.html"]) == 1
    assert problem in found["page.html"][0]
    assert checks.main([str(site)]) == 1


def test_a_style_sheet_may_ask_no_other_host(checks: ModuleType, site: Path) -> None:
    (site / "theme.css").write_text("@font-face { src: url('https://fonts.example.org/a.woff2') }")
    assert checks.check_site(site) == {
        "theme.css": ["asks another host: https://fonts.example.org/a.woff2"]
    }


def test_a_site_without_pages_or_plotly_is_not_good(checks: ModuleType, tmp_path: Path) -> None:
    missing = [".", *(f"_static/{name}" for name in checks.NEEDED)]
    assert list(checks.check_site(tmp_path)) == missing


def _live(markup: str) -> str:
    return GOOD.replace("</body>", f"{markup}</body>")


LIVE = (
    '<figure class="gnuq-figure gnuq-live"><div data-gnuq-live="x" data-options=\'{"a": 1}\'>'
    '<p class="gnuq-alt">Two maps.</p></div></figure>'
)


def test_a_live_figure_says_what_it_shows(checks: ModuleType, site: Path) -> None:
    (site / "page.html").write_text(_live(LIVE))
    assert checks.check_site(site) == {}


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("Two maps.", "", "without alternative text"),
        (" data-options='{\"a\": 1}'", "", "without data"),
        ('{"a": 1}', "{", "not JSON"),
    ],
)
def test_a_bad_live_figure_is_found(
    checks: ModuleType, site: Path, old: str, new: str, problem: str
) -> None:
    (site / "page.html").write_text(_live(LIVE.replace(old, new)))
    (found,) = checks.check_site(site)["page.html"]
    assert problem in found


@pytest.mark.parametrize("arguments", [[], ["no/such/folder"], ["a", "b"]])
def test_a_wrong_call_says_how(
    checks: ModuleType, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert checks.main(arguments) == 2
    assert "usage" in capsys.readouterr().err


@pytest.mark.parametrize("address", ["page.html#absent", "#absent", "other.html#absent"])
def test_a_link_to_a_place_that_is_not_there_is_found(
    checks: ModuleType, site: Path, address: str
) -> None:
    (site / "other.html").write_text(GOOD)
    (site / "page.html").write_text(GOOD.replace('href="#top"', f'href="{address}"'))
    assert checks.check_site(site) == {"page.html": [f"no such place: {address}"]}
