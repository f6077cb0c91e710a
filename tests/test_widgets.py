"""The explorer shows what the estimators say, and says so when they cannot."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from gnuq import widgets
from gnuq.estimators import epistemic
from gnuq.networks import fit_map
from gnuq.posteriors.laplace import dense_covariance
from gnuq.posteriors.settings import HMC
from gnuq.problems import PROBLEMS
from gnuq.walkthrough import live, sampling
from gnuq.walkthrough.live import Settings, estimates
from gnuq.walkthrough.sampling import Sampled
from gnuq.widgets import Explorer

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
PLOTLY = "application/vnd.plotly.v1+json"
SMALL = Settings(width=4, points=40)


def figure(explorer: Explorer) -> dict[str, Any]:
    (shown,) = explorer.map.outputs
    return shown["data"][PLOTLY]


def small_explorer(**controls: Any) -> Explorer:
    """An explorer of a small network; a problem brings its own width, so it is set first."""
    explorer = Explorer(HMC(chains=2, tune=20, draws=20))
    wanted = {"points": 40, "problem_name": "xor", "width": 4} | controls
    for name, value in wanted.items():
        explorer.controls[name].value = value
    return explorer


def maps(content: dict[str, Any]) -> list[dict[str, Any]]:
    return [trace for trace in content["data"] if trace["type"] == "heatmap"]


def made_up(settings: Settings, sampler: HMC) -> Sampled:
    """Draws from no posterior, at once."""
    grid, outputs = len(settings.grid(coarse=True).points), settings.problem.outputs
    shape = (sampler.chains, sampler.draws, grid, outputs)
    return Sampled(settings, np.random.default_rng(0).uniform(size=shape), 0, 0.0)


@pytest.fixture(autouse=True, scope="module")
def _coarse() -> Iterator[None]:
    """Fewer grid points, here alone: what was computed before and on them is forgotten."""
    caches = (live.fitted, live.estimates, sampling.sampled, sampling.compare)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(live, "FINE", {1: 20, 2: 12})
        patch.setattr(live, "COARSE", {1: 10, 2: 5})
        for cached in caches:
            cached.cache_clear()
        yield
    for cached in caches:
        cached.cache_clear()


@pytest.mark.parametrize(
    ("name", "output"), [("xor", 0), ("rings-3", 2), ("clusters-4", 1), ("wave-gap", 0)]
)
def test_the_maps_are_the_estimators(name: str, output: int) -> None:
    """‖g‖² and gᵀΣg at three grid points, from a backward pass and a dense Σ each."""
    settings = replace(SMALL, problem_name=name, prior_precision=2.0)
    frame, (fit, _) = estimates(settings, output), live.fitted(settings)
    covariance = dense_covariance(fit, settings.problem, settings.prior)
    weights = list(fit.network.parameters())
    fit.network.requires_grad_(True)
    for i in (0, 7, len(frame) - 1):
        place = torch.tensor(frame.loc[i, [c for c in "xy" if c in frame]].to_list())
        values = fit.network(place[None])[0]
        if settings.task != "regression":
            values = values.sigmoid() if settings.task == "binary" else values.softmax(0)
        gradient = torch.cat([g.flatten() for g in torch.autograd.grad(values[output], weights)])
        assert frame["gradient_norm"][i] == pytest.approx(float(gradient @ gradient))
        assert frame["laplace_epistemic"][i] == pytest.approx(
            float(gradient @ covariance @ gradient), rel=1e-6
        )
        assert frame["prediction"][i] == pytest.approx(float(values[output].detach()))


def test_probabilities_have_a_bernoulli_variance_and_a_linearised_one_within_it() -> None:
    frame = estimates(SMALL)
    p = frame["prediction"]
    np.testing.assert_allclose(frame["bernoulli"], p * (1 - p))
    assert (frame["linearised_epistemic"] <= 0.25).all()
    assert set(live.METHODS["binary"]) <= set(frame)
    assert not {"bernoulli", "linearised_epistemic"} & set(
        estimates(replace(SMALL, problem_name="line"))
    )


def test_stopping_early_keeps_the_map() -> None:
    """The live tolerance moves ‖g‖² by less than a twentieth of its maximum."""
    settings = replace(SMALL, points=200, width=16)
    exact = fit_map(settings.architecture, settings.problem, settings.prior)
    found = epistemic(exact.network, settings.grid().points, link="sigmoid").total.numpy()
    shown = estimates(settings)["gradient_norm"]
    assert abs(shown - found).max() < 0.05 * found.max()


def test_equal_settings_are_computed_once() -> None:
    first = estimates(SMALL)
    assert estimates(replace(SMALL, width=4)) is first
    assert estimates(replace(SMALL, data_seed=1)) is not first


@pytest.mark.bad_input
@pytest.mark.parametrize(
    "wrong",
    [
        {"problem_name": "moons"},
        {"width": -1},
        {"width": 4096},
        {"prior_precision": 0.0},
        {"prior_scaling": "wide"},
        {"noise": float("nan")},
        {"points": 3},
        {"points": 10**6},
    ],
)
def test_settings_name_what_is_wrong(wrong: dict[str, Any]) -> None:
    (field,) = wrong
    with pytest.raises(ValueError, match=field.removeprefix("prior_")):
        Settings(**wrong)


@pytest.mark.bad_input
def test_an_output_that_the_network_lacks_is_refused() -> None:
    with pytest.raises(ValueError, match="output: 1"):
        estimates(SMALL, 1)


def test_every_problem_can_be_chosen_and_brings_its_own_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    explorer = small_explorer()
    layers = {name: (4,) if name == "rings" else () for name in PROBLEMS}
    monkeypatch.setattr(widgets.panel, "HIDDEN", layers)  # quick ones
    for name, recipe in PROBLEMS.items():
        explorer.controls["problem_name"].value = name
        assert explorer.settings.noise == recipe.noise
        assert explorer.settings.width == (4 if name == "rings" else 0)
        assert explorer.controls["method"].value in live.METHODS[recipe.task]
        several = recipe.task == "multiclass"
        assert len(explorer.controls["output"].options) == (recipe.classes if several else 1)
        assert (explorer.controls["output"].layout.display == "none") != several
        assert bool(maps(figure(explorer))) == (recipe.task != "regression")


@pytest.mark.parametrize(
    ("control", "value"),
    [
        ("prior_precision", 5.0),
        ("prior_scaling", "fan_in"),
        ("width", 8),
        ("noise", 0.3),
        ("points", 60),
        ("data_seed", 1),
        ("start", 3),
        ("method", "laplace_epistemic"),
    ],
)
def test_every_control_moves_the_map(control: str, value: Any) -> None:
    explorer = small_explorer()
    before = maps(figure(explorer))
    explorer.controls[control].value = value
    after = maps(figure(explorer))
    assert after[0]["z"] != before[0]["z"]
    method = explorer.controls["method"].value
    assert f"max {explorer.frame[method].max():.2g}" in json.dumps(figure(explorer))


def test_the_class_shown_is_the_class_chosen() -> None:
    explorer = small_explorer(problem_name="clusters-3", width=0)
    explorer.controls["output"].value = 2
    assert explorer.frame is estimates(explorer.settings, 2)


def test_regression_shows_a_band_of_two_standard_deviations() -> None:
    """‖g‖² has no scale: its band is as wide as Laplace's where both are widest."""
    explorer = small_explorer(problem_name="wave-gap", width=4)
    frame, widths = explorer.frame, {}
    for method in live.METHODS["regression"]:
        explorer.controls["method"].value = method
        lower, upper = (np.array(decoded(t["y"])) for t in figure(explorer)["data"][:2])
        np.testing.assert_allclose((lower + upper) / 2, frame["prediction"])
        widths[method] = (upper - lower) / 4
    laplace = frame["laplace_epistemic"] ** 0.5
    np.testing.assert_allclose(widths["laplace_epistemic"], laplace)
    assert widths["gradient_norm"].max() == pytest.approx(laplace.max())
    ratio = widths["gradient_norm"] ** 2 / frame["gradient_norm"]
    np.testing.assert_allclose(ratio, ratio[0])


def decoded(values: Any) -> np.ndarray:
    """One of plotly's typed arrays."""
    return np.frombuffer(base64.b64decode(values["bdata"]), dtype=values["dtype"])


def test_a_failure_is_shown_and_not_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    explorer = small_explorer()
    monkeypatch.setattr(live, "MAX_ITERATIONS", 2)
    explorer.controls["data_seed"].value = 11
    assert "fit_map: stopped after 2 iterations" in explorer.status.value
    assert explorer.frame is None
    assert explorer.map.outputs == ()
    assert explorer.button.disabled
    monkeypatch.undo()
    explorer.controls["data_seed"].value = 12
    assert figure(explorer)
    assert not explorer.button.disabled


def test_a_flat_mode_is_named_and_not_correlated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "sampled", made_up)
    assert "flat" not in small_explorer().status.value
    explorer = small_explorer(prior_precision=19.0)
    assert "its maps are flat" in explorer.status.value
    explorer.button.click()
    assert explorer.comparison is not None
    assert explorer.comparison.correlations["pearson"].isna().all()
    assert "no correlation" in explorer.status.value


@pytest.mark.parametrize(("problem", "width", "output"), [("clusters-3", 0, 2), ("wave", 4, 0)])
def test_draws_fill_in_the_reference(
    problem: str, width: int, output: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampling, "sampled", made_up)
    explorer = small_explorer(problem_name=problem, width=width, output=output)
    traces = len(figure(explorer)["data"])
    assert explorer.comparison is None
    explorer.button.click()
    found = explorer.comparison
    assert found is not None
    draws = made_up(explorer.settings, explorer.sampler).predictions[..., output]
    np.testing.assert_allclose(found.frame["hmc_epistemic"], draws.var((0, 1)))
    expected = np.corrcoef(found.frame["gradient_norm"], found.frame["hmc_epistemic"])[0, 1]
    shown = found.correlations.set_index(["estimate", "reference"])
    assert shown.loc[("gradient_norm", "hmc_epistemic"), "pearson"] == pytest.approx(expected)
    assert f"{expected:.2f}" in explorer.posterior.outputs[0]["data"]["text/html"]
    assert f"Pearson {expected:.2f}, Spearman" in explorer.status.value
    assert len(figure(explorer)["data"]) > traces


def test_the_button_samples_and_tells_how_well() -> None:
    """The one real run; the reference then goes with its settings, not with the method."""
    pytest.importorskip("gnuq.posteriors.hmc")
    explorer = small_explorer()
    explorer.button.click()
    first = explorer.comparison
    assert first is not None
    text, ranks = (shown["data"] for shown in explorer.posterior.outputs)
    assert f"worst r̂ {first.r_hat:.3f}" in text["text/html"]
    assert "Rank plots" in ranks.get("text/html", "") or PLOTLY in ranks
    assert not explorer.button.disabled
    explorer.controls["method"].value = "bernoulli"
    assert explorer.comparison is first
    assert "mean of p(1 − p)" in json.dumps(figure(explorer), ensure_ascii=False)
    explorer.controls["start"].value = 1
    assert explorer.comparison is None
    assert explorer.posterior.outputs == ()
    assert len(maps(figure(explorer))) == 1


def test_a_sampler_that_fails_leaves_the_map(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise ValueError("predictions: they contain NaN or infinity; the sampler has diverged.")

    explorer = small_explorer()
    monkeypatch.setattr(sampling, "sampled", fail)
    explorer.button.click()
    assert "diverged" in explorer.status.value
    assert maps(figure(explorer))
    assert not explorer.button.disabled


@pytest.mark.parametrize("book", [True, False])
def test_the_website_gets_a_figure_and_a_kernel_the_controls(
    book: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    monkeypatch.setenv("GNUQ_BOOK", str(int(book)))
    monkeypatch.setattr("IPython.display.display", lambda value, **_: seen.append(value))
    monkeypatch.setattr(widgets.website, "PRECISIONS", (2.0, 19.0))
    widgets.explorer()
    if not book:
        (panel,) = seen
        assert len(panel.children) == 4
        return
    shown, note = seen
    assert "make lab" in note.data
    page = shown["text/html"]
    assert len(page) < 400_000
    assert "At λ = 19 the mode is the zero network" in page
    content = json.loads(re.search(r'gnuq-data">(.*)</script>', page)[1])
    assert len(maps(content)) == 4
    for i, step in enumerate(content["layout"]["sliders"][0]["steps"]):
        visible = step["args"][0]["visible"]
        assert visible[:4] == [j // 2 == i for j in range(4)]
        assert visible[4:] == [True] * (len(content["data"]) - 4)
