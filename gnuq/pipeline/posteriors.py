"""The record of one posterior: moments of the prediction at every grid point."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from gnuq import protocol
from gnuq.problems import Task
from gnuq.protocol import Experiment

#: Convergence of several classes is judged on every second grid line: a quarter of the points.
CHECKED = {"binary": 1, "multiclass": 2, "regression": 1}


def posterior_record(experiment: Experiment) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Sample one posterior and reduce it to moments of the prediction at every grid point.

    Returns:
        The table (one row per class and grid point, class by class; the moments of either half
        of the chains, for the noise ceiling), and the sampler's own report. Binary problems
        keep class 1 only, regression the value.
    """
    from gnuq.posteriors import diagnostics, hmc  # PyMC and JAX: seconds to import

    architecture, problem, grid = experiment.architecture, experiment.problem, experiment.grid
    draws = hmc.sample_posterior(architecture, problem, experiment.prior, protocol.SAMPLER)
    predictions = hmc.posterior_predictions(draws, architecture, problem, grid.points)
    judged = grid.every(CHECKED[problem.task]).numpy()
    found = diagnostics.convergence(predictions[:, :, judged])
    frame = places(experiment).assign(**moments(predictions, problem.task))
    rows = np.tile(judged, problem.outputs)
    frame.loc[rows, "r_hat"] = found.r_hat.T.ravel().round(4).astype(np.float32)
    frame.loc[rows, "effective_samples"] = found.effective_samples.T.ravel().round()
    report = {
        "checked": int(judged.sum()),
        "r_hat_max": float(found.r_hat.max()),
        "effective_samples_min": float(found.effective_samples.min()),
        "divergences": draws.divergences,
        "acceptance": draws.acceptance.round(3).tolist(),
        "step_size": draws.step_size.round(5).tolist(),
        "leapfrog_steps": round(draws.leapfrog_steps, 1),
    }
    return frame, report


def configuration(experiment: Experiment) -> dict[str, Any]:
    """Everything that was decided before the run, as JSON-able values."""
    problem, architecture = experiment.problem, experiment.architecture
    return {
        "problem": problem.name,
        "seed": problem.seed,
        "points": protocol.POINTS,
        "noise": problem.noise,
        "prior": asdict(experiment.prior),
        "hidden": list(architecture.hidden),
        "parameters": architecture.parameters,
        "grid": {"points": len(experiment.grid.points), "margin": protocol.MARGIN},
        "sampler": asdict(protocol.SAMPLER),
    }


def places(experiment: Experiment) -> pd.DataFrame:
    """The rows of a record: coordinates, and with several classes the class."""
    points, outputs = experiment.grid.points.numpy(), experiment.problem.outputs
    columns = {
        name: np.tile(points[:, i], outputs) for i, name in enumerate("xy"[: points.shape[1]])
    }
    if outputs > 1:
        columns["class"] = np.repeat(np.arange(outputs, dtype=np.int8), len(points))
    return pd.DataFrame(columns)


def moments(
    predictions: Float[np.ndarray, "chains draws grid outputs"], task: Task
) -> dict[str, Float[np.ndarray, " rows"]]:
    """Mean and variance over the first and the second half of the chains, and mean entropy.

    Args:
        predictions: the probability of class 1, of every class, or the value.
        task: what they are.

    Returns:
        Columns of length outputs × grid, output by output. The entropy (nats) is that of the
        whole categorical distribution; regression has none.
    """
    columns: dict[str, np.ndarray] = {}
    half = predictions.shape[0] // 2
    for name, part in (("a", predictions[:half]), ("b", predictions[half:])):
        mean, variance = part.mean((0, 1), dtype=np.float64), part.var((0, 1), dtype=np.float64)
        columns[f"mean_{name}"] = mean.T.ravel().astype(np.float32)
        columns[f"variance_{name}"] = rounded(variance.T.ravel())
    if task != "regression":
        p = np.clip(predictions, 1e-30, 1 - 1e-7)
        entropy = -(p * np.log(p)).sum(-1)
        if task == "binary":
            entropy -= ((1 - p) * np.log1p(-p))[..., 0]
        repeated = np.tile(entropy.mean((0, 1), dtype=np.float64), predictions.shape[-1])
        columns["entropy"] = rounded(repeated)
    return columns


def rounded(values: np.ndarray) -> np.ndarray:
    """float32 with 13 of 23 bits after the point: far finer than Monte Carlo, half the size."""
    bits = np.asarray(values, np.float32).view(np.uint32)
    return ((bits + np.uint32(0x200)) & np.uint32(0xFFFFFC00)).view(np.float32)
