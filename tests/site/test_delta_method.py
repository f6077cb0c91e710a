"""The delta-method figure agrees with scipy's quadrature, and answers to the keyboard."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Locator, Page, expect
from scipy.integrate import fixed_quad
from scipy.special import ndtr

from tests.site.figures import mount

Setting = dict[str, Any]  # prediction, x, mean, sd
Function = Callable[[Any], Any]

# F(u) at u = xθ, and F′(u)
PREDICTIONS: dict[str, tuple[Function, Function]] = {
    "logistic": (lambda u: 1 / (1 + np.exp(-u)), lambda u: 1 / (2 * np.cosh(u / 2)) ** 2),
    "cubic": (lambda u: u**3 / 3 - u, lambda u: u**2 - 1),
    "sine": (lambda u: np.sin(np.pi * u / 2), lambda u: np.pi / 2 * np.cos(np.pi * u / 2)),
}
GRID: list[Setting] = [
    {"prediction": name, "x": x, "mean": mean, "sd": sd}
    for name, x, mean, sd in product(
        PREDICTIONS, (0.25, 1.0, 3.0), (-3.0, 0.0, 0.5, 1.0, 2.5), (0.05, 0.3, 1.0, 3.0)
    )
]


def bell(z: Any) -> Any:
    return np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)


def expectation(function: Function, setting: Setting) -> float:
    """E[function(u)] for u = xθ, θ normal: 20 Gauss–Legendre nodes in each quarter of a σ."""
    at = setting["x"] * setting["mean"]
    scale = setting["x"] * setting["sd"]
    edges = np.linspace(-12, 12, 97)
    return sum(
        fixed_quad(lambda z: bell(z) * function(at + scale * z), low, high, n=20)[0]
        for low, high in pairwise(edges)
    )


def evaluate(page: Page, function: str, settings: list[Setting], *more: object) -> Any:
    """Apply an exported function of the module to every setting."""
    return page.evaluate(
        """async ([name, settings, more]) => {
            const module = await import("/live/delta_method.js");
            return settings.map((setting) => module[name](setting, ...more));
        }""",
        [function, settings, list(more)],
    )


def show(page: Page, options: Setting) -> None:
    """Mount the figure, styled as on the website, and keep what it reports in ``window.states``."""
    mount(page, "delta_method", options)
    page.wait_for_function("window.states.length > 0")


def state(page: Page) -> Setting:
    """What the figure reported last, once everything before has been drawn."""
    latest: Setting = page.evaluate(
        """() => new Promise((done) => requestAnimationFrame(() =>
            setTimeout(() => done(window.states.at(-1)))))"""
    )
    return latest


def expect_text(page: Page, *parts: str | re.Pattern[str]) -> None:
    """The status line speaks once nothing has changed for a while, so wait for it."""
    for part in parts:
        expect(page.locator(".gnuq-state")).to_contain_text(part)


def slider(page: Page, name: str) -> Locator:
    return page.get_by_role("slider", name=name)


# ---------------------------------------------------------------- the numbers


def test_moments_are_those_of_scipys_quadrature(live_page: Page) -> None:
    found = evaluate(live_page, "moments", GRID)
    for setting, numbers in zip(GRID, found, strict=True):
        value, slope = PREDICTIONS[setting["prediction"]]
        centre = setting["x"] * setting["mean"]
        point, gradient = value(centre), setting["x"] * slope(centre)
        shift = expectation(lambda u, f=value, p=point: f(u) - p, setting)
        mean = point + shift
        spread = expectation(lambda u, f=value, m=mean: (f(u) - m) ** 2, setting)
        linearised = (gradient * setting["sd"]) ** 2
        expected = {
            "point": point,
            "gradient": gradient,
            "expected": mean,
            "variance": spread,
            "linearised": linearised,
            "ratio": linearised / spread,
            "aleatoric": expectation(lambda u, f=value: f(u) * (1 - f(u)), setting),
            "total": mean * (1 - mean),
        }
        for name, wanted in expected.items():
            assert numbers[name] == pytest.approx(wanted, rel=1e-6, abs=1e-10), (setting, name)
        assert abs(numbers["variance"] - spread) <= 1e-8 * max(1, spread), setting


def test_total_is_aleatoric_plus_epistemic(live_page: Page) -> None:
    settings = [setting for setting in GRID if setting["prediction"] == "logistic"]
    for numbers in evaluate(live_page, "moments", settings):
        parts = numbers["aleatoric"] + numbers["variance"]
        assert parts == pytest.approx(numbers["total"], rel=1e-9)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_an_odd_prediction_keeps_its_mean_and_not_its_variance(
    live_page: Page, prediction: str
) -> None:
    settings = [setting for setting in GRID if setting["mean"] == 0]
    settings = [setting for setting in settings if setting["prediction"] == prediction]
    found = evaluate(live_page, "moments", settings)
    assert all(abs(numbers["expected"] - numbers["point"]) < 1e-10 for numbers in found)
    assert any(abs(numbers["ratio"] - 1) > 0.5 for numbers in found)


def test_a_flat_tangent_says_zero_and_the_truth_does_not(live_page: Page) -> None:
    flat = [{"prediction": name, "x": 1, "mean": 1, "sd": 0.5} for name in ("cubic", "sine")]
    cubic, sine = evaluate(live_page, "moments", flat)
    # f = −2/3 + v² + v³/3 with v normal: Var = Var[v²] + Var[v³]/9, odd moments being 0
    assert cubic["variance"] == pytest.approx(2 * 0.5**4 + 15 * 0.5**6 / 9, rel=1e-12)
    # E cos(av) = exp(−a²σ²/2)
    decay = np.exp(-((np.pi / 2 * 0.5) ** 2))
    assert sine["variance"] == pytest.approx((1 - decay) ** 2 / 2, rel=1e-12)
    assert cubic["linearised"] == 0
    assert sine["linearised"] < 1e-30


@pytest.mark.parametrize(
    ("prediction", "x", "mean", "sd", "sign"),
    [
        ("logistic", 1.5, 0.0, 2.0, 1),
        ("logistic", 1.5, 2.5, 1.0, -1),
        ("cubic", 1.0, 0.0, 0.7, 1),
        ("cubic", 1.0, 1.0, 0.5, -1),
        ("sine", 1.0, 0.0, 1.0, 1),
        ("sine", 1.0, 1.0, 0.5, -1),
    ],
)
def test_the_delta_method_errs_in_either_direction(
    live_page: Page, prediction: str, x: float, mean: float, sd: float, sign: int
) -> None:
    setting = {"prediction": prediction, "x": x, "mean": mean, "sd": sd}
    (numbers,) = evaluate(live_page, "moments", [setting])
    assert sign * (numbers["linearised"] - numbers["variance"]) > 0.5 * numbers["variance"]


def test_the_ratio_tends_to_one_as_the_posterior_narrows(live_page: Page) -> None:
    slopes = [setting for setting in GRID if setting["mean"] in (0, 0.5) and setting["sd"] == 0.05]
    narrow = [setting | {"sd": setting["sd"] / 50} for setting in slopes]
    wide_off = [abs(n["ratio"] - 1) for n in evaluate(live_page, "moments", slopes)]
    narrow_off = [abs(n["ratio"] - 1) for n in evaluate(live_page, "moments", narrow)]
    assert all(off < 1e-3 * wide for off, wide in zip(narrow_off, wide_off, strict=True))


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_the_density_is_the_derivative_of_the_distribution(
    live_page: Page, prediction: str
) -> None:
    setting = {"prediction": prediction, "x": 1.3, "mean": 0.4, "sd": 0.7}
    value, _ = PREDICTIONS[prediction]
    z = np.linspace(-9, 9, 2_000_001)
    y = value(1.3 * (0.4 + 0.7 * z))
    for at in (0.1, 0.3, 0.5, 0.6, 0.9):
        near = np.abs(y - at) < 0.002
        wanted = bell(z[near]).sum() * (z[1] - z[0]) / 0.004
        (found,) = evaluate(live_page, "density", [setting], at)
        assert found == pytest.approx(wanted, rel=5e-3), at


def test_the_reach_is_where_the_ratio_leaves_ten_percent(live_page: Page) -> None:
    settings = [setting for setting in GRID if setting["sd"] == 0.05]
    for setting, wide in zip(settings, evaluate(live_page, "widening", settings), strict=True):
        reach = wide["reach"]
        if reach in (0.05, float("inf")):
            off = np.abs(np.array(wide["ratios"]) - 1)
            assert off[0] > 0.1 if reach == 0.05 else off.max() <= 0.1, setting
            continue
        before, after = evaluate(
            live_page, "moments", [setting | {"sd": 0.999 * reach}, setting | {"sd": 1.001 * reach}]
        )
        assert abs(before["ratio"] - 1) < 0.1 < abs(after["ratio"] - 1), setting


def test_the_mass_outside_is_the_tangents_normal_tail(live_page: Page) -> None:
    settings = [setting for setting in GRID if setting["prediction"] == "logistic"]
    for numbers in evaluate(live_page, "moments", settings):
        (found,) = evaluate(live_page, "impossible", [numbers])
        sd = np.sqrt(numbers["linearised"])
        below, above = ndtr(-numbers["point"] / sd), ndtr((numbers["point"] - 1) / sd)
        assert found == pytest.approx(below + above, abs=2e-7)


# ---------------------------------------------------------------- the figure


def test_keys_on_the_handles_move_mean_and_spread(live_page: Page) -> None:
    show(live_page, {"prediction": "logistic", "x": 1, "mean": 0, "sd": 1})
    live_page.get_by_role("button", name="Mean θ*").focus()
    live_page.keyboard.press("ArrowRight")
    assert state(live_page)["mean"] == 0.1
    live_page.keyboard.press("Shift+ArrowLeft")
    assert state(live_page)["mean"] == 0.08
    live_page.get_by_role("button", name="Spread σ").focus()
    live_page.keyboard.press("ArrowRight")
    assert state(live_page)["sd"] == pytest.approx(1.1, abs=0.01)
    for _ in range(40):
        live_page.keyboard.press("ArrowRight")
    assert state(live_page)["sd"] == 3
    for _ in range(40):
        live_page.keyboard.press("ArrowLeft")
    assert state(live_page)["sd"] == 0.05
    live_page.keyboard.press("Shift+ArrowRight")
    assert state(live_page)["sd"] > 0.05


def test_keys_on_the_sliders_change_state_text_and_handle(live_page: Page) -> None:
    show(live_page, {"prediction": "logistic", "x": 1, "mean": 0, "sd": 1})
    expect_text(live_page, "x = 1, θ* = 0, σ = 1.")
    slider(live_page, "Spread σ").press("ArrowRight")
    slider(live_page, "Mean θ*").press("End")
    slider(live_page, "Input x").press("ArrowLeft")
    latest = state(live_page)
    assert (latest["x"], latest["mean"]) == (0.95, 3)
    assert latest["sd"] == pytest.approx(1.01)
    assert live_page.get_by_role("button", name="Mean θ*: 3").count() == 1
    expect_text(live_page, "x = 0.95, θ* = 3, σ = 1.01.")


def test_the_handle_follows_the_mouse_along_the_curve(live_page: Page) -> None:
    show(live_page, {"prediction": "sine", "x": 1, "mean": 0, "sd": 0.5})
    box = live_page.get_by_role("button", name="Mean θ*").bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    live_page.mouse.move(x, y)
    live_page.mouse.down()
    live_page.mouse.move(x + 60, y + 200, steps=4)
    live_page.mouse.up()
    latest = state(live_page)
    assert latest["mean"] > 0.5
    assert latest["point"] == pytest.approx(np.sin(np.pi / 2 * latest["mean"]), rel=1e-12)


def test_the_text_says_when_the_approximation_fails(live_page: Page) -> None:
    show(live_page, {"prediction": "logistic", "x": 1.5, "mean": 0, "sd": 2})
    expect_text(live_page, "The delta method fails", "the variance is wrong all the same")
    said = live_page.inner_text(".gnuq-state")
    latest = state(live_page)
    for name, pattern in {
        "linearised": r"it says ([\d.]+),",
        "variance": r"exact variance is ([\d.]+)\.",
        "ratio": r"That is ([\d.]+) times the truth",
    }.items():
        found = re.search(pattern, said)
        assert found is not None, said
        assert float(found[1]) == pytest.approx(latest[name], rel=5e-3)
    live_page.get_by_role("button", name="It holds").click()
    expect_text(live_page, "The delta method holds")
    live_page.get_by_role("button", name="Cubic").click()
    live_page.get_by_role("button", name="Flat tangent").click()
    expect_text(live_page, "The tangent is flat: the delta method says 0")


def test_small_numbers_are_readable(live_page: Page) -> None:
    show(live_page, {"prediction": "logistic", "x": 0.25, "mean": 0, "sd": 0.05})
    number = r"9\.8 × 10⁻⁶"  # (σx/4)²
    expect_text(live_page, re.compile(rf"says {number}, the exact variance is {number}"))
    expect(live_page.get_by_role("table")).to_contain_text(re.compile(rf"g²σ²\s+{number}"))


def test_every_example_shows_what_its_name_says(live_page: Page) -> None:
    show(live_page, {})
    claims = {
        "It holds": lambda ratio: abs(ratio - 1) < 0.1,
        "Too large": lambda ratio: ratio > 1.5,
        "Too small": lambda ratio: ratio < 0.5,
        "Flat tangent": lambda ratio: ratio < 1e-12,
    }
    for prediction in ("Logistic", "Cubic", "Sine"):
        live_page.get_by_role("button", name=prediction).click()
        for name in live_page.get_by_role("group", name="Example").locator("button").all():
            name.click()
            assert claims[name.inner_text()](state(live_page)["ratio"]), (prediction, name)


def test_widening_sweeps_the_spread_and_any_change_stops_it(live_page: Page) -> None:
    show(live_page, {"sd": 1})
    live_page.get_by_role("button", name="Widen").click()
    live_page.wait_for_function("window.states.at(-1).sd < 1 && window.states.at(-1).sd > 0.06")
    slider(live_page, "Input x").press("ArrowRight")
    stopped = state(live_page)["sd"]
    assert 0.05 < stopped < 3
    live_page.wait_for_timeout(100)
    assert state(live_page)["sd"] == stopped
    assert live_page.get_by_role("button", name="Widen").count() == 1


def test_without_motion_widening_is_one_step_a_press(live_page: Page) -> None:
    live_page.emulate_media(reduced_motion="reduce")
    show(live_page, {"sd": 0.5})
    live_page.get_by_role("button", name="Widen").click()
    widened = state(live_page)["sd"]
    assert widened > 0.5
    live_page.wait_for_timeout(100)
    assert state(live_page)["sd"] == widened


def test_the_theme_repaints_the_canvases(live_page: Page) -> None:
    show(live_page, {})
    paint = "() => [...document.querySelectorAll('canvas')].map((canvas) => canvas.toDataURL())"
    light = live_page.evaluate(paint)
    live_page.evaluate("document.documentElement.dataset.theme = 'dark'")
    state(live_page)
    dark = live_page.evaluate(paint)
    assert len(light) == 3
    assert all(before != after for before, after in zip(light, dark, strict=True))


@pytest.mark.parametrize("width", [390, 700, 1300])
def test_no_width_overflows(live_page: Page, width: int) -> None:
    live_page.set_viewport_size({"width": width, "height": 900})
    show(live_page, {"prediction": "cubic", "x": 3, "mean": 3, "sd": 3})
    state(live_page)
    assert live_page.evaluate("document.documentElement.scrollWidth") <= width


def test_destroy_leaves_the_host_as_it_was(live_page: Page) -> None:
    show(live_page, {})
    live_page.evaluate("window.figure.destroy()")
    assert live_page.inner_html(".gnuq-live-host") == ""


def test_an_unknown_prediction_is_named(live_page: Page) -> None:
    message = live_page.evaluate(
        """async () => {
            const { mount } = await import("/live/delta_method.js");
            try { mount(document.body, { prediction: "cosine" }); } catch (error) {
                return error.message;
            }
        }"""
    )
    assert message == 'prediction: "cosine" is unknown; choose one of logistic, cubic, sine.'
