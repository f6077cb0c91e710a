"""A lecture's slides: the page's own sections, one at a time, and the page whole again after."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page

LECTURE = """<article class="bd-article"><section><h1>A lecture<a class="headerlink">#</a></h1>
<p>Before.</p><details class="gnuq-notes"><summary>Notes</summary><p>Say hello.</p></details>
<section id="one"><h2>One</h2><p id="text">First.</p><input type="range" id="slider" value="50">
<details class="gnuq-notes"><summary>Notes</summary><p>Ask.</p></details></section>
<section id="two"><h2>Two</h2><p>Second.</p></section></section></article>"""
STYLES = """async () => {
  for (const name of ["theme", "slides"]) {
    const link = document.createElement("link");
    Object.assign(link, { rel: "stylesheet", href: `/static/${name}.css` });
    const loaded = new Promise((resolve) => (link.onload = resolve));
    document.head.append(link);
    await loaded;
  }
}"""
SHOWN = """() => [...document.querySelectorAll(".gnuq-slide")]
  .filter((node) => node.checkVisibility())
  .map((node) => node.querySelector("h1, h2").firstChild.textContent).join()"""


@pytest.fixture
def lecture(live_page: Page) -> Page:
    """A blank page with a small lecture, and the script."""
    live_page.evaluate("html => (document.body.innerHTML = html)", LECTURE)
    live_page.evaluate(STYLES)
    # In full screen the browser keeps Escape for itself; the event that follows has its own test.
    live_page.evaluate("() => (document.documentElement.requestFullscreen = undefined)")
    live_page.evaluate("() => import('/static/slides.js')")
    return live_page


@pytest.fixture
def talk(lecture: Page) -> Page:
    """The same, presented."""
    lecture.get_by_role("button", name="Present", exact=True).click()
    lecture.wait_for_selector("dialog[open]")
    return lecture


def shown(page: Page) -> str:
    found: str = page.evaluate(SHOWN)
    return found


def test_one_slide_is_shown_at_a_time_and_keys_turn_the_page(talk: Page) -> None:
    assert shown(talk) == "A lecture"
    for key, title in [
        ("ArrowRight", "One"),
        ("Space", "Two"),
        ("ArrowRight", "Two"),  # there is no more
        ("ArrowLeft", "One"),
        ("Shift+Space", "A lecture"),
        ("ArrowLeft", "A lecture"),
        ("End", "Two"),
        ("Home", "A lecture"),
    ]:
        talk.keyboard.press(key)
        assert shown(talk) == title, key


def test_the_foot_says_where_we_are(talk: Page) -> None:
    talk.get_by_role("button", name="Next slide").click()
    assert talk.locator(".gnuq-slide-counter").text_content() == "2 / 3 One"
    share = "node => Number(node.style.getPropertyValue('--gnuq-share'))"
    assert talk.locator(".gnuq-slide-bar").evaluate(share) == 0.5


def test_notes_are_hidden_until_asked_for(talk: Page) -> None:
    notes = talk.get_by_text("Say hello.")
    assert not notes.is_visible()
    talk.keyboard.press("n")
    assert notes.is_visible()
    assert talk.get_by_role("button", name="Notes").get_attribute("aria-pressed") == "true"
    talk.keyboard.press("n")
    assert not notes.is_visible()


def test_a_control_on_a_slide_keeps_its_keys(talk: Page) -> None:
    talk.keyboard.press("ArrowRight")
    talk.locator("#slider").focus()
    talk.keyboard.press("ArrowRight")
    assert shown(talk) == "One"
    assert talk.locator("#slider").input_value() == "51"


@pytest.mark.parametrize("way", ["button", "key", "full screen left"])
def test_ending_leaves_the_page_as_it_was(lecture: Page, way: str) -> None:
    article = "() => document.querySelector('article').innerHTML"
    before = lecture.evaluate(article)
    lecture.evaluate("() => (window.text = document.querySelector('#text'))")
    lecture.get_by_role("button", name="Present", exact=True).click()
    lecture.wait_for_selector("dialog[open]")
    lecture.keyboard.press("ArrowRight")
    lecture.keyboard.press("n")
    if way == "key":
        lecture.keyboard.press("Escape")
    elif way == "full screen left":
        lecture.evaluate("() => document.dispatchEvent(new Event('fullscreenchange'))")
    else:
        lecture.get_by_role("button", name="End", exact=True).click()
    lecture.wait_for_selector("dialog:not([open])", state="attached")
    lecture.wait_for_function("() => !document.querySelector('.gnuq-slide')")
    assert lecture.evaluate("() => window.text.isConnected"), "the page's own nodes, not copies"
    strip = "html => html.replace(/<dialog.*<\\/dialog>/s, '').replaceAll(' open=\"\"', '')"
    assert lecture.evaluate(strip, lecture.evaluate(article)) == lecture.evaluate(strip, before)
    assert lecture.evaluate("() => document.activeElement.textContent") == "Present"


def test_a_swipe_turns_the_page_and_a_scroll_does_not(talk: Page) -> None:
    swipe = """([dx, dy]) => {
      const stage = document.querySelector(".gnuq-slide-stage");
      const at = (type, clientX, clientY) => stage.dispatchEvent(new PointerEvent(type,
        { pointerType: "touch", pointerId: 7, isPrimary: true, bubbles: true, clientX, clientY }));
      at("pointerdown", 300, 300);
      at("pointerup", 300 + dx, 300 + dy);
    }"""
    talk.evaluate(swipe, [-120, 10])
    assert shown(talk) == "One"
    talk.evaluate(swipe, [-120, 200])
    talk.evaluate(swipe, [-20, 0])
    assert shown(talk) == "One"
    talk.evaluate(swipe, [120, 0])
    assert shown(talk) == "A lecture"


@pytest.mark.parametrize("width", [390, 1300])
def test_no_slide_overflows_sideways(talk: Page, width: int) -> None:
    talk.set_viewport_size({"width": width, "height": 700})
    stage = "() => document.querySelector('.gnuq-slide-stage').scrollWidth"
    foot = "() => document.querySelector('.gnuq-slide-foot').scrollWidth"
    assert talk.evaluate(stage) <= width
    assert talk.evaluate(foot) <= width


def test_print_gives_each_slide_a_page(lecture: Page) -> None:
    lecture.emulate_media(media="print")
    breaks = "() => getComputedStyle(document.querySelector('#two')).breakBefore"
    assert lecture.evaluate(breaks) == "page"
    assert not lecture.get_by_role("button", name="Present", exact=True).is_visible()


def test_a_page_without_notes_gets_no_button(live_page: Page) -> None:
    live_page.evaluate("() => (document.body.innerHTML = '<article><section></section></article>')")
    live_page.evaluate("() => import('/static/slides.js')")
    assert live_page.locator("button, dialog").count() == 0
