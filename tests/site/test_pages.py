"""Every page of the built website, in light and dark, wide and narrow, with no network.

Each page is opened twice, at 1300 px and at 390 px, in one theme and then switched to the other.
What is found there is collected in one look, which the tests share.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.site.serving import built, serve
from tests.site.visits import Visit, Visits, looking, pages

PAGES = pages()
CHAPTER = next(page for page in PAGES if page.startswith("notebooks/"))
FIRST_LOAD = 1_500_000  # bytes, compressed


@pytest.fixture(scope="module")
def visits(browser: Browser, site: str) -> Iterator[Visits]:
    with looking(browser, site) as visits:
        yield visits


@pytest.fixture(scope="module", params=PAGES)
def visit(request: pytest.FixtureRequest, visits: Visits) -> Visit:
    """A look at one page."""
    return visits.look(request.param)


def none(findings: list[str]) -> None:
    assert not findings, "\n".join(["", *findings])


def test_the_book_has_its_pages() -> None:
    assert len(PAGES) >= 20


def test_nothing_asks_another_host(visit: Visit) -> None:
    none(visit.found["strangers"])


def test_every_request_is_answered(visit: Visit) -> None:
    none(visit.found["failures"])


def test_the_console_holds_no_error(visit: Visit) -> None:
    none(visit.found["errors"])


def test_every_figure_is_drawn(visit: Visit) -> None:
    none(visit.found["undrawn"])


def test_nothing_is_wider_than_the_window(visit: Visit) -> None:
    none(visit.found["overflow"])


def test_every_image_and_figure_says_what_it_shows(visit: Visit) -> None:
    none(visit.found["silent"])


def test_no_two_elements_share_an_id(visit: Visit) -> None:
    none(visit.found["duplicates"])


def test_axe_finds_no_serious_violation(visit: Visit) -> None:
    none(visit.found["violations"])


def test_the_first_load_is_light(visit: Visit) -> None:
    assert sum(visit.weights.values()) < FIRST_LOAD, visit.weights


def test_the_site_works_in_a_folder_of_any_server(browser: Browser) -> None:
    """The folder's address leads on to the first page, and a chapter is whole there."""
    with serve({"/deep/down/": built()}) as server, browser.new_page() as tab:
        tab.goto(f"{server}/deep/down/")
        tab.wait_for_url(f"{server}/deep/down/book/index.html")
        with looking(browser, f"{server}/deep/down") as visits:
            none([text for texts in visits.look(CHAPTER).found.values() for text in texts])
