"""A browser that reaches nothing but a local server, the built website, and a blank page.

``make test-site`` runs these tests; plain ``make test`` leaves them out, for they need Chromium and
a built website. ``CHROMIUM`` names another browser, ``GNUQ_SITE`` another built website.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright
from xdist.scheduler import LoadScopeScheduling

from tests.site.serving import ROOT, Troubles, built, launch, serve

LIVE = {"/live/": ROOT / "gnuq" / "widgets" / "live", "/static/": ROOT / "book" / "static"}


class ByPage(LoadScopeScheduling):
    """Keeps together, on one worker, the tests of one page, and those of one module."""

    def _split_scope(self, nodeid: str) -> str:
        module, _, test = nodeid.partition("::")
        page = test.partition("[")[2].rstrip("]")
        return page if module.endswith("/test_pages.py") and page else module


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByPage:
    """A page is opened once for all its tests."""
    return ByPage(config, log)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium, which can reach no other host."""
    with sync_playwright() as playwright:
        browser = launch(playwright)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def site() -> Iterator[str]:
    """The address of the built website, without a slash at its end."""
    with serve({"/": built()}) as address:
        yield address


@pytest.fixture(scope="session")
def live_server() -> Iterator[str]:
    """The address of a blank page beside the live figures' modules and the site's static files."""
    with serve(LIVE) as address:
        yield address


@pytest.fixture
def live_page(browser: Browser, live_server: str) -> Iterator[Page]:
    """A blank page, 1300 px wide, from which tests import the modules.

    ``/live/`` is gnuq/widgets/live and ``/static/`` is book/static, so a test may say
    ``page.evaluate("async () => { const m = await import('/live/network.js'); ... }")``. After the
    test no error may stand in the console, and no request may have failed or left the machine.
    """
    context = browser.new_context(viewport={"width": 1300, "height": 900})
    page = context.new_page()
    troubles = Troubles(live_server)
    troubles.watch(page)
    page.goto(f"{live_server}/")
    yield page
    context.close()
    assert not troubles.all(), "\n".join(troubles.all())
