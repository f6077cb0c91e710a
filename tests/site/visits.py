"""One look at each page of the built website in four settings, for all the tests of pages."""

from __future__ import annotations

import gzip
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from axe_playwright_python.base import AXE_FILE_PATH
from playwright.sync_api import Browser, BrowserContext, Page

from tests.site.serving import Troubles, built

HERE = Path(__file__).parent
HOLD = HERE / "hold.js"
INSPECT = (HERE / "inspect.js").read_text(encoding="utf-8")
AXE = Path(AXE_FILE_PATH).read_text(encoding="utf-8")
# A page is opened in the first theme and switched to the second, so that switching is seen too.
SETTINGS: Mapping[int, tuple[str, str]] = {1300: ("light", "dark"), 390: ("dark", "light")}
# Rules of axe that other people's markup breaks: where, and why it stays.
FOREIGN: Mapping[tuple[str, str], str] = {
    ("aria-required-children", ".citation-list"): "docutils gives the entries of its list of "
    "references the role doc-biblioentry, which ARIA has since dropped",
}
LEADS_ON = 'http-equiv="Refresh"'  # the root's index.html, which shows nothing itself
PATIENCE = 120_000  # ms; a busy machine is no fault of a page
STORED = {".gif", ".jpg", ".png", ".webp", ".woff", ".woff2"}  # compressed as they are


@dataclass(frozen=True)
class Visit:
    """What a look at a page brought.

    Attributes:
        weights: Compressed bytes of the first load, by address relative to the website's.
        found: What is wrong, by kind; each finding names its setting.
    """

    weights: Mapping[str, int]
    found: Mapping[str, list[str]]


class Visits:
    """Looks at pages, each once, when it is first asked for.

    Args:
        browser: The browser.
        site: The website's address, without a slash at its end.
    """

    def __init__(self, browser: Browser, site: str) -> None:
        self.site = site
        # A context a width, kept: the scripts that all pages share are then compiled once.
        self.contexts = {width: _context(browser, width) for width in SETTINGS}
        self.look = cache(self._look)

    def _look(self, page: str) -> Visit:
        """Look at a page in every setting, at all widths at the same time."""
        tabs = {width: context.new_page() for width, context in self.contexts.items()}
        troubles = {width: Troubles(self.site) for width in tabs}
        for width, tab in tabs.items():
            troubles[width].watch(tab)
            tab.goto(f"{self.site}/{page}", wait_until="commit")
        for width, tab in tabs.items():
            start_inspection(tab, SETTINGS[width])
        found: dict[str, list[str]] = defaultdict(list)
        for width, tab in tabs.items():
            inspected = tab.evaluate("inspection")
            _add(found, f"{width} px", troubles[width].by_kind())
            tab.close()  # only now: it cuts off what the page still fetches
            for theme, kinds in inspected["found"].items():
                _add(found, f"{theme}, {width} px", kinds)
        return Visit(weights(self.site, inspected["fetched"]), found)

    def close(self) -> None:
        """Close the browser's contexts."""
        for context in self.contexts.values():
            context.close()


def _context(browser: Browser, width: int) -> BrowserContext:
    theme: Any = SETTINGS[width][0]
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme)
    context.set_default_timeout(PATIENCE)
    context.add_init_script(path=HOLD)
    return context


def _add(found: dict[str, list[str]], setting: str, kinds: Mapping[str, list[str]]) -> None:
    for kind, texts in kinds.items():
        found[kind] += [f"{setting}: {text}" for text in texts]


@contextmanager
def looking(browser: Browser, site: str) -> Iterator[Visits]:
    """Open what visits need, and close it."""
    visits = Visits(browser, site)
    yield visits
    visits.close()


def start_inspection(tab: Page, themes: tuple[str, str]) -> None:
    """Start inspect.js on a page once it is loaded; the page's ``inspection`` is its promise.

    It is only started here, so that two pages are inspected at once.
    """
    tab.wait_for_load_state("load")
    tab.evaluate(AXE)
    wanted = {"themes": themes, "foreign": [list(pair) for pair in FOREIGN]}
    tab.evaluate(f"(wanted) => {{ window.inspection = ({INSPECT})(wanted); }}", wanted)


def pages() -> list[str]:
    """Return the addresses of the built website's pages, relative to it.

    ``_static`` belongs to other people's packages.
    """
    site = built()
    names = [path.relative_to(site).as_posix() for path in sorted(site.rglob("*.html"))]
    ours = [name for name in names if not name.startswith("_static/")]
    return [name for name in ours if LEADS_ON not in (site / name).read_text(encoding="utf-8")]


def weights(site: str, fetched: Iterable[str]) -> dict[str, int]:
    """Return the compressed bytes of what a page fetched from the website, by relative address.

    Args:
        site: The website's address.
        fetched: Addresses; each counts once.
    """
    ours = [address for address in fetched if address.startswith(f"{site}/")]
    names = [unquote(urlsplit(address.removeprefix(f"{site}/")).path) for address in ours]
    return {name: compressed(built() / name) for name in names}


@cache
def compressed(path: Path) -> int:
    """Return the bytes of a file as a server sends it: text by gzip, the rest as it is."""
    content = path.read_bytes()
    return len(content) if path.suffix in STORED else len(gzip.compress(content, 6))
