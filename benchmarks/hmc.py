"""Effective samples of the predictions per second: ours against plain `pm.sample()`.

    python benchmarks/hmc.py

Same model (XOR, 2–16–16–1, 400 points, unit prior), same number of chains and draws, one run;
compilation and tuning count. The number that is compared is the median over a 20 × 20 grid of the
bulk effective sample size of the predicted probability, divided by wall time.
"""

from __future__ import annotations

import importlib.util
import time
import warnings

import numpy as np
import pandas as pd
import pymc as pm

from gnuq.networks import Architecture, Prior
from gnuq.posteriors import hmc
from gnuq.posteriors.diagnostics import convergence
from gnuq.posteriors.settings import HMC
from gnuq.problems import make_grid, make_problem

CHAINS, TUNE, DRAWS = 4, 500, 1000


def main() -> None:
    """Sample three ways and print one row each."""
    warnings.simplefilter("ignore")
    problem, architecture = make_problem("xor"), Architecture(2, (16, 16), 1)
    points = make_grid(problem, resolution=20).points

    def row(name: str, draws: hmc.Draws) -> dict:
        predictions = hmc.posterior_predictions(draws, architecture, problem, points)
        found = convergence(predictions)
        effective = found.effective_samples
        return {
            "sampler": name,
            "seconds": draws.seconds,
            "median ESS": float(np.median(effective)),
            "smallest ESS": float(effective.min()),
            "largest r-hat": float(found.r_hat.max()),
            "divergences": draws.divergences,
            "median ESS per second": float(np.median(effective)) / draws.seconds,
        }

    settings = HMC(chains=CHAINS, tune=TUNE, draws=DRAWS)
    rows = [row("gnuq, HMC", hmc.sample_posterior(architecture, problem, Prior(), settings))]
    settings = HMC(sampler="nuts", chains=CHAINS, tune=TUNE, draws=DRAWS)
    rows.append(row("gnuq, NUTS", hmc.sample_posterior(architecture, problem, Prior(), settings)))
    rows.append(row("pm.sample()", plain(architecture, problem)))
    table = pd.DataFrame(rows)
    table["per second / pm.sample()"] = (
        table["median ESS per second"] / table["median ESS per second"].iloc[-1]
    )
    nutpie = "installed" if importlib.util.find_spec("nutpie") else "not installed"
    print(f"PyMC {pm.__version__}, nutpie {nutpie}")
    print(table.to_string(index=False, float_format=lambda v: f"{v:.4g}"))


def plain(architecture: Architecture, problem) -> hmc.Draws:  # type: ignore[no-untyped-def]
    """PyMC's own sampler with its defaults."""
    began = time.perf_counter()
    with hmc.bayesian_network(architecture, problem, Prior()):
        trace = pm.sample(
            draws=DRAWS, tune=TUNE, chains=CHAINS, random_seed=0, progressbar=False,
            compute_convergence_checks=False,
        )  # fmt: skip
    seconds = time.perf_counter() - began
    weights = trace.posterior["w"].values.astype(np.float32)
    divergences = int(np.asarray(trace.sample_stats["diverging"]).sum())
    return hmc.Draws(weights, np.ones(CHAINS), np.ones(CHAINS), divergences, 0.0, seconds)


if __name__ == "__main__":
    main()
