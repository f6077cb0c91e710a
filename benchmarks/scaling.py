"""What a leapfrog step costs at every width of the scaling study: one gradient of the log-density.

    python benchmarks/scaling.py

Times depend on the machine; the ratio to the narrowest network is what to look at.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from gnuq.posteriors.hmc import _log_density, _single_precision
from gnuq.posteriors.transitions import bayesian_network, predictor
from gnuq.scaling import WIDTHS, Run

SECONDS, LEAST = 2.0, 5


def seconds_per_call(call: Callable[[], jax.Array]) -> float:
    """The median of repeated calls, compilation left out."""
    call().block_until_ready()
    spent: list[float] = []
    while len(spent) < LEAST or sum(spent) < SECONDS:
        began = time.perf_counter()
        call().block_until_ready()
        spent.append(time.perf_counter() - began)
    return float(np.median(spent))


def of_width(width: int) -> dict[str, float]:
    """Milliseconds of one gradient, and of one draw's predictions on the grid."""
    run = Run(width)
    with _single_precision():
        network = bayesian_network(run.architecture, run.problem, run.prior)
        gradient = jax.jit(jax.grad(_log_density(network)))
        weights = jnp.asarray(
            np.random.default_rng(0).normal(size=run.architecture.parameters) / 10
        )
        predict = jax.jit(predictor(run.architecture, weights, run.grid.points))
        step = seconds_per_call(lambda: gradient(weights))
        prediction = seconds_per_call(lambda: predict(weights)[1])
    matrices = sum(fan_in * fan_out for fan_in, fan_out in run.architecture.layers)
    return {
        "width": width,
        "parameters": run.architecture.parameters,
        "step_ms": 1e3 * step,
        "prediction_ms": 1e3 * prediction,
        "operations": 6.0 * matrices * len(run.problem.inputs),
    }


def measure() -> pd.DataFrame:
    """One row per width: parameters, step_ms, prediction_ms, operations of a step."""
    return pd.DataFrame([of_width(width) for width in WIDTHS])


if __name__ == "__main__":
    print(measure().to_string(index=False))
