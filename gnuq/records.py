"""Computes the expensive records, one file each; a run that was cut off resumes where it was.

python -m gnuq.records              # whatever posteriors are missing
python -m gnuq.records --prior unit-1 --problem xor --seed 0 --again
python -m gnuq.records --validation # all correlations, from the records
python -m gnuq.records --methods    # every method compared; K-FAC needs gnuq[oracle]
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from typing import TypeVar

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float

from gnuq import artefacts, protocol, results
from gnuq.problems import Task
from gnuq.protocol import Experiment

T = TypeVar("T")
#: Convergence of several classes is judged on every second grid line: a quarter of the points.
CHECKED = {"binary": 1, "multiclass": 2, "regression": 1}


def posterior_record(experiment: Experiment) -> tuple[pd.DataFrame, dict]:
    """Sample one posterior and reduce it to moments of the prediction at every grid point.

    Returns:
        The table (one row per class and grid point, class by class; the moments of either half
        of the chains, for the noise ceiling), and the configuration with the sampler's own
        report. Binary problems keep class 1 only, regression the value.
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
    configuration = {
        "experiment": asdict(experiment),
        "points": protocol.POINTS,
        "noise": problem.noise,
        "prior": asdict(experiment.prior),
        "hidden": list(architecture.hidden),
        "parameters": architecture.parameters,
        "sampler": asdict(protocol.SAMPLER),
        "dtype": "float32",
        "checked": int(judged.sum()),
        "r_hat_max": float(found.r_hat.max()),
        "effective_samples_min": float(found.effective_samples.min()),
        "divergences": draws.divergences,
        "acceptance": draws.acceptance.round(3).tolist(),
        "step_size": draws.step_size.round(5).tolist(),
        "leapfrog_steps": round(draws.leapfrog_steps, 1),
    }
    return frame, configuration


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


def save_posterior(experiment: Experiment) -> None:
    """Compute and save the record of one posterior, and say how it went."""
    began = time.perf_counter()
    frame, configuration = posterior_record(experiment)
    seconds = time.perf_counter() - began
    artefacts.save(
        "records", experiment.record, frame, configuration=configuration, seconds=seconds
    )
    print(
        f"{experiment.record}: {seconds:.0f} s, r̂ ≤ {configuration['r_hat_max']:.4f}, "
        f"ESS ≥ {configuration['effective_samples_min']:.0f}, "
        f"{configuration['divergences']} divergences",
        flush=True,
    )


def _validate(experiment: Experiment) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Correlations for every start of the training, and the calibration for the first."""
    frames = {start: results.maps(experiment, map_seed=start) for start in protocol.MAP_SEEDS}
    found = [results.validate(experiment, start, frame) for start, frame in frames.items()]
    return pd.concat(found), results.calibration(experiment, frames[protocol.MAP_SEEDS[0]])


def _in_parallel(work: Callable[[Experiment], T], experiments: list[Experiment]) -> list[T]:
    """One process per core, each with one thread."""
    spawn = multiprocessing.get_context("spawn")  # a fork would inherit torch's threads
    with ProcessPoolExecutor(
        mp_context=spawn, initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        return list(pool.map(work, experiments))


def _configuration(experiments: list[Experiment]) -> dict:
    """What determines a result: the records, by their contents, and the settings."""
    names = [experiment.record for experiment in experiments]
    return {
        "records": {name: artefacts.load("records", name).provenance["sha256"] for name in names},
        "map_seeds": list(protocol.MAP_SEEDS),
        "inside": protocol.INSIDE,
        "dtype": "float64",
    }


def save_methods() -> None:
    """Compare every way to get a variance, under the primary prior."""
    began = time.perf_counter()
    experiments = results.compared_experiments()
    frame = significant(pd.concat(_in_parallel(results.compare, experiments), ignore_index=True))
    configuration = _configuration(experiments) | {"map_seeds": [0]}
    seconds = time.perf_counter() - began
    artefacts.save("results", protocol.METHODS, frame, configuration=configuration, seconds=seconds)


def save_validation() -> None:
    """Correlate and calibrate every estimate with every record."""
    began = time.perf_counter()
    experiments = protocol.experiments()
    found = _in_parallel(_validate, experiments)
    configuration = _configuration(experiments)
    seconds = time.perf_counter() - began
    for name, parts in zip(
        (protocol.VALIDATION, protocol.CALIBRATION), zip(*found, strict=True), strict=True
    ):
        frame = significant(pd.concat(parts, ignore_index=True))
        artefacts.save("results", name, frame, configuration=configuration, seconds=seconds)


def significant(frame: pd.DataFrame, digits: int = 6) -> pd.DataFrame:
    """The table with its floating-point numbers rounded to that many significant digits."""
    columns = frame.select_dtypes(np.floating).columns
    return frame.assign(
        **{name: [float(f"{value:.{digits}g}") for value in frame[name]] for name in columns}
    )


def main(arguments: list[str] | None = None) -> None:
    """Compute the records that the options select and that are not there yet."""
    parser = argparse.ArgumentParser(prog="python -m gnuq.records", description=__doc__)
    parser.add_argument("--problem", choices=protocol.HIDDEN)
    parser.add_argument("--prior", choices=protocol.PRIORS)
    parser.add_argument("--seed", type=int, choices=protocol.DATA_SEEDS)
    parser.add_argument("--again", action="store_true", help="recompute what is there")
    parser.add_argument("--validation", action="store_true", help="the correlations instead")
    parser.add_argument("--methods", action="store_true", help="the comparison of methods instead")
    options = parser.parse_args(arguments)
    if options.validation or options.methods:
        (save_validation if options.validation else save_methods)()
        return
    for experiment in protocol.experiments():
        wanted = (
            options.problem in (None, experiment.problem_name)
            and options.prior in (None, experiment.prior_name)
            and options.seed in (None, experiment.seed)
        )
        if wanted and (options.again or not artefacts.exists("records", experiment.record)):
            save_posterior(experiment)


if __name__ == "__main__":
    main()
