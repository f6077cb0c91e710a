"""Take the README's figure from the built website: the three maps of *Drag the data*.

Usage, after ``make book`` and ``make test-site``: PYTHONPATH=. python book/readme_figure.py
"""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.site.serving import built, launch, serve

TARGET = Path(__file__).parent / "readme.png"
PAGE = "notebooks/01_introduction.html"
FIGURE = "#live-drag-the-data"


def main() -> None:
    """Wait until the six networks have converged, then draw their maps at twice the size."""
    with sync_playwright() as playwright, serve({"/": built()}) as site:
        browser = launch(playwright)
        page = browser.new_page(color_scheme="light", device_scale_factor=2)
        page.goto(f"{site}/{PAGE}")
        page.locator(FIGURE).scroll_into_view_if_needed()
        page.locator(f"{FIGURE} [aria-busy=false]").wait_for(timeout=120_000)
        page.locator(f"{FIGURE} .gnuq-planes").screenshot(path=TARGET)
        browser.close()


if __name__ == "__main__":
    main()
