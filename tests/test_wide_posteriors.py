"""The script for a machine with a GPU, on something small: in parts, with JAX and NumPy alone."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gnuq.artefacts import ROOT
from gnuq.curve import Run
from gnuq.posteriors import streamed
from gnuq.posteriors.settings import StreamedHMC
from gnuq.posteriors.summary import summarised

SCRIPT = ROOT / "remote" / "wide_posteriors.py"
NAME, SMALL = "curve/base/fan-in/width-8/seed-0", (8, "fan-in", 0)
SETTINGS = StreamedHMC(chains=8, together=8, tune=5, burn_in=5, draws=10)
#: Runs the script where only what it names can be imported.
ALONE = """
import sys
class Absent:
    def find_spec(self, name, *_):
        if name.split(".")[0] in ("torch", "pymc", "blackjax", "arviz", "pandas", "jaxtyping"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
sys.path.insert(0, sys.argv[1])
import pathlib, wide_posteriors as script
settings = script.StreamedHMC(chains=8, together=8, tune=5, burn_in=5, draws=10)
sys.exit(script.run(pathlib.Path(sys.argv[2]), {sys.argv[3]: None}, settings, float(sys.argv[4])))
"""


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("wide_posteriors", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def prepared(script, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("remote")
    script.prepare(folder, {NAME: SMALL})
    return folder


def alone(folder: Path, minutes: float) -> int:
    command = [sys.executable, "-c", ALONE, str(SCRIPT.parent), str(folder), NAME, str(minutes)]
    return subprocess.run(command, check=False).returncode


def test_its_runs_are_runs_of_the_study(script):
    assert all(Run(*key).name == name for name, key in script.OPEN.items())


def test_parts_end_in_the_summary_of_one_run(prepared):
    """A part without time finds the step size and stops; the next one ends the run."""
    assert alone(prepared, 0.0) == 1
    place = prepared / NAME
    assert (place / "step-size.npz").exists()
    assert not (place / "summary.npz").exists()
    assert alone(prepared, 5.0) == 0
    with np.load(place / "summary.npz") as kept:
        found = dict(kept)
    report = json.loads((place / "report.json").read_text())
    assert report["nested_r_hat_max"] > 1
    assert not (place / "block-0.npz").exists()
    run = Run(*SMALL)
    with np.load(place / "problem.npz") as kept:
        mode, points = kept["mode"], kept["points"]
    compiled = streamed.of_network(
        run.architecture, run.problem, run.prior, mode, run.grid.points, SETTINGS
    )
    blocks, size = streamed.sample(compiled, batch=10)
    network = streamed.whitened_network(run.architecture, run.prior)
    expected = summarised(blocks, network, mode, points).columns
    assert report["step_size"] == pytest.approx(size, abs=1e-5)
    assert found.keys() == expected.keys()
    for name in ("mean_a", "linear_variance_b", "diagonal", "draw_norm"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-2, atol=1e-3)
