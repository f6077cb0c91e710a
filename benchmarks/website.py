"""Weigh the website's pages, and time the frames of its live figures in Chromium.

Usage, after ``make book`` and ``make test-site``: PYTHONPATH=. python benchmarks/website.py

A page's weight is what a reader's first visit fetches before anything is scrolled into view, text
compressed by gzip. A frame's time is what the page's scripts take of it while a point, or the
surface, of the figure is dragged; 16.7 ms are there at 60 frames a second. The machine decides:
compare numbers of one machine only.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Browser, Locator, Page, sync_playwright

from tests.site.serving import built, launch, serve
from tests.site.visits import HOLD, compressed, pages, weights

MOVES = 120  # of the pointer, each by a few pixels
LIVE = "[data-gnuq-live]"
GRIPS = ("button.gnuq-point", ".gnuq-surface")  # the first of these that a figure has is dragged
TIME_FRAMES = """
  window.frameTimes = new Map();
  const request = window.requestAnimationFrame;
  window.requestAnimationFrame = (draw) => request.call(window, (at) => {
    const start = performance.now();
    draw(at);
    frameTimes.set(at, (frameTimes.get(at) ?? 0) + performance.now() - start);
  });
  window.nextFrame = () => new Promise((done) => request.call(window, done));
"""


def first_load(browser: Browser, site: str, name: str) -> int:
    """Return the compressed bytes that a page fetches while nothing comes into view."""
    page = browser.new_page(viewport={"width": 1300, "height": 900})
    page.add_init_script(path=HOLD)
    page.goto(f"{site}/{name}", wait_until="networkidle")
    fetched = page.evaluate("performance.getEntriesByType('resource').map(({ name }) => name)")
    page.close()
    return sum(weights(site, [f"{site}/{name}", *fetched]).values())


def weigh(browser: Browser, site: str) -> None:
    """Print each page's first load, and what waits until a figure comes into view."""
    print("  kB  page, on its first load")
    for name in pages():
        print(f"{first_load(browser, site, name) / 1000:4.0f}  {name}")
    print("\n  kB  later, once, when a figure comes into view")
    waiting = [built() / "_static" / "plotly.min.js", *sorted(built().glob("_static/live/*"))]
    for path in filter(Path.is_file, waiting):
        print(f"{compressed(path) / 1000:4.0f}  {path.relative_to(built()).as_posix()}")


def drag(page: Page, figure: Locator) -> list[float]:
    """Drag in a live figure, and return its frames' times in milliseconds, in order.

    Empty where there is nothing to drag.
    """
    found = [figure.locator(grip).first for grip in GRIPS if figure.locator(grip).count()]
    if not found:
        return []
    grip = found[0]
    grip.hover()
    box = grip.bounding_box()
    assert box is not None, "a figure's point or surface has no place on the page"
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.down()
    page.evaluate("frameTimes.clear()")
    for step in range(MOVES):
        page.mouse.move(x + step % 40, y + step % 24)
        page.evaluate("nextFrame()")
    times: list[float] = page.evaluate("[...frameTimes.values()]")
    page.mouse.up()
    return times


def live_figures(browser: Browser, site: str) -> Iterator[tuple[str, list[float]]]:
    """Yield the name and the frame times of every live figure of the chapters."""
    names = [name for name in pages() if name.startswith("notebooks/")]
    for name in names:
        if "data-gnuq-live" not in (built() / name).read_text(encoding="utf-8"):
            continue
        page = browser.new_page(viewport={"width": 1300, "height": 900})
        page.add_init_script(TIME_FRAMES)
        page.goto(f"{site}/{name}", wait_until="networkidle")
        for figure in page.locator(LIVE).all():
            figure.scroll_into_view_if_needed()
            figure.locator(".gnuq-stage:not([aria-busy=true])").wait_for(timeout=120_000)
            yield str(figure.get_attribute("data-gnuq-live")), drag(page, figure)
        page.close()


def time_frames(browser: Browser, site: str) -> None:
    """Print the median frame of each live figure, and the one that 5 of 100 exceed."""
    print("\nfigure             frames  median ms  95 % ms")
    for name, times in live_figures(browser, site):
        if len(times) < 2:
            print(f"{name:18} {len(times):6}  nothing to drag")
            continue
        slow = statistics.quantiles(times, n=20)[-1]
        print(f"{name:18} {len(times):6}  {statistics.median(times):9.1f}  {slow:7.1f}")


def main() -> None:
    """Measure the website that is built."""
    with sync_playwright() as playwright, serve({"/": built()}) as site:
        browser = launch(playwright)
        weigh(browser, site)
        time_frames(browser, site)
        browser.close()


if __name__ == "__main__":
    main()
