"""A live figure alone on the blank page, styled as on the website, and what axe says of it."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import Page

from tests.site.visits import AXE

SHOW = """async ([module, options, inside]) => {
    for (const href of ["/static/theme.css", "/live/live.css"]) {
        const link = Object.assign(document.createElement("link"), { rel: "stylesheet", href });
        document.head.append(link);
        await new Promise((resolve) => (link.onload = resolve));
    }
    document.body.innerHTML =
        `<main class="bd-article"><div class="gnuq-live-host">${inside}</div></main>`;
    const { mount } = await import(`/live/${module}.js`);
    window.states = [];
    const host = document.querySelector(".gnuq-live-host");
    window.figure = mount(host, options, (state) => window.states.push(state));
}"""


def mount(page: Page, module: str, options: dict[str, Any], inside: str = "") -> None:
    """Mount a figure, and keep what it reports in ``window.states``.

    Args:
        page: the blank page.
        module: the figure's module, without ``.js``.
        options: what its ``mount`` takes.
        inside: what stands in its host before.
    """
    page.evaluate(SHOW, [module, options, inside])


def grave(page: Page) -> list[dict[str, Any]]:
    """Serious and critical violations in the figure."""
    page.evaluate(AXE)
    violations = page.evaluate("axe.run(document.querySelector('.gnuq-live-host'))")["violations"]
    return [one for one in violations if one["impact"] in ("serious", "critical")]
