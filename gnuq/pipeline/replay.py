"""Compute a fixed sample of an artefact's rows again, and say how far they are off.

A posterior is sampled by chains of its own, shorter and from another seed: agreement is judged in
Monte Carlo standard errors. A comparison is repeated for three experiments, a table as a whole.
What a replay has confirmed may be *accepted*: code that was rewritten without changing a number
need not cost hours. The provenance keeps both fingerprints, the reason, and what the replay found.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
import pandas as pd

from gnuq import artefacts, protocol
from gnuq.artefacts import ArtefactError
from gnuq.pipeline import comparisons, runs
from gnuq.pipeline.stages import Stage, find, split, stages

POINTS, DRAWS, SEED = 50, 250, 1_000
#: Differences below this share of the map's largest variance (or standard deviation, for means)
#: are not held against a replay: where p is nearly 0 or 1, rare draws make all of the variance.
FLOOR = 0.01
LARGEST, SPREAD = "largest standard errors", "root mean square"
DIFFERENCE = "largest difference"
#: The experiments of a comparison that a replay repeats: a second or two each.
SAMPLE = ("hmc/linear/unit-1/seed-0", "hmc/clusters-4/unit-1/seed-0", "hmc/line/unit-1/seed-0")


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
    rows, found = _REPLAYS[stage.group](stage)
    return Replay(stage.name, rows, found, stage.tolerance)


def accept(stage: Stage, found: Replay, because: str) -> None:
    """Write the present code's fingerprint into the provenance of a stage's outputs.

    Args:
        stage: which; nothing but its code may have changed.
        found: a replay of it that passed.
        because: why the change cannot matter, for the reader of the provenance.

    Raises:
        ArtefactError: the replay failed, compared nothing, or more than the code has changed.
        ValueError: no reason.
    """
    if not because.strip():
        raise ValueError("because: give the reason why the change of code cannot matter.")
    if not (found.passed and found.rows):
        raise ArtefactError(f"{stage.name}: the replay does not confirm it; record it again.")
    wanted = stage.origin().as_json()
    for name in stage.outputs:
        told = artefacts.load(*split(name)).provenance
        if told["code"] == wanted["code"]:
            continue
        other = runs.differences(told | {"code": wanted["code"]}, wanted)
        if other:
            raise ArtefactError(f"{name}: more than its code has changed ({other[0]}).")
        entry = {
            "code": told["code"],
            "when": datetime.now(UTC).isoformat(timespec="seconds"),
            "because": because,
            "rows": found.rows,
            "replay": {key: float(f"{value:.3g}") for key, value in found.found.items()},
        }
        history = [*told.get("accepted", []), entry]
        artefacts.restamp(*split(name), told | {"code": wanted["code"], "accepted": history})


def _posterior(stage: Stage) -> tuple[int, dict[str, float]]:
    from gnuq.posteriors import diagnostics, hmc  # PyMC and JAX: seconds to import

    experiment = runs.experiment_of(stage)
    problem, architecture = experiment.problem, experiment.architecture
    record = artefacts.load("records", experiment.record).frame
    outputs = problem.outputs
    samples = record["effective_samples"].to_numpy(float).reshape(outputs, -1).T
    judged = np.flatnonzero(np.isfinite(samples).all(1))
    chosen = np.sort(np.random.default_rng(0).choice(judged, POINTS, replace=False))
    settings = replace(protocol.SAMPLER, draws=DRAWS, seed=SEED + experiment.seed)
    draws = hmc.sample_posterior(architecture, problem, experiment.prior, settings)
    points = experiment.grid.points[chosen]
    new = diagnostics.monte_carlo(hmc.posterior_predictions(draws, architecture, problem, points))
    mean, variance = (m.reshape(outputs, -1).T[chosen] for m in pooled(record))
    longer = np.sqrt(1 + new.effective_samples / samples[chosen])
    floor = FLOOR * variance.max()  # a rare event's own standard error is not to be trusted
    scores = np.stack(
        [
            (new.mean - mean) / np.hypot(new.mean_error * longer, FLOOR * variance.max() ** 0.5),
            (new.variance - variance) / np.hypot(new.variance_error * longer, floor),
        ]
    )
    found = {LARGEST: float(abs(scores).max()), SPREAD: float(np.sqrt((scores**2).mean()))}
    return POINTS * outputs, found


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
    return len(new), {DIFFERENCE: largest_difference(saved, new)}


def largest_difference(saved: pd.DataFrame, new: pd.DataFrame) -> float:
    """The largest difference between two tables, each column in units of its largest value.

    Returns:
        Infinite if the tables differ in shape, in a text, or in what is missing.
    """
    if saved.shape != new.shape or set(saved) != set(new):
        return np.inf
    worst = 0.0
    for name in saved:
        a, b = saved[name].to_numpy(), new[name].to_numpy()
        if not pd.api.types.is_float_dtype(saved[name]):
            if list(map(str, a)) != list(map(str, b)):
                return np.inf
            continue
        if (np.isnan(a) != np.isnan(b)).any():
            return np.inf
        scale = np.nanmax(abs(a), initial=0.0) or 1.0
        worst = max(worst, float(np.nanmax(abs(a - b), initial=0.0) / scale))
    return worst


_REPLAYS: dict[str, Callable[[Stage], tuple[int, dict[str, float]]]] = {
    "posteriors": _posterior,
    "comparisons": _comparison,
    "tables": _table,
    "studies": _table,
}


def main(items: Sequence[str], because: str | None = None) -> int:
    """Replay the stages that the items mean, print what was found; 1 if any is off.

    Args:
        items: as for `stages.find`; every stage if empty.
        because: accept the present code where a replay passes, for this reason.
    """
    chosen = [s for item in items for s in find(item)] if items else list(stages().values())
    results = []
    for stage in chosen:
        began = time.perf_counter()
        results.append(found := replay(stage))
        told = ", ".join(f"{name} {value:.3g}" for name, value in found.found.items())
        verdict = found.note or (told + ("" if found.passed else "  ← too far"))
        spent = time.perf_counter() - began
        print(f"{stage.name}: {found.rows} rows, {verdict} ({spent:.0f} s)", flush=True)
        if because is not None and found.rows and found.passed:
            accept(stage, found, because)
    failed = [found.stage for found in results if not found.passed]
    for quantity in dict.fromkeys(name for found in results for name in found.found):
        worst = max((f for f in results if quantity in f.found), key=lambda f: f.found[quantity])
        print(f"{quantity}: at most {worst.found[quantity]:.3g} ({worst.stage})")
    print(f"{len(results)} replayed, {len(failed)} too far off: {', '.join(failed) or 'none'}")
    return int(bool(failed))
