"""The scaling study's settings, estimates, terms and tables."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
import torch
from torch import nn

from gnuq import artefacts, paper, scaling
from gnuq.figures import scaling as figures
from gnuq.gradnorm import gradient_factors
from gnuq.networks import Activated, Prior
from gnuq.pipeline import stages
from gnuq.posteriors import laplace, training
from gnuq.problems import SECTOR, make_problem
from gnuq.results import scaling as results
from gnuq.results import scaling_tables, scaling_terms
from gnuq.scaling import Run

SIZES = [12, 132, 388, 1284, 4612, 17412, 67588, 266244, 1065012]


def test_the_sizes_are_the_papers():
    found = [Run(width).architecture.parameters for width in scaling.WIDTHS]
    assert found == SIZES == [int(key) for key in paper.items()["table-10"].printed]


def test_runs_have_names_of_their_own_and_batches_that_divide():
    runs = scaling.runs()
    assert len(runs) == len([*scaling.study(), *scaling.sweep()])
    assert set(scaling.OPEN) <= set(runs)
    for run in runs.values():
        assert run.sampler.tune % run.batch == run.sampler.draws % run.batch == 0
        assert run.sampler.chains >= (4 if run.width <= 256 else 2)


def test_an_unfinished_run_is_meant_by_its_whole_name_only():
    name = scaling.OPEN[0]
    assert [stage.name for stage in stages.find(name)] == [name]
    assert not {stage.name for stage in stages.find("scaling/fan-in")} & set(scaling.OPEN)


def test_the_study_has_several_seeds_up_to_width_128():
    study = [*scaling.study()]
    for width in scaling.WIDTHS:
        seeds = {run.seed for run in study if run.width == width}
        assert seeds == ({0, 1, 2} if width <= 128 else {0})


def test_a_variant_changes_what_it_names():
    base = Run(8)
    for name, changed in scaling.VARIANTS.items():
        run = Run(8, variant=name, sweep=True)
        assert len(run.problem.inputs) == changed.get("points", 400)
        assert run.problem.noise == changed.get("noise", base.problem.noise)
        assert run.architecture.activation == changed.get("activation", "tanh")
    with pytest.raises(ValueError, match="variant: 'points'"):
        Run(8, variant="points")
    with pytest.raises(ValueError, match="prior_name"):
        Run(8, "unit")


def test_the_sector_is_empty():
    inputs = make_problem("rings-4-gap", points=100).inputs
    assert len(inputs) == 100
    assert (torch.atan2(inputs[:, 1], inputs[:, 0]).abs() >= SECTOR).all()


SMALL = make_problem("rings-4", points=60)


@pytest.fixture(scope="module")
def small() -> nn.Sequential:
    return training.early_stopped(Activated(2, (6, 6), 4), SMALL, epochs=40)


def test_early_stopping_is_seeded_and_learns(small):
    again = training.early_stopped(Activated(2, (6, 6), 4), SMALL, epochs=40)
    for a, b in zip(small.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    untrained = Activated(2, (6, 6), 4).build()
    everyone = torch.arange(60)
    assert training._loss(small, SMALL, everyone) < training._loss(untrained, SMALL, everyone)


def test_a_mode_has_no_gradient_and_lies_lower(small):
    fit = training.mode_near(small, SMALL, Prior(1.0))
    assert fit.gradient_norm <= training.TOLERANCE
    assert not training.is_flat(fit.network, SMALL)
    moved = training.mode_near(fit.network, SMALL, Prior(1.0))
    assert moved.negative_log_posterior == pytest.approx(fit.negative_log_posterior, abs=1e-3)


def test_where_the_mode_is_the_zero_network_the_trained_one_stands_in():
    network, kind = training.point_estimate(Activated(2, (6, 6), 4), SMALL, Prior(50.0))
    assert kind == "early"
    assert not training.is_flat(network, SMALL)


def test_partial_correlation_is_that_of_residuals():
    rng = np.random.default_rng(0)
    x, z = rng.normal(size=(2, 400))
    y = x + 2 * z + rng.normal(size=400)
    residuals = [v - np.polyval(np.polyfit(z, v, 1), z) for v in (x, y)]
    r, rho = results.partial_correlations(x, y, z)
    assert r == pytest.approx(np.corrcoef(residuals)[0, 1])
    assert 0.4 < rho < 0.9
    assert np.isnan(results.partial_correlations(x, np.ones(400), z)[0])


def test_the_proxy_and_laplace_forms_are_those_of_matrices(small):
    run = Run(8)
    prior = Prior(1.0)
    rows = laplace._scaled_outputs(small, SMALL).jacobian()
    covariance = torch.linalg.inv(rows.mT @ rows + torch.eye(rows.shape[1], dtype=rows.dtype))
    fit = results._fit(small)
    curved = laplace.full_laplace(fit, SMALL, prior)
    solved = torch.linalg.solve_triangular(curved.cholesky, curved.training.jacobian(), upper=False)
    torch.testing.assert_close(1 - solved.square().sum(0), covariance.diagonal())
    upper = run.problem.inputs[:, 1] > 0
    network = run.architecture.build().requires_grad_(False)
    scores = gradient_factors(
        network,
        run.problem.inputs[upper],
        lambda f: f.log_softmax(1).gather(1, run.problem.targets[upper, None])[:, 0],
    ).jacobian()
    expected = 1 / (1 + scores.square().sum(0))
    torch.testing.assert_close(scaling_terms.proxy_diagonal(run, network), expected)


def test_terms_add_up_and_name_the_loser():
    """Σ is diagonal and the proxy exact: [i] and [ii] vanish, the identity errs everywhere."""
    rng = np.random.default_rng(0)
    squares, d = rng.random((50, 6)), np.arange(1.0, 7.0)
    exact, norm = squares @ d, squares.sum(1)
    forms = scaling_terms.Forms(exact, exact, norm, norm, exact)
    found = scaling_terms.compared(forms, "identity")
    assert found["off_diagonal"] == 0
    assert found["proxy_worse"] == found["proxy_term_larger"] == 0
    assert found["spearman_diagonal"] == pytest.approx(1)
    swapped = scaling_terms.Forms(3 * norm, 3 * norm, norm, norm, exact)
    assert scaling_terms.compared(swapped, "both")["proxy_worse"] == 1


def finished() -> list[Run]:
    return [run for run in scaling_tables.finished() if not run.sweep and run.width <= 16]


@pytest.mark.parametrize("run", finished(), ids=lambda run: run.name)
def test_the_record_is_what_the_reference_says(run):
    frame, record = results.reference(run), artefacts.load("records", run.name).frame
    chains = range(run.sampler.chains)
    mean = np.stack([record[f"mean_{c}"] for c in chains]).mean(0, dtype=float)
    np.testing.assert_allclose(frame["hmc_mean"], mean, atol=1e-6)
    parts = frame["hmc_epistemic"] + frame["hmc_aleatoric"]
    np.testing.assert_allclose(parts, frame["hmc_total"], atol=1e-12)
    classes = frame["hmc_mean"].to_numpy().reshape(4, -1)
    np.testing.assert_allclose(classes.sum(0), 1, atol=2e-4)


def saved() -> pd.DataFrame:
    return scaling_tables.saved(scaling_tables.STUDY)


def test_softmax_regression_is_where_the_norm_does_best():
    table = scaling_tables.table_10(saved())
    first = table[table["problem"] == "12"].set_index("comparison")
    assert first.loc["epistemic", "rho"] > 0.95
    assert set(table["comparison"]) == {
        "epistemic", "aleatoric", "epistemic, fan-in prior", "aleatoric, fan-in prior"
    }  # fmt: skip


def test_a_curve_that_falls_and_rises_turns_at_its_lowest():
    table = saved()
    turns = scaling_tables.turn(table)
    assert (turns["recovery"] >= 0).all()
    assert (turns["lowest"] <= turns["last"]).all()


def test_figures_show_every_curve():
    table = saved()
    curves, labels = (
        scaling_tables.curves(table),
        {"gradient_norm": "‖g‖²", "bernoulli": "p(1 − p)"},
    )
    printed = pd.DataFrame({"parameters": SIZES, "r": 0.5, "rho": 0.5})
    titles = {"unit-1": "unit", "fan-in": "fan-in"}
    figure = figures.scaling_curves(curves, labels, titles, printed)
    assert len(figure.data) == 2 * (len(labels) + 1)
    for button in figure.layout.updatemenus[0].buttons:
        assert len(button.args[0]["y"]) == len(figure.data)
    swept = scaling_tables.swept(table)
    settings = [s for s in swept["setting"].unique() if s != "as in the study"]
    drawn = figures.sweep_curves(swept[swept["region"] == "wide"], settings, titles)
    assert isinstance(drawn, go.Figure)
    assert {len(b.args[0]["y"]) for b in drawn.layout.updatemenus[0].buttons} == {6}


def test_term_curves_offer_both_covariances():
    terms = scaling_tables.by_size(scaling_tables.saved(scaling_tables.TERMS))
    figure = figures.term_curves(
        terms[terms["scaling"] == "both"], {"unit-1": "unit", "fan-in": "fan-in"}
    )
    assert len(figure.layout.updatemenus[0].buttons) == 2
    assert len(figure.data) == 6
