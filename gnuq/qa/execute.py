"""From a run to its tables: every step, shard by shard, from where it was cut off."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import pandas as pd

from gnuq.artefacts import ROOT, Origin, Parts
from gnuq.fingerprint import Code
from gnuq.language_models import device_name
from gnuq.language_models.sources import state
from gnuq.qa.settings import Run
from gnuq.qa.steps import STEPS, Step, Tables
from gnuq.qa.store import Folder, FolderParts
from gnuq.qa.workers import Workers, here

#: Told what is done: (step, questions finished, questions in all).
Progress = Callable[[str, int, int], None]


def entry(step: str) -> str:
    """The dotted name of the function that computes a step's rows."""
    return f"gnuq.qa.steps.{step}"


def configuration(run: Run, step: Step) -> dict[str, Any]:
    """What was decided of one step; a shard shares its random numbers, so its size counts."""
    return {**run.configuration, "shard": step.shard}


def finish(
    run: Run,
    step: Step,
    ids: Sequence[str],
    tables: Tables,
    parts: Parts,
    *,
    workers: Workers = here,
    progress: Progress = lambda *_: None,
) -> pd.DataFrame:
    """All rows of a step; shards whose parts are there are not computed again.

    Args:
        run: which.
        step: which.
        ids: the questions.
        tables: those of earlier steps.
        parts: where finished shards are kept.
        workers: what computes them.
        progress: told after each shard.

    Returns:
        One row a question, in the order of `ids`.
    """
    shards = {
        f"{start:05d}": ids[start : start + step.shard] for start in range(0, len(ids), step.shard)
    }
    missing = parts.missing(list(shards))
    done = sum(len(part) for key, part in shards.items() if key not in missing)
    progress(step.name, done, len(ids))
    needed = {name: tables[name] for name in step.needs}
    for key, rows in workers(run, step.name, {key: shards[key] for key in missing}, needed):
        parts.save(key, rows)
        done += len(rows)
        progress(step.name, done, len(ids))
    return parts.load(list(shards))


def run_all(
    run: Run,
    ids: Sequence[str],
    folder: Folder,
    *,
    revision: str,
    workers: Workers = here,
    progress: Progress = lambda *_: None,
) -> dict[str, pd.DataFrame]:
    """Every step of a run, kept in its folder; a step that is there already is only read.

    Args:
        run: which.
        ids: the questions.
        folder: where tables and parts are kept.
        revision: the benchmark's.
        workers: what computes shards.
        progress: told after each shard.

    Returns:
        The tables by step.
    """
    tables: dict[str, pd.DataFrame] = {}
    checksums: dict[str, str] = {}
    model = _model(run)
    for step in STEPS.values():
        origin = _origin(run, step, checksums, revision, model)
        if (saved := folder.load(step.name, origin)) is not None:
            tables[step.name], checksums[step.name] = saved
            progress(step.name, len(ids), len(ids))
            continue
        began, parts = time.perf_counter(), FolderParts(folder.path, step.name, origin)
        table = finish(run, step, ids, tables, parts, workers=workers, progress=progress)
        seconds = time.perf_counter() - began
        made = replace(origin, device=device_name(run.device))
        checksums[step.name] = folder.save(step.name, table, made, seconds)
        tables[step.name] = table
        parts.discard()
    return tables


def _model(run: Run) -> str:
    """The models by name and state: a checkpoint may be overwritten under its name."""
    named = {run.model: run.revision}
    if run.settings.judge is not None:
        named.setdefault(run.settings.judge, None)
    return ", ".join(f"{name} ({state(name, revision)})" for name, revision in named.items())


def _origin(
    run: Run, step: Step, checksums: Mapping[str, str], revision: str, model: str
) -> Origin:
    return Origin(
        code=_code().fingerprint(entry(step.name)),
        configuration=configuration(run, step),
        inputs={name: checksums[name] for name in step.needs},
        seed=run.settings.seed,
        dtype=run.dtype or "the model's own",
        model=model,
        dataset=revision,
    )


@cache
def _code() -> Code:
    return Code(ROOT)
