"""Records in, tables out: the identities that a table rests on."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from gnuq import artefacts, paper, protocol, results
from gnuq.posteriors import diagnostics
from gnuq.protocol import Experiment
from gnuq.records import moments


def test_moments_keep_the_law_of_total_variance() -> None:
    """Pooling the halves' moments gives the moments of all draws."""
    p = np.random.default_rng(0).beta(2, 5, size=(4, 50, 6)).astype(np.float32)
    columns = moments(p)
    a, b = (columns[f"mean_{h}"].astype(float) for h in "ab")
    within = (columns["variance_a"].astype(float) + columns["variance_b"]) / 2
    np.testing.assert_allclose((a + b) / 2, p.mean((0, 1)), rtol=1e-5)
    np.testing.assert_allclose(within + ((a - b) / 2) ** 2, p.var((0, 1)), rtol=1e-4)
    entropy = -(p * np.log(p) + (1 - p) * np.log(1 - p))
    np.testing.assert_allclose(columns["entropy"], entropy.mean((0, 1)), rtol=1e-4)


def test_moments_survive_saturated_probabilities() -> None:
    columns = moments(np.tile(np.float32([0.0, 1.0]), (4, 5, 1)))
    assert all(np.isfinite(values).all() for values in columns.values())
    assert columns["entropy"].max() < 1e-5


@pytest.mark.parametrize("experiment", protocol.experiments(), ids=lambda e: e.record)
def test_every_reference_converged_on_every_grid_point(experiment: Experiment) -> None:
    frame = results.reference(experiment)
    assert len(frame) == protocol.RESOLUTION**2
    assert frame["r_hat"].max() < diagnostics.MAX_R_HAT
    assert frame["effective_samples"].min() > diagnostics.MIN_EFFECTIVE_SAMPLES
    np.testing.assert_allclose(
        frame["hmc_total"], frame["hmc_epistemic"] + frame["hmc_aleatoric"], atol=1e-12
    )
    assert (frame[["hmc_epistemic", "hmc_aleatoric"]] > -1e-9).all().all()


@pytest.mark.parametrize("experiment", protocol.experiments(), ids=lambda e: e.record)
def test_records_lie_on_their_experiments_grid(experiment: Experiment) -> None:
    frame = results.reference(experiment)
    np.testing.assert_allclose(frame[["x", "y"]].to_numpy(), experiment.grid.points, atol=1e-12)


def test_the_logistic_map_reproduces_table_5s_linear_row() -> None:
    """The well-specified linear problem: every method agrees with the reference."""
    frame = results.maps(Experiment("linear"))
    found = results.correlate(frame, results.EPISTEMIC).set_index("comparison")
    assert found.loc["laplace", "pearson"] > 0.98
    assert found.loc["gradient_norm", "spearman"] > 0.98
    assert found.loc["ceiling", "pearson"] > 0.99
    linear = frame["linearised_epistemic"] + frame["linearised_aleatoric"]
    assert (linear <= 0.25 + 1e-12).all()


def test_correlate_reports_a_constant_map_as_undefined() -> None:
    frame = pd.DataFrame({"flat": np.ones(9), "b": np.arange(9.0), "inside": True})
    found = results.correlate(frame, {"x": ("flat", "b"), "y": ("b", "b")})
    assert np.isnan(found["pearson"][0])
    assert found["spearman"][1] == pytest.approx(1)


def test_table_puts_the_papers_numbers_beside_ours() -> None:
    rows = [
        {"problem": "xor", "comparison": "gradient_norm", "quantity": "epistemic",
         "pearson": r, "spearman": r / 2} for r in (0.2, 0.4)
    ]  # fmt: skip
    table = results.table(pd.DataFrame(rows), "epistemic", paper.TABLE_5)
    row = table.iloc[0]
    assert (row["r_paper"], row["rho_paper"]) == (0.65, 0.68)
    assert (row["r_low"], row["r"], row["r_high"]) == pytest.approx((0.2, 0.3, 0.4))
    assert row["n"] == 2


def test_an_unknown_experiment_is_named() -> None:
    with pytest.raises(ValueError, match="problem_name.*moons"):
        Experiment("moons")
    with pytest.raises(ValueError, match="prior_name"):
        Experiment("xor", "flat")


def test_the_saved_correlations_are_what_the_code_computes() -> None:
    """One cheap row of the committed result, computed anew: the result belongs to this code."""
    saved = artefacts.load("results", protocol.VALIDATION).frame
    experiment = Experiment("linear", "unit-5", 3)
    found = results.validation([experiment], map_seeds=(1,))
    keys = ["problem", "prior", "seed", "map_seed", "region", "quantity", "comparison"]
    both = found.merge(saved, on=keys, suffixes=("", "_saved"))
    assert len(both) == len(found) == 24
    kept = ~both["comparison"].isin(["laplace", "point_laplace"])  # those draw random weights
    for column in ("pearson", "spearman"):
        np.testing.assert_allclose(both[column], both[f"{column}_saved"], atol=0.02)
        exact = both[kept | (both["quantity"] == "epistemic")]
        np.testing.assert_allclose(exact[column], exact[f"{column}_saved"], atol=2e-5)


def test_the_saved_correlations_cover_the_protocol() -> None:
    saved = artefacts.load("results", protocol.VALIDATION).frame
    starts = saved.groupby(["problem", "prior", "seed", "map_seed"]).size()
    expected = len(protocol.experiments()) * len(protocol.MAP_SEEDS)
    assert len(starts) == expected
    assert (starts == 24).all()
    defined = saved[["pearson", "spearman"]].notna().all(axis=1)
    constant = saved["comparison"].isin(["gn_laplace", "ceiling"]) | saved["flat"]
    assert defined[~constant].all()
