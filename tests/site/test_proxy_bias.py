"""The proxy-bias figure agrees with NumPy and with Table 3, and answers to mouse and keyboard."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from playwright.sync_api import Page
from torch import Tensor
from torch.func import functional_call, grad_and_value, vmap
from torch.nn.utils import parameters_to_vector

from gnuq.networks import Architecture
from gnuq.results import proxy_bias
from gnuq.results.proxy_tables import chosen as rows_of
from gnuq.results.proxy_tables import saved
from tests.site.figures import grave, mount

Options = dict[str, Any]
WIDTHS = proxy_bias.NETWORK.hidden
# What the page is asked for: the points and λ of each call, on one experiment, one after another.
CALLS: list[tuple[list[int], float]] = [
    (list(range(0, 400, 2)), 1.0),
    (list(range(0, 400, 2)), 0.01),  # λ alone
    ([*range(0, 400, 2), 1, 3, 5], 0.01),  # points that come
    ([*range(0, 100, 2), *range(120, 400, 2), 1, 5], 0.01),  # points that go
    ([7], 100.0),
    ([], 3.0),
]
MAPS = ("identity", "full", "diagonal")
EVERY = 13  # of the grid's points is compared; no divisor of its side, so all columns occur


def rounded(values: Any) -> list[float]:
    return [float(f"{value:.6g}") for value in values]


def problem_of(name: str) -> Options:
    """The network and the data of Figure 1, as the page gets them."""
    run = proxy_bias.trained(name, 0)
    return {
        "x": rounded(run.problem.inputs.flatten().tolist()),
        "labels": run.problem.targets.tolist(),
        "theta": rounded(parameters_to_vector(run.fit.network.parameters()).tolist()),
    }


@pytest.fixture(scope="module")
def options() -> Options:
    return {
        "widths": list(WIDTHS),
        "problems": {name: problem_of(name) for name in ("xor", "linear")},
    }


def evaluate(page: Page, options: Options, name: str, calls: list[Any]) -> list[Any]:
    """The maps after each call of `update` on one experiment."""
    found: list[Any] = page.evaluate(
        """async ([options, name, calls]) => {
            const { Experiment } = await import("/live/proxy_bias.js");
            const experiment = new Experiment(options.problems[name], options.widths);
            return calls.map(([chosen, precision]) => {
                experiment.update(chosen, precision);
                const { identity, full, diagonal, left } = experiment;
                const maps = { identity, full, diagonal, left: left.full };
                return Object.fromEntries(
                    Object.entries(maps).map(([key, map]) => [key, [...map]]));
            });
        }""",
        [options, name, calls],
    )
    return found


def logit_gradients(problem: Options, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Logits at x, and their gradients by automatic differentiation."""
    network = Architecture(2, WIDTHS, 1).build(0)
    shapes = {name: weight.shape for name, weight in network.named_parameters()}
    parts = torch.tensor(problem["theta"]).split([shape.numel() for shape in shapes.values()])
    weights = {
        name: part.view(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)
    }

    def logit(weights: dict[str, Tensor], one: Tensor) -> Tensor:
        return functional_call(network, weights, (one,))[0]

    one_by_one = vmap(grad_and_value(logit), in_dims=(None, 0))
    gradients, logits = one_by_one(weights, torch.tensor(x))
    return logits.numpy(), torch.cat([g.flatten(1) for g in gradients.values()], 1).numpy()


def dense_maps(problem: Options, calls: list[Any]) -> list[dict[str, np.ndarray]]:
    """‖g‖² and gᵀ(F + λI)⁻¹g on part of the grid, F a matrix of parameters by parameters."""
    x = np.array(problem["x"]).reshape(-1, 2)
    low, high = x[:, 0].min(), x[:, 0].max()
    reach, margin = np.abs(x[:, 1]).max(), 0.12
    across = np.linspace(low - margin * (high - low), high + margin * (high - low), 40)
    up = np.linspace(-reach * (1 + 2 * margin), reach * (1 + 2 * margin), 40)
    grid = np.stack([np.tile(across, 40), np.repeat(up, 40)], 1)
    at_data, jacobian = logit_gradients(problem, x)
    at_grid, on_grid = logit_gradients(problem, grid[::EVERY])
    slope = 1 / (2 * np.cosh(at_grid / 2)) ** 2
    g = slope[:, None] * on_grid
    scores = (np.array(problem["labels"]) - 1 / (1 + np.exp(-at_data)))[:, None] * jacobian
    found = []
    for chosen, precision in calls:
        fisher = scores[chosen].T @ scores[chosen]
        solved = np.linalg.solve(fisher + precision * np.eye(len(fisher)), g.T)
        maps = {"identity": (g**2).sum(1), "full": (g.T * solved).sum(0)}
        found.append(maps | {"diagonal": (g**2 / (np.diag(fisher) + precision)).sum(1)})
    return found


def test_the_maps_are_those_of_dense_matrices(live_page: Page, options: Options) -> None:
    """Whatever came before: points in another order, another λ, points taken back."""
    ours = evaluate(live_page, options, "xor", CALLS)
    theirs = dense_maps(options["problems"]["xor"], CALLS)
    for got, wanted in zip(ours, theirs, strict=True):
        for name in MAPS:
            np.testing.assert_allclose(got[name][::EVERY], wanted[name], rtol=1e-8, atol=0)


@pytest.mark.parametrize("name", ["xor", "linear"])
def test_the_halves_give_table_3(live_page: Page, options: Options, name: str) -> None:
    """The record's own row: problem, seed 0, λ = 1, for both matrices."""
    height = np.array(options["problems"][name]["x"])[1::2]
    halves = {"top": height > 0, "bottom": height <= 0}
    calls = [([int(i) for i in np.flatnonzero(part)], 1.0) for part in halves.values()]
    record = rows_of(saved("proxy-bias"), problem=name, seed=0, precision=1.0, split="location")
    plain = rows_of(record, reduction="sum", labels="observed").set_index("covariance")
    for half, maps in zip(halves, evaluate(live_page, options, name, calls), strict=True):
        for covariance in ("full", "diagonal"):
            lower, upper = np.split(np.array(maps[covariance]), 2)
            wanted = plain.loc[covariance, f"ratio_{half}"]
            assert upper.mean() / lower.mean() == pytest.approx(wanted, rel=1e-3)


def test_data_only_ever_reduce_uncertainty(live_page: Page, options: Options) -> None:
    """0 < λgᵀ(F + λI)⁻¹g / ‖g‖² ≤ 1, one without data, and lower with each point that comes."""
    calls = [(list(range(count)), 1.0) for count in (0, 1, 20, 200, 400)]
    left = np.array([maps["left"] for maps in evaluate(live_page, options, "linear", calls)])
    np.testing.assert_allclose(left[0], 1, rtol=1e-12)
    assert (left > 0).all()
    assert (np.diff(left, axis=0) <= 1e-12).all()


def test_wrong_sizes_are_named(live_page: Page) -> None:
    message = live_page.evaluate(
        """async () => {
            const { Experiment } = await import("/live/proxy_bias.js");
            try { new Experiment({ x: [0, 0], labels: [1], theta: [1, 2] }, [4]); }
            catch (error) { return error.message; }
        }"""
    )
    assert (
        message
        == "problem: widths and labels ask for 17 numbers in theta and 2 in x; give as many."
    )


@pytest.mark.parametrize(
    ("mode", "before", "wanted"),
    [("paint", [2], [2, 0, 1]), ("erase", [1, 2, 0], [2]), ("paint", [0, 1], [0, 1])],
)
def test_a_stroke_takes_what_lies_along_it(
    live_page: Page, mode: str, before: list[int], wanted: list[int]
) -> None:
    """Points near the middle of a stroke count as much as those near its ends."""
    found = live_page.evaluate(
        """async ([before, mode]) => {
            const { stroked } = await import("/live/proxy_bias.js");
            const points = [{ x: 0, y: 0 }, { x: 1, y: 0.2 }, { x: 1, y: 0.5 }];
            const chosen = [...before];
            return stroked(points, chosen, { from: [0, 0], to: [2, 0], radius: 0.3, mode });
        }""",
        [before, mode],
    )
    assert found == wanted


# ------------------------------------------------------------------ on the page


def show(page: Page, options: Options) -> None:
    """Mount the figure, styled as on the website, and keep what it reports in ``window.states``."""
    mount(page, "proxy_bias", options, "<p>text</p>")
    page.wait_for_function("window.states.length > 0")


def chosen(page: Page) -> set[int]:
    """The chosen points, once the figure has drawn them."""
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return set(page.evaluate("window.states.at(-1).chosen"))


def told(page: Page, pattern: str) -> re.Match[str]:
    """The line that says what is seen, once it matches."""
    page.wait_for_function(
        "(p) => RegExp(p, 'u').test(document.querySelector('.gnuq-state').textContent)", arg=pattern
    )
    found = re.search(pattern, page.locator(".gnuq-state").text_content() or "")
    assert found is not None
    return found


def on_the_map(page: Page, across: float, down: float) -> tuple[float, float]:
    """Where on the screen a share of the painted map's width and height is now."""
    box = page.locator(".gnuq-proxy-canvas").bounding_box()
    assert box is not None
    return box["x"] + across * box["width"], box["y"] + down * box["height"]


def press(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def test_it_begins_with_the_top_half_and_says_what_is_seen(
    live_page: Page, options: Options
) -> None:
    show(live_page, options)
    height = np.array(options["problems"]["xor"]["x"])[1::2]
    assert chosen(live_page) == set(np.flatnonzero(height > 0))
    found = told(
        live_page, r"sees (\d+) of 400 points, (\d+) of them in the top half\. .*: (0\.\d+)"
    )
    assert found[1] == found[2] == str((height > 0).sum())
    assert found[3] == "0.45"
    press(live_page, "Bottom half")
    told(live_page, r", 0 of them in the top half\. .*: 2\.9; under the identity 0\.9\.")
    press(live_page, "Diagonal")
    told(live_page, r"XOR, diagonal, λ = 1\. .*: 1\.5;")


def test_the_mouse_paints_and_erases(live_page: Page, options: Options) -> None:
    show(live_page, options)
    press(live_page, "None")
    assert chosen(live_page) == set()
    live_page.mouse.move(*on_the_map(live_page, 0.25, 0.375))
    live_page.mouse.down()
    live_page.mouse.move(*on_the_map(live_page, 0.25, 0.625), steps=2)
    live_page.mouse.up()
    painted = chosen(live_page)
    first = np.array(options["problems"]["xor"]["x"])[::2]
    assert len(painted) > 10
    assert (first[list(painted)] < 0).all()
    press(live_page, "Erase")
    live_page.mouse.click(*on_the_map(live_page, 0.25, 0.375))
    assert chosen(live_page) < painted


def test_the_keyboard_paints_and_erases(live_page: Page, options: Options) -> None:
    """Arrow keys and Space do what the mouse does, and the brush says what lies under it."""
    show(live_page, options)
    press(live_page, "None")
    brush = live_page.locator(".gnuq-proxy-brush")
    brush.focus()
    for key in ("ArrowRight", "ArrowRight", "Shift+ArrowDown"):
        live_page.keyboard.press(key)
    label = brush.get_attribute("aria-label") or ""
    place = re.fullmatch(r"Paint at 0\.9, 0\.91: 0 of (\d+) points here are chosen", label)
    assert place is not None
    live_page.keyboard.press("Space")
    painted = chosen(live_page)
    points = np.array(options["problems"]["xor"]["x"]).reshape(-1, 2)
    near = np.hypot(*(points - [0.9, 0.91]).T) <= 0.45
    assert painted == set(np.flatnonzero(near))
    assert len(painted) == int(place[1]) > 10
    press(live_page, "Erase")
    brush.focus()
    live_page.keyboard.press("Space")
    assert chosen(live_page) == set()


def test_a_finger_paints_without_scrolling_the_page(live_page: Page, options: Options) -> None:
    """Only the map that is painted on keeps touches to itself."""
    show(live_page, options)
    surfaces = live_page.locator(".gnuq-surface")
    actions = [
        one.evaluate("(node) => getComputedStyle(node).touchAction") for one in surfaces.all()
    ]
    assert actions == ["none", "auto", "auto"]


def test_another_problem_begins_anew(live_page: Page, options: Options) -> None:
    show(live_page, options)
    press(live_page, "Linear")
    height = np.array(options["problems"]["linear"]["x"])[1::2]
    assert chosen(live_page) == set(np.flatnonzero(height > 0))
    found = told(live_page, r"^Linear, full matrix.*: ([\d.]+); under the identity ([\d.]+)\.")
    record = rows_of(saved("proxy-bias"), problem="linear", seed=0, precision=1.0, split="location")
    row = rows_of(record, reduction="sum", labels="observed", covariance="full").iloc[0]
    assert float(found[1]) == pytest.approx(row["ratio_top"], rel=0.05)  # two digits are shown
    assert float(found[2]) == pytest.approx(row["ratio_identity"], rel=0.05)


def test_lambda_weakens_the_proxy(live_page: Page, options: Options) -> None:
    """λ(F + λI)⁻¹ grows with λ towards the identity."""
    show(live_page, options)
    shares = r" leaves (\d+) % of the prior's variance in the top half, (\d+) % in the bottom"
    weak = told(live_page, r"λ = 1\..*" + shares)
    live_page.get_by_role("slider", name="λ").press("End")
    strong = told(live_page, r"λ = 100\..*" + shares)
    for half in (1, 2):
        assert int(weak[half]) < int(strong[half]) <= 100


def test_both_themes_are_drawn(live_page: Page, options: Options) -> None:
    """The map's corner, far from every boundary, has the colour of the page's paper."""
    show(live_page, options)
    colours = []
    for theme in ("light", "dark"):
        live_page.evaluate("(theme) => (document.documentElement.dataset.theme = theme)", theme)
        live_page.wait_for_timeout(200)
        pixel = """(canvas) => [...canvas.getContext("2d").getImageData(
            canvas.width - 20, canvas.height - 20, 1, 1).data.slice(0, 3)]"""
        colours.append(live_page.locator(".gnuq-proxy-canvas > canvas").evaluate(pixel))
    assert min(colours[0]) > 200
    assert max(colours[1]) < 90


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_serious_violation_and_no_overflow(
    live_page: Page, options: Options, theme: str
) -> None:
    live_page.set_viewport_size({"width": 390, "height": 800})
    live_page.evaluate("(theme) => (document.documentElement.dataset.theme = theme)", theme)
    show(live_page, options)
    assert live_page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert not grave(live_page)


def test_destroy_gives_the_text_back(live_page: Page, options: Options) -> None:
    show(live_page, options)
    live_page.evaluate("window.figure.destroy()")
    assert live_page.locator(".gnuq-live-host").inner_html() == "<p>text</p>"
