"""Compute a fixed sample of an artefact's rows again, and say how far they are off.

A posterior is sampled by chains of its own, shorter and from another seed: agreement is judged in
Monte Carlo standard errors. A comparison is repeated for a few experiments, a table as a whole.
What a replay has confirmed may be *accepted*: code that was rewritten without changing a number
need not cost hours. The provenance keeps both fingerprints, the reason, and what the replay found.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from gnuq import artefacts, curve, protocol, scaling
from gnuq.pipeline import (
    comparisons,
    derived,
    examples,
    language,
    posteriors,
    question_answering,
    runs,
    text_proxies,
)
from gnuq.pipeline import curve as curved
from gnuq.pipeline import scaling as scaled
from gnuq.pipeline.differences import largest_difference, wide
from gnuq.pipeline.stages import Stage, split

POINTS, DRAWS, SEED = 50, 250, 1_000
#: The widest networks whose chains a replay draws again: of the scaling study, of the curve.
WIDEST = 16
CURVE_WIDEST = 32
#: Differences below this share of the map's largest variance (or standard deviation, for means)
#: are not held against a replay: where p is nearly 0 or 1, rare draws make all of the variance.
FLOOR = 0.01
LARGEST, SPREAD = "largest standard errors", "root mean square"
DIFFERENCE = "largest difference"
#: The experiments of a comparison that a replay repeats: each task, with and without hidden units.
SAMPLE = tuple(
    f"hmc/{name}/unit-1/seed-0" for name in ("linear", "xor", "clusters-4", "line", "wave")
)


@dataclass(frozen=True)
class Replay:
    """What a replay found.

    Attributes:
        stage: the stage's name.
        rows: rows that were computed again; 0 if the stage cannot be replayed.
        found: deviation by quantity.
        tolerance: what the stage allows, by quantity.
        note: why there is nothing to compare, if so.
    """

    stage: str
    rows: int
    found: Mapping[str, float]
    tolerance: Mapping[str, float]
    note: str = ""

    @property
    def passed(self) -> bool:
        """Whether every deviation is within its tolerance; NaN is not."""
        return all(self.found[name] <= limit for name, limit in self.tolerance.items())


def replay(stage: Stage) -> Replay:
    """Compute a sample of a stage's rows again.

    Raises:
        ArtefactError: an output or input is missing or torn.
    """
    if stage.group == "timings":
        return Replay(stage.name, 0, {}, {}, "timings of another machine do not compare")
    if stage.group == "chains" and scaling.runs()[stage.name].width > WIDEST:
        return Replay(stage.name, 0, {}, {}, f"wider than {WIDEST}: its chains take too long")
    if stage.group == "curve" and curve.runs()[stage.name].width > CURVE_WIDEST:
        return Replay(stage.name, 0, {}, {}, f"wider than {CURVE_WIDEST}: it takes too long")
    try:
        rows, found = _REPLAYS[stage.group](stage)
    except ModuleNotFoundError as error:
        told = f"it needs {error.name}, which is not installed (pip install 'gnuq[oracle]')"
        return Replay(stage.name, 0, {}, {}, told)
    return Replay(stage.name, rows, found, stage.tolerance)


def _posterior(stage: Stage) -> tuple[int, dict[str, float]]:
    from gnuq.posteriors import diagnostics, hmc  # PyMC and JAX: seconds to import

    experiment = runs.experiment_of(stage)
    problem, architecture = experiment.problem, experiment.architecture
    record = artefacts.load("records", experiment.record).frame
    samples = _by_point(record["effective_samples"], problem.outputs)
    judged = np.flatnonzero(np.isfinite(samples).all(1))
    chosen = np.sort(np.random.default_rng(0).choice(judged, POINTS, replace=False))
    settings = replace(protocol.SAMPLER, draws=DRAWS, seed=SEED + experiment.seed)
    draws = hmc.sample_posterior(architecture, problem, experiment.prior, settings)
    points = experiment.grid.points[chosen]
    predictions = hmc.posterior_predictions(draws, architecture, problem, points)
    new = pd.DataFrame(posteriors.moments(predictions, problem.task))
    errors = diagnostics.monte_carlo(predictions)
    scores = _scores(record, new, errors, chosen, samples[chosen])
    found = {LARGEST: float(abs(scores).max()), SPREAD: float(np.sqrt((scores**2).mean()))}
    return POINTS * problem.outputs, found


def _scaling(stage: Stage) -> tuple[int, dict[str, float]]:
    run = scaling.runs()[stage.name]
    record = artefacts.load("records", run.name).frame
    fresh = scaled.replayed(run, draws=DRAWS, seed=SEED + run.seed)
    return _judged(record, scaled.by_half(record, run.sampler.chains), fresh)


def _curve(stage: Stage) -> tuple[int, dict[str, float]]:
    run = curve.runs()[stage.name]
    record = artefacts.load("records", run.name).frame
    fresh = curved.replayed(run, draws=DRAWS, seed=SEED + run.seed)
    return _judged(record, curved.halves(record), fresh)


def _judged(
    record: pd.DataFrame, saved: pd.DataFrame, fresh: np.ndarray
) -> tuple[int, dict[str, float]]:
    """Fresh chains' predictions, shape (chains, draws, grid, classes), against a record."""
    from gnuq.posteriors import diagnostics  # PyMC and JAX: seconds to import

    classes = fresh.shape[-1]
    samples = _by_point(record["effective_samples"], classes)
    chosen = np.sort(np.random.default_rng(0).choice(len(samples), POINTS, replace=False))
    predictions = fresh[:, :, chosen]
    new = pd.DataFrame(posteriors.moments(predictions, "multiclass")).drop(columns="entropy")
    errors = diagnostics.monte_carlo(predictions)
    scores = _scores(saved, new, errors, chosen, samples[chosen])
    found = {LARGEST: float(abs(scores).max()), SPREAD: float(np.sqrt((scores**2).mean()))}
    return POINTS * classes, found


def _texts(_: Stage) -> tuple[int, dict[str, float]]:
    return text_proxies.replayed()


def _answers(stage: Stage) -> tuple[int, dict[str, float]]:
    saved, new = question_answering.replayed(stage.name)
    return len(new), {DIFFERENCE: largest_difference(saved, new)}


def _quoted(_: Stage) -> tuple[int, dict[str, float]]:
    saved, new = examples.replayed()
    return len(new), {DIFFERENCE: largest_difference(saved, new)}


def _derived(stage: Stage) -> tuple[int, dict[str, float]]:
    rows, worst = 0, 0.0
    for saved, new in derived.again(stage.name):
        rows, worst = rows + len(new), max(worst, largest_difference(saved, new))
    return rows, {DIFFERENCE: worst}


def _scores(
    record: pd.DataFrame, new: pd.DataFrame, errors: Any, chosen: np.ndarray, samples: np.ndarray
) -> np.ndarray:
    """Differences of mean, variance, halves and entropy, in standard errors of the difference.

    Args:
        record: the saved moments, all points.
        new: those of the replay, chosen points.
        errors: the replay's `diagnostics.MonteCarlo`.
        chosen: indices of the chosen points.
        samples: the record's effective samples there.
    """
    outputs = samples.shape[1]
    old, ours = ((_by_point(x, outputs) for x in pooled(frame)) for frame in (record, new))
    (mean, variance), (new_mean, new_variance) = old, ours
    variance, mean = variance[chosen], mean[chosen]
    largest = FLOOR * variance.max()  # a rare event's own standard error is not to be trusted
    share = errors.effective_samples / samples  # the replay's draws over the record's
    scores = [
        (new_mean - mean) / np.hypot(errors.mean_error * np.sqrt(1 + share), largest**0.5),
        (new_variance - variance) / np.hypot(errors.variance_error * np.sqrt(1 + share), largest),
    ]
    spread = np.hypot(errors.variance_error * np.sqrt(1 + 2 * share), largest)
    for half in "ab":
        part = _by_point(record[f"variance_{half}"], outputs)[chosen]
        scores.append((new_variance - part) / spread)
    if "entropy" in record:
        before = _by_point(record["entropy"], outputs)[chosen]
        after = _by_point(new["entropy"], outputs)
        # An entropy moves with the mean at most by |log((1 − p) / p)|, of order one nat or two.
        error = 2 * np.hypot(errors.mean_error * np.sqrt(1 + share), largest**0.5).max(1)
        scores.append((after - before) / error[:, None])
    return np.stack(scores)


def _by_point(column: Any, outputs: int) -> np.ndarray:
    """A record's column as one row a grid point, one column a class."""
    return np.asarray(column, float).reshape(outputs, -1).T


def pooled(record: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance over all chains from those of their two halves."""
    a, b = (record[f"mean_{half}"].to_numpy(float) for half in "ab")
    within = (record["variance_a"].to_numpy(float) + record["variance_b"].to_numpy(float)) / 2
    return (a + b) / 2, within + ((a - b) / 2) ** 2


def _comparison(stage: Stage) -> tuple[int, dict[str, float]]:
    comparison = comparisons.COMPARISONS[stage.name]
    chosen = [e for e in comparison.experiments() if e.record in SAMPLE]
    rows, worst = 0, 0.0
    for experiment in chosen:
        for name, new in zip(comparison.results, comparison.work(experiment), strict=True):
            saved = artefacts.load("results", name).frame
            there = (saved["problem"] == experiment.problem_name) & (
                saved["seed"] == experiment.seed
            )
            if "prior" in saved:
                there &= saved["prior"] == experiment.prior_name
            rows += len(new)
            worst = max(worst, largest_difference(saved[there], comparisons.significant(new)))
    return rows, {DIFFERENCE: worst}


def _table(stage: Stage) -> tuple[int, dict[str, float]]:
    made, _ = runs.compute(stage)
    name, new = next(iter(made.items()))
    saved = artefacts.load(*split(name)).frame
    return len(new), {DIFFERENCE: largest_difference(wide(saved), wide(new))}


def _language(stage: Stage) -> tuple[int, dict[str, float]]:
    saved, new = language.replayed(stage.name)
    return len(new), {DIFFERENCE: largest_difference(saved, new)}


_REPLAYS: dict[str, Callable[[Stage], tuple[int, dict[str, float]]]] = {
    "posteriors": _posterior,
    "comparisons": _comparison,
    "tables": _table,
    "studies": _table,
    "language": _language,
    "chains": _scaling,
    "curve": _curve,
    "texts": _texts,
    "qa": _answers,
    "quoted": _quoted,
    "derived": _derived,
}
