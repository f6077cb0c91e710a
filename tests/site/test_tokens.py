"""The token figure takes gradients apart as their inner products do, by mouse and by keyboard."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Page

from tests.site.figures import grave, mount

Answer = dict[str, Any]
KINDS, BLOCKS, EACH = ("q_proj", "v_proj"), 3, 4  # weights: EACH a kind and block, EACH outside


def made_up(length: int, seed: int, *, recorded: bool = True) -> Answer:
    """An answer whose gradients are known: T vectors over a few weights, drawn at random."""
    rng = np.random.default_rng(seed)
    p = rng.uniform(0.05, 0.95, length)
    gradients = rng.normal(size=(length, EACH * (len(KINDS) * BLOCKS + 1))) + rng.normal()
    products = gradients @ gradients.T
    mean = gradients.mean(0)
    by_group = (mean**2).reshape(-1, EACH).sum(1)
    return {
        "question": seed,
        "tokens": [f" word{t}" if t % 3 else f"part{t}" for t in range(length)],
        "probability": p.tolist(),
        "aleatoric": (p * (1 - p)).tolist(),
        "squared_norm": np.diag(products).tolist(),
        "share": (products.mean(1) / length).tolist(),
        "prompt": float((mean**2).sum() / 4),
        "products": products.tolist() if recorded else None,
        "blocks": dict(zip(KINDS, by_group[:-1].reshape(len(KINDS), BLOCKS).tolist(), strict=True)),
        "outside": {"embed_tokens": float(by_group[-1])},
    }


@pytest.fixture(scope="module")
def answers() -> list[Answer]:
    return [made_up(5, 1), made_up(2, 2), made_up(30, 3, recorded=False)]


def call(page: Page, name: str, *arguments: object) -> Any:
    """What an exported function of the module returns."""
    return page.evaluate(
        """async ([name, values]) => (await import("/live/tokens.js"))[name](...values)""",
        [name, list(arguments)],
    )


# ------------------------------------------------------------------ shares


@pytest.mark.parametrize("at", [0, 1, 2])
def test_shares_are_those_of_the_mean_gradient(
    live_page: Page, answers: list[Answer], at: int
) -> None:
    """Eq. (10): tokens sum to one, and so do weights; own norms and cross terms make a token."""
    answer = answers[at]
    found = call(live_page, "sharesOf", answer)
    length = len(answer["tokens"])
    assert sum(found["token"]) == pytest.approx(1)
    assert sum(kind["share"] for kind in found["kinds"]) == pytest.approx(1)
    assert sum(found["blocks"]) + found["kinds"][-1]["share"] == pytest.approx(1)
    assert found["prompt"] == pytest.approx(0.25)
    own = np.array(answer["squared_norm"]) / length**2 / found["total"]
    np.testing.assert_allclose(found["own"], own)
    np.testing.assert_allclose(np.add(found["own"], found["cross"]), found["token"])
    if answer["products"] is None:
        assert found["pairs"] is None
        return
    pairs = np.array(found["pairs"])
    np.testing.assert_allclose(pairs.sum(1), found["token"])
    np.testing.assert_allclose(pairs.sum(1) - np.diag(pairs), found["cross"], atol=1e-12)


@pytest.mark.parametrize(
    ("own", "cross", "wanted"),
    [
        (0.3, 0.2, {"own": (0, 0.3), "cross": (0.3, 0.5)}),
        (0.3, -0.2, {"own": (0, 0.1), "taken": (0.1, 0.3)}),
        (0.3, -0.4, {"cross": (-0.1, 0), "own": (0, 0), "taken": (0, 0.3)}),
    ],
)
def test_a_bar_ends_at_the_share(
    live_page: Page, own: float, cross: float, wanted: dict[str, tuple[float, float]]
) -> None:
    """Solid and hatched pieces reach from nought to own + cross; solid and empty ones to own."""
    found = {
        one["kind"]: (one["low"], one["high"]) for one in call(live_page, "pieces", own, cross)
    }
    assert set(found) == set(wanted)
    for kind, ends in wanted.items():
        assert found[kind] == pytest.approx(ends)


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.583, "58 %"), (0.0994, "9.9 %"), (0.0996, "10 %"), (-0.021, "−2.1 %"), (-0.0001, "0.0 %")],
)
def test_percentages_are_short_and_never_minus_nought(
    live_page: Page, share: float, text: str
) -> None:
    assert call(live_page, "percent", share) == text


# ------------------------------------------------------------------ on the page


def show(page: Page, answers: list[Answer]) -> None:
    """Mount the figure, styled as on the website, and keep what it reports in ``window.states``."""
    mount(page, "tokens", {"answers": answers}, "<p>text</p>")


def state(page: Page) -> dict[str, Any]:
    found: dict[str, Any] = page.evaluate("window.states.at(-1)")
    return found


def told(page: Page, pattern: str) -> re.Match[str]:
    """The line that says what is seen, once it matches."""
    page.wait_for_function(
        "(p) => RegExp(p, 'u').test(document.querySelector('.gnuq-state').textContent)", arg=pattern
    )
    found = re.search(pattern, page.locator(".gnuq-state").text_content() or "")
    assert found is not None
    return found


def test_it_begins_with_the_token_that_adds_most(live_page: Page, answers: list[Answer]) -> None:
    show(live_page, answers)
    most = int(np.argmax(answers[0]["share"]))
    assert state(live_page) == {"question": 1, "token": most, "kind": "all"}
    found = told(live_page, r"token (\d) of 5: probability ([\d.]+), .*It adds ([\d.]+) % of")
    share = answers[0]["share"][most] / sum(answers[0]["share"])
    assert int(found[1]) == most + 1
    assert float(found[2]) == pytest.approx(answers[0]["probability"][most], abs=1e-3)
    assert float(found[3]) == pytest.approx(100 * share, abs=0.51)


def test_arrow_keys_go_from_token_to_token(live_page: Page, answers: list[Answer]) -> None:
    """One place in the tab order; the ends stop; the row of the table goes along."""
    show(live_page, answers)
    tokens = live_page.locator(".gnuq-tokens-token")
    assert tokens.evaluate_all("(all) => all.filter((one) => one.tabIndex === 0).length") == 1
    tokens.first.click()
    walked = []
    for key in ("ArrowRight", "ArrowRight", "ArrowLeft", "End", "ArrowRight", "Home", "ArrowLeft"):
        live_page.keyboard.press(key)
        walked.append(state(live_page)["token"])
    assert walked == [1, 2, 1, 4, 4, 0, 0]
    assert tokens.nth(0).evaluate("(one) => one === document.activeElement")
    assert live_page.locator(".gnuq-tokens-chosen > th").text_content() == "1 part0"


def test_a_row_of_the_table_chooses_its_token(live_page: Page, answers: list[Answer]) -> None:
    show(live_page, answers)
    live_page.locator(".gnuq-tokens-pairs tbody tr").nth(3).click()
    assert state(live_page)["token"] == 3
    assert live_page.locator("[aria-selected=true]").first.text_content().endswith("part3")


def test_the_table_shows_the_products(live_page: Page, answers: list[Answer]) -> None:
    show(live_page, answers)
    cells = live_page.locator(".gnuq-tokens-pairs tbody td").all_text_contents()
    shown = np.array([float(cell.replace("−", "-")) for cell in cells]).reshape(5, 5)
    products = np.array(answers[0]["products"])
    np.testing.assert_allclose(shown, 100 * products / products.sum(), atol=0.51)


def test_the_bars_stand_as_high_as_the_shares(live_page: Page, answers: list[Answer]) -> None:
    """Solid and empty make the own norm, hatched the cross terms, in one unit for all tokens."""
    show(live_page, answers)
    heights = """(bars) => bars.map((bar) => Object.fromEntries(
        ["own", "cross", "taken"].map((kind) => {
            const piece = bar.querySelector(`.gnuq-tokens-${kind}`);
            return [kind, piece ? parseFloat(piece.style.height) : 0];
        })))"""
    found = live_page.locator(".gnuq-tokens-bar").evaluate_all(heights)
    shares = call(live_page, "sharesOf", answers[0])
    unit = max(*shares["own"], *shares["token"]) - min(0, *shares["token"])
    solid = [one["own"] + one["taken"] for one in found]
    np.testing.assert_allclose(solid, 100 * np.array(shares["own"]) / unit, rtol=1e-4)
    for one, cross, share in zip(found, shares["cross"], shares["token"], strict=True):
        hatched = cross if cross >= 0 else max(0, -share)
        assert one["cross"] == pytest.approx(100 * hatched / unit, rel=1e-4)


def test_a_kind_of_weights_is_split_by_block(live_page: Page, answers: list[Answer]) -> None:
    show(live_page, answers)
    live_page.get_by_role("option", name=re.compile("^Values: ")).click()
    assert state(live_page)["kind"] == "v_proj"
    blocks = answers[0]["blocks"]["v_proj"]
    found = told(live_page, r"Values: ([\d.]+) % of ‖∇p̄‖², most in block (\d)")
    assert float(found[1]) == pytest.approx(100 * sum(blocks) / sum(answers[0]["share"]), abs=0.51)
    assert int(found[2]) == int(np.argmax(blocks))
    live_page.keyboard.press("ArrowDown")
    assert state(live_page)["kind"] == "embed_tokens"
    told(live_page, r"Embedding and head: .* outside the blocks\.")


def test_an_answer_without_products_says_so(live_page: Page, answers: list[Answer]) -> None:
    show(live_page, answers)
    live_page.get_by_role("combobox", name="Answer").select_option(index=2)
    assert state(live_page)["question"] == 3
    assert live_page.locator(".gnuq-tokens-pairs").count() == 0
    assert live_page.get_by_text("The records hold no single products").is_visible()
    assert live_page.locator(".gnuq-tokens-token").count() == 30


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("at", [0, 2])
def test_no_serious_violation_and_no_overflow(
    live_page: Page, answers: list[Answer], theme: str, at: int
) -> None:
    live_page.set_viewport_size({"width": 390, "height": 800})
    live_page.evaluate("(theme) => (document.documentElement.dataset.theme = theme)", theme)
    show(live_page, answers)
    live_page.get_by_role("combobox", name="Answer").select_option(index=at)
    assert live_page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert not grave(live_page)


def test_destroy_gives_the_text_back(live_page: Page, answers: list[Answer]) -> None:
    show(live_page, answers)
    live_page.evaluate("window.figure.destroy()")
    assert live_page.locator(".gnuq-live-host").inner_html() == "<p>text</p>"
