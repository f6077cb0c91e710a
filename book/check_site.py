"""Check the built website: complete, self-contained, and with every figure in words.

Usage: python book/check_site.py _build/html

A reader's browser must ask no other host for anything, no figure may be blank or without
alternative text, no output may be empty or a traceback, and no link may lead nowhere on the site:
neither to a page nor to a place on a page that is not there.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass, field
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# What a browser fetches by itself when it opens a page.
FETCHED = {"src", "srcset", "poster", "data"}
FETCHED_RELATIONS = {"stylesheet", "icon", "preload", "prefetch", "modulepreload", "preconnect"}
CSS_REMOTE = re.compile(
    r"""(?:url\(\s*|@import\s+)["']?((?:https?:)?//[^"')\s;]+)""", re.IGNORECASE
)
NEEDED = ("plotly.min.js", "live/stage.js", "live/live.css")
KERNEL_ONLY = "application/vnd.jupyter.widget-view+json"
TRACEBACK = "Traceback (most recent call last)"


@dataclass
class Figure:
    """What a page holds of one figure."""

    alt: str = ""
    data: str | None = None
    live: bool = False  # runs in the reader's browser; its words stand where it will be


@dataclass
class Page(HTMLParser):
    """The parts of a page that the checks look at, collected in one pass over its HTML."""

    figures: list[Figure] = field(default_factory=list)
    fetched: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    identifiers: list[str] = field(default_factory=list)
    styles: str = ""
    text: str = ""
    empty_outputs: int = 0
    tracebacks: int = 0
    widgets: int = 0

    def __post_init__(self) -> None:
        """Start HTMLParser, which a dataclass's own ``__init__`` replaces."""
        super().__init__(convert_charrefs=True)
        self._open: list[tuple[str, str]] = []
        self._output: int | None = None  # depth of the cell output that is open, None outside
        self._filled = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what the element fetches, links to, and is."""
        attributes = {key: value or "" for key, value in attrs}
        classes = attributes.get("class", "")
        self._collect(tag, attributes)
        self._look_at(tag, classes.split(), attributes)
        self._open.append((tag, classes))

    def _collect(self, tag: str, attributes: dict[str, str]) -> None:
        for name in FETCHED & attributes.keys():
            candidates = attributes[name].split(", " if name == "srcset" else None)
            self.fetched += [candidate.split()[0] for candidate in candidates]
        if tag == "link" and FETCHED_RELATIONS & set(attributes.get("rel", "").split()):
            self.fetched.append(attributes.get("href", ""))
        if tag == "a" and "href" in attributes:
            self.links.append(attributes["href"])
        if "id" in attributes:
            self.identifiers.append(attributes["id"])
        self.styles += attributes.get("style", "") + "\n"

    def _look_at(self, tag: str, classes: list[str], attributes: dict[str, str]) -> None:
        if "cell_output" in classes and self._output is None:
            self._output, self._filled = len(self._open), False
        elif tag in {"img", "svg", "table", "video", "canvas", "input"}:
            self._filled = True
        if "traceback" in classes:
            self.tracebacks += 1
        if "gnuq-figure" in classes:
            self.figures.append(Figure(live="gnuq-live" in classes))
            self._filled = True
        if "gnuq-plot" in classes and self.figures:
            self.figures[-1].alt = attributes.get("aria-label", "").strip()
        self.widgets += attributes.get("type") == KERNEL_ONLY
        if "data-gnuq-live" in attributes and self.figures:
            self.figures[-1].data = attributes.get("data-options")

    def handle_endtag(self, tag: str) -> None:
        """Close elements down to the matching one, and judge a cell's output when it closes.

        So elements that have no end tag, such as ``<br>``, close with the one around them.
        """
        while any(name == tag for name, _ in self._open):
            name, _ = self._open.pop()
            if self._output is not None and len(self._open) <= self._output:
                self.empty_outputs += not self._filled
                self._output = None
            if name == tag:
                return

    def handle_data(self, data: str) -> None:
        """Keep a figure's JSON, a style sheet's rules, and the visible text."""
        tag, classes = self._open[-1] if self._open else ("", "")
        if tag == "script":
            if "gnuq-data" in classes.split() and self.figures:
                self.figures[-1].data = (self.figures[-1].data or "") + data
        elif tag == "style":
            self.styles += data
        else:
            if "gnuq-alt" in classes.split() and self.figures and self.figures[-1].live:
                self.figures[-1].alt += data.strip()
            self.text += data
            self._filled = self._filled or bool(data.strip())


def is_remote(address: str) -> bool:
    """Say whether a browser would ask another host for this address."""
    return bool(urlsplit(address).netloc)


def check_figure(figure: Figure) -> str | None:
    """Return what is wrong with a figure, or None."""
    if not figure.alt:
        return "a figure without alternative text"
    if figure.data is None:
        return f"a figure without data: {figure.alt[:60]!r}"
    try:
        content = json.loads(figure.data)
    except json.JSONDecodeError as error:
        return f"a figure whose data are not JSON ({error}): {figure.alt[:60]!r}"
    if not figure.live and (not isinstance(content, dict) or not content.get("data")):
        return f"a figure with no traces: {figure.alt[:60]!r}"
    return None


def check_page(html: str, path: Path, site: Path) -> list[str]:
    """Return what is wrong with one page.

    Args:
        html: The page's source.
        path: Where the page lies, for its relative addresses.
        site: The site's folder.
    """
    page = Page()
    page.feed(html)
    page.close()
    wrong = [f"asks another host: {address}" for address in page.fetched if is_remote(address)]
    wrong += [f"asks another host: {found}" for found in CSS_REMOTE.findall(page.styles)]
    local = dict.fromkeys(address for address in page.fetched + page.links if leads_here(address))
    wrong += [f"leads nowhere: {address}" for address in local if not exists(address, path, site)]
    wrong += [f"no such place: {address}" for address in local if not arrives(address, path, site)]
    wrong += [
        f"no such place: {address}"
        for address in dict.fromkeys(page.links)
        if address.startswith("#") and unquote(address[1:]) not in {"", *page.identifiers}
    ]
    wrong += [problem for figure in page.figures if (problem := check_figure(figure))]
    wrong += ["an output with nothing that a page can show"] * page.empty_outputs
    if page.tracebacks or TRACEBACK in page.text:
        wrong.append("a traceback")
    wrong += ["a widget, which a page cannot draw (a progress bar?)"] * page.widgets
    names = page.identifiers
    wrong += [
        f"two elements with id {name!r}" for name in sorted(set(names)) if names.count(name) > 1
    ]
    return wrong


def leads_here(address: str) -> bool:
    """Say whether an address means a file of this site."""
    parts = urlsplit(address)
    return not parts.scheme and not parts.netloc and bool(parts.path)


def exists(address: str, page: Path, site: Path) -> bool:
    """Say whether the file is there that a page's relative address means."""
    name = unquote(urlsplit(address).path)
    target = site / name.lstrip("/") if name.startswith("/") else page.parent / name
    return (target / "index.html").is_file() if target.is_dir() else target.is_file()


def arrives(address: str, page: Path, site: Path) -> bool:
    """Say whether a link's fragment is the id of an element of the page that it leads to.

    A link without a fragment, to no page, or to a page that is not there, is not judged.
    """
    fragment = unquote(urlsplit(address).fragment)
    name = unquote(urlsplit(address).path)
    target = site / name.lstrip("/") if name.startswith("/") else page.parent / name
    if not fragment or target.suffix != ".html" or not target.is_file():
        return True
    return fragment in identifiers(target.resolve())


@cache
def identifiers(path: Path) -> frozenset[str]:
    """The ids of a page's elements."""
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    page.close()
    return frozenset(page.identifiers)


def check_style_sheet(css: str) -> list[str]:
    """Return the addresses on other hosts that a style sheet asks for."""
    return [f"asks another host: {address}" for address in CSS_REMOTE.findall(css)]


def check_site(site: Path) -> dict[str, list[str]]:
    """Return what is wrong, by file; pages in ``_static`` are parts of other people's packages.

    Args:
        site: The built site.
    """
    found: dict[str, list[str]] = {}
    for path in sorted(site.rglob("*")):
        name = path.relative_to(site).as_posix()
        if path.suffix == ".css":
            found[name] = check_style_sheet(path.read_text(encoding="utf-8"))
        elif path.suffix == ".html" and not name.startswith("_static/"):
            found[name] = check_page(path.read_text(encoding="utf-8"), path, site)
    if not any(name.endswith(".html") for name in found):
        found["."] = [f"no pages in {site}"]
    for needed in NEEDED:
        if not (site / "_static" / needed).is_file():
            found[f"_static/{needed}"] = ["missing: figures that need it cannot be drawn"]
    return {name: problems for name, problems in found.items() if problems}


def print_weights(site: Path) -> None:
    """Print what each page weighs, in kilobytes as stored; servers compress to about a third."""
    print("\n  kB  page")
    for path in sorted(site.rglob("*.html")):
        if "_static" not in path.parts:
            print(f"{path.stat().st_size / 1000:4.0f}  {path.relative_to(site).as_posix()}")
    shared = site / "_static" / "plotly.min.js"
    if shared.is_file():
        print(
            f"{shared.stat().st_size / 1000:4.0f}  plotly.js, once, when a figure comes into view"
        )


def main(arguments: list[str]) -> int:
    """Check the site in the folder that is the one argument; return 0 if all is well."""
    if len(arguments) != 1 or not Path(arguments[0]).is_dir():
        print("usage: python book/check_site.py FOLDER", file=sys.stderr)
        return 2
    site = Path(arguments[0])
    print_weights(site)
    found = check_site(site)
    for name, problems in found.items():
        for problem in problems:
            print(f"{name}: {problem}", file=sys.stderr)
    print("\nThe site is not good." if found else "\nThe site passed its checks.")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
