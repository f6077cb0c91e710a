"""Appendix A's experiment: its symmetries, its controls, its tables and figures."""

from __future__ import annotations

import copy
import itertools
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from gnuq.figures import proxy_bias as figures
from gnuq.figures import proxy_maps as map_figures
from gnuq.networks import Architecture, MapFit
from gnuq.posteriors import error_terms
from gnuq.results import proxy_bias, proxy_coverage, proxy_tables, proxy_terms
from gnuq.results.proxy_bias import PLAIN, Trained, Variant

RUN = ("xor", 0, 5.0)  # trains in half a second


@pytest.fixture(scope="module")
def run() -> Trained:
    return proxy_bias.trained(*RUN)


def reflected(run: Trained) -> Trained:
    """The same experiment seen in a mirror: x₂ → −x₂ in the data and in the first layer."""
    network = copy.deepcopy(run.fit.network)
    mirror = torch.tensor([1.0, -1.0])
    network[0].weight.data *= mirror
    fit = MapFit(network, run.fit.negative_log_posterior, run.fit.gradient_norm, 0)
    return replace(run, problem=replace(run.problem, inputs=run.problem.inputs * mirror), fit=fit)


def test_the_network_is_appendix_a_s() -> None:
    assert proxy_bias.NETWORK.parameters == 1185
    assert Architecture(2, (32, 32), 1) == proxy_bias.NETWORK


def test_the_halves_of_the_grid_mirror_each_other(run) -> None:
    points = proxy_bias.symmetric_grid(run.problem, 10)
    mirrored = points.reshape(10, 10, 2).flip(0) * torch.tensor([1.0, -1.0])
    torch.testing.assert_close(mirrored.reshape(-1, 2), points)
    assert int((points[:, 1] > 0).sum()) == 50


@pytest.mark.parametrize("variant", PLAIN, ids=["full", "diagonal"])
def test_a_mirror_swaps_top_and_bottom(run, variant) -> None:
    seen = proxy_bias.distortion(proxy_bias.proxy_maps(run, variant, resolution=12))
    mirror = proxy_bias.distortion(proxy_bias.proxy_maps(reflected(run), variant, resolution=12))
    assert mirror["ratio_identity"] == pytest.approx(1 / seen["ratio_identity"])
    assert mirror["ratio_top"] == pytest.approx(1 / seen["ratio_bottom"])
    assert mirror["ratio_bottom"] == pytest.approx(1 / seen["ratio_top"])
    assert mirror["cohen_d"] == pytest.approx(seen["cohen_d"])
    assert mirror["factor"] == pytest.approx(seen["factor"])


def test_the_full_fisher_distorts_as_the_paper_says_and_more_than_the_diagonal(run) -> None:
    full, diagonal = (
        proxy_bias.distortion(proxy_bias.proxy_maps(run, variant, resolution=12))
        for variant in PLAIN
    )
    assert full["ratio_top"] < full["ratio_identity"] < full["ratio_bottom"]
    assert full["factor"] > diagonal["factor"] > 1


def test_maps_hold_the_squared_gradient_norm_and_never_a_smaller_full_variance(run) -> None:
    """(F + λI)⁻¹ ≼ I/λ."""
    maps = proxy_bias.proxy_maps(run, Variant(), resolution=10)
    for half in ("top", "bottom"):
        assert (maps[half] <= maps["identity"] / run.prior.precision * (1 + 1e-9)).all()
    np.testing.assert_allclose(maps["log_ratio"], np.log(maps["top"] / maps["bottom"]))


def test_two_proxies_of_the_same_data_do_not_differ() -> None:
    table = proxy_coverage.coverage("xor", 0, precision=5.0, shares=(0.0, 1.0))
    whole = table[table["share"] == 1]
    assert (whole["cohen_d"] == 0).all()
    np.testing.assert_allclose(whole["factor"], 1)
    assert (table[table["share"] == 0]["factor"] > 1).all()


def test_a_larger_share_holds_the_smaller_one(run) -> None:
    masks = [proxy_coverage._with_share(run.upper, share, 0) for share in (0.0, 0.1, 0.5, 1.0)]
    assert torch.equal(masks[0], run.upper)
    assert bool(masks[-1].all())
    for few, many in itertools.pairwise(masks):
        assert not bool((few & ~many).any())


def test_random_halves_favour_no_side_and_distort_less_than_located_ones(run) -> None:
    """Which random half comes first is a toss: swapped, d is exactly the opposite."""
    located = proxy_bias.distortion(proxy_bias.proxy_maps(run, Variant(), resolution=10))
    for seed in range(6):
        first = proxy_bias.shuffled(len(run.upper), seed) < len(run.upper) // 2
        d, swapped = (
            proxy_bias.distortion(proxy_bias.proxy_maps(run, Variant(), halves, resolution=10))
            for halves in ((first, ~first), (~first, first))
        )
        assert swapped["cohen_d"] == pytest.approx(-d["cohen_d"])
        assert swapped["factor"] == pytest.approx(1 / d["factor"])
        assert abs(np.log(d["factor"])) < np.log(located["factor"])


def test_distortion_is_the_textbook_s() -> None:
    """Cohen's d, Welch's t and the factor on two small samples, by their definitions."""
    above, below = np.array([0.0, 1.0, 2.0]), np.array([3.0, 5.0, 7.0])
    frame = pd.DataFrame({"y": [1.0] * 3 + [-1.0] * 3, "log_ratio": [*above, *below]})
    for name in ("identity", "top", "bottom"):
        frame[name] = [1.0, 2.0, 3.0, 1.0, 1.0, 1.0]
    found = proxy_bias.distortion(frame)
    assert found["ratio_top"] == 2
    assert found["cohen_d"] == pytest.approx(4 / np.sqrt((1 + 4) / 2))
    assert found["welch_t"] == pytest.approx(4 / np.sqrt(1 / 3 + 4 / 3))
    assert found["factor"] == pytest.approx(np.exp(4))
    assert found["d_low"] < found["cohen_d"] < found["d_high"]


def test_at_best_multiples_an_isotropic_proxy_is_the_identity() -> None:
    gradients = torch.randn(20, 6)
    moments = error_terms.dense_moments(gradients, torch.eye(6) + 0.5)
    proxy = torch.full((6,), 3.0)
    both = proxy_terms.scaled_terms(gradients, moments, proxy, "both")
    torch.testing.assert_close(both.proxy, both.identity)  # 3 I and I are multiples of each other
    everywhere = torch.ones(20, dtype=torch.bool)
    found = proxy_terms.compared(both, everywhere)
    assert found["size_proxy"] == pytest.approx(found["size_identity"])
    assert proxy_terms.scaled_terms(gradients, moments, proxy, "paper").scale == 1
    assert proxy_terms.scaled_terms(gradients, moments, proxy, "trace").scale == 1.5


def test_intervals_over_seeds_are_scipy_s() -> None:
    values = pd.Series([1.0, 2.0, 4.0, 3.5])
    known = stats.t.interval(0.95, 3, loc=values.mean(), scale=stats.sem(values))
    found = proxy_tables.interval(values)
    assert (found["low"], found["high"]) == pytest.approx(known)
    back = proxy_tables.interval(1 / values, ratio=True)
    assert back["mean"] == pytest.approx(1 / proxy_tables.interval(values, ratio=True)["mean"])
    with pytest.raises(ValueError, match="values"):
        proxy_tables.interval(values.iloc[:1])


def invented() -> pd.DataFrame:
    """Rows as the experiment gives them, two seeds, the printed ratios times and over 2."""
    printed = {"linear": (0.93, 0.21, 4.56), "xor": (1.45, 0.62, 4.39), "rings": (1.06, 0.05, 19.1)}
    rows = []
    for problem, ratios in printed.items():
        for variant in PLAIN:
            for seed, times in enumerate((0.5, 2.0)):
                told = dict(zip(("identity", "top", "bottom"), ratios, strict=True))
                off = 3 if variant.covariance == "diagonal" else 1
                row = {f"ratio_{k}": v * times * off for k, v in told.items()}
                row |= {"problem": problem, "seed": seed, "precision": 1.0, "split": "location"}
                row |= {"cohen_d": 1.0 + seed, "d_low": 0.9, "d_high": 2.1, "factor": 2.0}
                rows.append(row | vars(variant) | {"welch_t": 9.0, "welch_p": 1e-9})
    return pd.DataFrame(rows)


def test_table_3_puts_the_geometric_mean_beside_the_paper_s() -> None:
    table = proxy_tables.table_3(invented()).set_index("problem")
    for name in ("identity", "top", "bottom"):
        np.testing.assert_allclose(table[name], table[f"{name}_paper"])
        np.testing.assert_allclose(table[f"{name}_high"] / table[f"{name}_low"], 4)
    assert (table["cohen_d"] == 1.5).all()
    assert (table["d_low"] < table["d_high"]).all()
    text = proxy_tables.readable_ratios(table.reset_index())
    assert text.loc["rings", "bottom, ours"] == "19.10 (9.55 to 38.20)"
    assert list(proxy_tables.readable_effects(table.reset_index())["largest p"]) == ["1e-09"] * 3


def test_variants_are_ranked_by_how_far_they_miss_the_paper() -> None:
    ranked = proxy_tables.distance_to_paper(invented())
    assert list(ranked["covariance"]) == ["full", "diagonal"]
    np.testing.assert_allclose(ranked["distance"], [1, 3])


def test_the_identity_s_asymmetry_treats_a_ratio_and_its_inverse_alike() -> None:
    frame = invented()
    frame["ratio_identity"] = np.where(frame["seed"] == 0, 0.5, 2.0)
    found = proxy_tables.identity_asymmetry(frame)
    np.testing.assert_allclose(found["mean"], 1)
    np.testing.assert_allclose(found["larger"], 2)


def test_labels_put_the_diagonal_after_the_full_and_random_halves_last() -> None:
    frame = invented()
    mixed = pd.concat([frame.assign(split="random"), frame])
    labels = list(proxy_tables.labelled(mixed)["label"].unique())
    assert labels == [
        "full, sum, observed", "diagonal, sum, observed",
        "full, random halves", "diagonal, random halves",
    ]  # fmt: skip


def test_figures_show_one_view_at_a_time(run) -> None:
    frame = proxy_tables.labelled(invented())
    parts = [
        proxy_bias.proxy_maps(run, v, resolution=8).assign(problem="xor", covariance=v.covariance)
        for v in PLAIN
    ]
    maps = map_figures.proxy_bias_maps(pd.concat(parts), {"xor": run.problem})
    shown = [trace for trace in maps.data if trace.visible]
    assert len(shown) * 2 == len(maps.data)
    assert sum(trace.type == "heatmap" for trace in shown) == 4
    dots = figures.variant_dots(frame, "cohen_d", "d", neutral=0.0)
    assert {trace.visible for trace in dots.data} == {True}  # a single λ
    both = pd.concat([frame, frame.assign(precision=5.0)])
    dots = figures.variant_dots(both, "factor", "factor", neutral=1.0)
    assert sum(trace.visible for trace in dots.data) * 2 == len(dots.data)


def test_curves_and_eq_7_show_every_row() -> None:
    curve = pd.DataFrame({"share": [0.0, 1.0], "mean": [4.0, 1.0], "low": [2.0, 1.0]})
    curve = curve.assign(high=[8.0, 1.0], problem="xor", covariance="full")
    (line,) = figures.coverage_curves(curve).data
    assert list(line.error_y.array) == [4, 0]
    rows = [
        {"problem": "xor", "proxy": proxy, "scaling": scaling, "seed": 0, "larger": 0.9, "worse": 0}
        for proxy in ("top", "all")
        for scaling in ("paper", "both")
    ]
    drawn = figures.eq_7(pd.DataFrame(rows), {"paper": "c = 1", "both": "both"})
    shown = [trace for trace in drawn.data if trace.visible]
    assert [list(trace.x) for trace in shown] == [[0.9, 0.9], [0, 0]]
    assert [round(y) for y in shown[0].y] == [0, 2]


@pytest.mark.bad_input
def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="problem_name"):
        proxy_bias.trained("line", 0)
    with pytest.raises(ValueError, match="precision"):
        proxy_bias.trained("xor", 0, -1.0)
    with pytest.raises(ValueError, match="shares"):
        proxy_coverage.coverage("xor", 0, shares=(1.2,))
    with pytest.raises(ValueError, match="problem_name"):
        proxy_terms.against_posterior("linear", 0)
