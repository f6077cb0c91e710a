"""What every method of the comparison costs, beside a training run and a forward pass.

    pip install -e '.[oracle]'           # for K-FAC
    python -m gnuq record method-costs   # writes data/results/method-costs.csv
    python benchmarks/methods.py         # the same, printed only

One process, one thread. `setup` is what a method does once after the network is trained, in units
of that training (L-BFGS to the mode); `prediction` is what it does per input, in units of a
forward pass. Medians of repeated runs; read the ratios, which is all that is saved. The number of
draws counts: 200 weight samples, 10 members, 100 dropout masks, 4 000 draws of HMC.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import pandas as pd
import torch

from gnuq import protocol
from gnuq.networks import fit_map
from gnuq.posteriors import hmc
from gnuq.posteriors.methods import METHODS, applicable
from gnuq.protocol import Experiment

POINTS = 2_500


def seconds(work: Callable[[], object], repeats: int) -> float:
    """Median wall time of a call."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def costs(experiment: Experiment) -> pd.DataFrame:
    """One row per method: setup and prediction as ratios."""
    problem, prior, architecture = experiment.problem, experiment.prior, experiment.architecture
    fit = fit_map(architecture, problem, prior)
    training = seconds(lambda: fit_map(architecture, problem, prior), 3)
    stride = max(1, len(experiment.grid.points) // POINTS)
    points = experiment.grid.points[::stride]
    forward = seconds(lambda: fit.network(points), 200)
    rows = []
    for name in applicable(problem, architecture):
        began = time.perf_counter()
        predict = METHODS[name](problem, prior, fit)
        setup = time.perf_counter() - began
        predict(points[:8])  # lazy imports
        rows.append((name, setup / training, seconds(lambda p=predict: p(points), 3) / forward))
    began = time.perf_counter()
    draws = hmc.sample_posterior(architecture, problem, prior, protocol.SAMPLER)
    setup = time.perf_counter() - began
    predicted = seconds(lambda: hmc.posterior_predictions(draws, architecture, problem, points), 1)
    rows.append(("HMC", setup / training, predicted / forward))
    frame = pd.DataFrame(rows, columns=["method", "setup", "prediction"])
    return frame.assign(problem=experiment.problem_name)


def measure() -> pd.DataFrame:
    """All problems, one thread."""
    torch.set_num_threads(1)
    with torch.no_grad():
        parts = [costs(Experiment(name)) for name in protocol.COSTED]
    return pd.concat(parts, ignore_index=True).round(3)


if __name__ == "__main__":
    print(measure().round(2).to_string())
