"""On paper a page is light, and on the screen it is again what it was."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page

THEME = "document.documentElement.dataset.theme"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_page_is_printed_light_and_shown_as_before(live_page: Page, theme: str) -> None:
    live_page.evaluate(f"{THEME} = '{theme}'")
    live_page.evaluate("import('/static/figures.js')")
    live_page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert live_page.evaluate(THEME) == "light"
    live_page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert live_page.evaluate(THEME) == theme
