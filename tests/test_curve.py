"""The settings of the curve, and its records."""

from dataclasses import replace

import numpy as np
import pytest

from gnuq import artefacts, curve, paper, protocol
from gnuq.curve import Run
from gnuq.pipeline import check, stages
from gnuq.pipeline import curve as records

SIZES = [12, 132, 388, 1284, 4612, 17412, 67588, 266244, 1065012]


def test_the_sizes_are_the_papers():
    found = [Run(width).architecture.parameters for width in curve.WIDTHS]
    assert found == SIZES == [int(key) for key in paper.items()["table-10"].printed]


def test_runs_have_names_and_seeds_of_their_own_and_batches_that_divide():
    runs = curve.runs()
    assert len(runs) == len([*curve.study(), *curve.sweep()])
    assert len({run.sampler.seed for run in runs.values()}) == len(runs)
    for name, run in runs.items():
        assert name == run.name
        assert run.sampler.draws % run.batch == 0
        assert run.sampler.chains * run.sampler.draws >= 4 * 600


def test_priors_are_the_protocols():
    both = curve.PRIORS.keys() & protocol.PRIORS.keys()
    assert both == protocol.PRIORS.keys()
    assert all(curve.PRIORS[name] == protocol.PRIORS[name] for name in both)


def test_the_study_has_all_seeds_but_of_the_widest_under_the_unit_prior():
    study = [*curve.study()]
    assert not any(run.sweep for run in study)
    assert all(run.sweep for run in curve.sweep())
    for prior in curve.STUDIED:
        for width in curve.WIDTHS:
            seeds = {run.seed for run in study if (run.width, run.prior_name) == (width, prior)}
            assert seeds == ({0} if prior == "unit-1" and width > 256 else {0, 1, 2})


def test_a_variant_changes_what_it_names():
    base = Run(8)
    for name, changed in curve.VARIANTS.items():
        run = Run(8, variant=name)
        assert len(run.problem.inputs) == changed.get("points", 400)
        assert run.problem.noise == changed.get("noise", base.problem.noise)
        assert run.architecture.activation == changed.get("activation", "tanh")
    with pytest.raises(ValueError, match="variant: 'points'"):
        Run(8, variant="points")
    with pytest.raises(ValueError, match="prior_name: 'unit-2'"):
        Run(8, "unit-2")


def test_an_open_run_is_meant_by_its_whole_name_only():
    waiting = [name for name in curve.runs() if name not in curve.recorded()]
    for name in waiting[:1]:
        assert [stage.name for stage in stages.find(name)] == [name]
        assert name not in stages.stages()


def test_a_record_that_is_lost_is_missed(monkeypatch):
    """What is there decides which stages there are; the list remembers what there was."""
    assert check.unlisted() == {}
    there = artefacts.names()
    lost = next(name for name in there if name.startswith("records/curve"))
    monkeypatch.setattr(artefacts, "names", lambda: [n for n in there if n != lost])
    assert "it is gone" in check.unlisted()[lost]


def test_a_record_is_what_the_chains_say(monkeypatch, tmp_path):
    """A whole record of the smallest network, against fresh chains through another path."""
    monkeypatch.setattr(artefacts.files, "DATA", tmp_path)
    run = Run(0)
    short = replace(run.sampler, tune=30, burn_in=30, draws=200)
    monkeypatch.setattr(Run, "sampler", property(lambda run: short))
    monkeypatch.setattr(Run, "grid", property(lambda run: _grid(run)))
    origin = stages.find(run.name)[0].origin()
    frame, report = records.curve_record(run, origin)
    assert len(frame) == 16 * 4
    assert report["divergences"] == 0
    fresh = records.replayed(run, draws=200, seed=5)
    assert fresh.shape == (4, 200, 16, 4)
    whole = fresh.mean((0, 1)).T.ravel()
    found = (frame["mean_a"] + frame["mean_b"]) / 2
    np.testing.assert_allclose(found, whole, atol=0.03)
    # Without hidden units gᵀΣg is nearly the variance of p; the diagonal alone is another number.
    linear = (frame["linear_variance_a"] + frame["linear_variance_b"]) / 2
    spread = fresh.var((0, 1)).T.ravel()
    assert np.corrcoef(linear, spread)[0, 1] > 0.9
    assert (frame["draw_norm"] > 0).all()


def _grid(run: Run):
    from gnuq.problems import make_grid

    return make_grid(run.problem, resolution=4, margin=protocol.MARGIN)
