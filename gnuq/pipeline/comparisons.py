"""Every estimate against every record: minutes on two cores, one resumable part an experiment."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from gnuq import artefacts, protocol, results
from gnuq.protocol import Experiment

Work = Callable[[Experiment], tuple[pd.DataFrame, ...]]


@dataclass(frozen=True)
class Comparison:
    """A computation that falls into one part per experiment.

    Attributes:
        results: names of the results, one per table that `work` returns.
        work: the computation.
        experiments: over which it runs.
    """

    results: tuple[str, ...]
    work: Work
    experiments: Callable[[], list[Experiment]]


def validate(experiment: Experiment) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Correlations for every start of the training, and the calibration for the first."""
    frames = {start: results.maps(experiment, map_seed=start) for start in protocol.MAP_SEEDS}
    found = [results.validate(experiment, start, frame) for start, frame in frames.items()]
    return pd.concat(found), results.calibration(experiment, frames[protocol.MAP_SEEDS[0]])


def compare(experiment: Experiment) -> tuple[pd.DataFrame]:
    """Every way to get a variance."""
    return (results.compare(experiment),)


COMPARISONS = {
    protocol.VALIDATION: Comparison(
        (protocol.VALIDATION, protocol.CALIBRATION), validate, protocol.experiments
    ),
    protocol.METHODS: Comparison((protocol.METHODS,), compare, results.compared_experiments),
}


def significant(frame: pd.DataFrame) -> pd.DataFrame:
    """The table with its floating-point numbers rounded to six significant digits."""
    columns = frame.select_dtypes(np.floating).columns
    return frame.assign(
        **{name: [float(f"{value:.6g}") for value in frame[name]] for name in columns}
    )


def run(
    comparison: Comparison, origin: artefacts.Origin
) -> tuple[dict[str, pd.DataFrame], dict[str, int]]:
    """Compute the parts that are missing, in parallel, and put all of them together.

    Args:
        comparison: what to compute.
        origin: what determines it; parts of another origin are not used.

    Returns:
        The tables by name of their result, and how many parts an earlier run had left.
    """
    experiments = {e.record: e for e in comparison.experiments()}
    keys = list(experiments)
    kept = {name: artefacts.Parts(name, origin) for name in comparison.results}
    missing = [key for key in keys if any(parts.missing([key]) for parts in kept.values())]
    left = len(keys) - len(missing)
    wanted = [experiments[key] for key in missing]
    for done, (experiment, tables) in enumerate(in_parallel(comparison.work, wanted), left + 1):
        for parts, table in zip(kept.values(), tables, strict=True):
            parts.save(experiment.record, table)
        print(f"{done} of {len(keys)}: {experiment.record}", flush=True)
    return {n: significant(parts.load(keys)) for n, parts in kept.items()}, {"resumed": left}


def in_parallel(
    work: Work, experiments: Sequence[Experiment]
) -> Iterator[tuple[Experiment, tuple[pd.DataFrame, ...]]]:
    """One process per core, each with one thread; results as they come.

    Raises:
        RuntimeError: the work on an experiment failed. The others that had begun are handed on
            first, so that nothing finished is lost.
    """
    spawn = multiprocessing.get_context("spawn")  # a fork would inherit torch's threads
    failed: list[tuple[Experiment, BaseException]] = []
    with ProcessPoolExecutor(
        mp_context=spawn, initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        waiting: dict[Future, Experiment] = {pool.submit(work, e): e for e in experiments}
        for future in as_completed(waiting):
            if future.cancelled():
                continue
            if error := future.exception():
                failed.append((waiting[future], error))
                for other in waiting:
                    other.cancel()
            else:
                yield waiting[future], future.result()
    if failed:
        experiment, error = failed[0]
        raise RuntimeError(f"{experiment.record}: {type(error).__name__}: {error}") from error


def discard(comparison: Comparison, origin: artefacts.Origin) -> None:
    """Delete the parts, once the tables are saved."""
    for name in comparison.results:
        artefacts.Parts(name, origin).discard()
