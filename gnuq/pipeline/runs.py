"""Run a stage: compute its artefacts, unless those that are there are what it would write."""

from __future__ import annotations

import inspect
import runpy
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pandas as pd

from gnuq import artefacts, curve, protocol, scaling
from gnuq.artefacts import ArtefactError, Origin
from gnuq.language_models import device_name
from gnuq.pipeline import (
    comparisons,
    derived,
    examples,
    language,
    posteriors,
    question_answering,
    stages,
    studies,
    text_proxies,
)
from gnuq.pipeline import curve as curved
from gnuq.pipeline import scaling as scaled
from gnuq.pipeline.stages import Stage, split
from gnuq.protocol import Experiment
from gnuq.qa import newsgroups

#: What a run returns: the tables by artefact name, and what the computation says about itself.
Made = tuple[dict[str, pd.DataFrame], dict[str, Any]]


def record(stage: Stage, *, again: bool = False) -> bool:
    """Compute and save a stage's artefacts.

    Args:
        stage: which.
        again: compute even what is there and up to date.

    Returns:
        Whether anything was computed.

    Raises:
        ArtefactError: an input is missing or torn.
    """
    origin = stage.origin()
    if not again and up_to_date(stage, origin):
        print(f"{stage.name}: up to date", flush=True)
        return False
    made, began = artefacts.machine(artefacts.ROOT), time.perf_counter()
    tables, report = compute(stage, origin)
    seconds = time.perf_counter() - began
    if stage.code(fresh=True) != origin.code:  # workers may have imported either version
        made["dirty"] = True
        print(f"{stage.name}: its code changed during the run; this is a draft.", flush=True)
    # parts go by the origin without it: they are the same wherever they were begun
    told = replace(origin, device=_device(stage))
    for artefact, table in tables.items():
        kind, name = split(artefact)
        artefacts.save(kind, name, table, origin=told, seconds=seconds, report=report, made=made)
    if stage.group == "language":
        language.discard(stage.name, origin)
    if stage.group == "texts":
        text_proxies.discard(origin)
    if stage.group == "qa":
        question_answering.discard(stage.name, origin)
    if stage.group in ("chains", "curve"):
        artefacts.Checkpoints(stage.name, origin).discard()
    if stage.group == "comparisons":
        comparisons.discard(comparisons.COMPARISONS[stage.name], origin)
    summary = "".join(f", {key} {report[key]}" for key in _TOLD if key in report)
    print(f"{stage.name}: {seconds:.0f} s{summary}", flush=True)
    return True


def compute(stage: Stage, origin: Origin | None = None) -> Made:
    """Compute a stage's artefacts without saving them."""
    return _RUNS[stage.group](stage, origin or stage.origin())


#: Groups whose models run on a GPU where there is one.
_WITH_MODELS = ("language", "texts", "qa", "quoted")


def _device(stage: Stage) -> str:
    """Where a stage computes: the CPU, a GPU if it loads models, or what its settings say."""
    if stage.group in _WITH_MODELS:
        return device_name()
    return device_name(stage.configuration.get("device", "cpu"))


_TOLD = ("r_hat_max", "effective_samples_min", "divergences", "resumed")


def up_to_date(stage: Stage, origin: Origin | None = None) -> bool:
    """Whether all outputs are whole and their provenance says what a run would write now."""
    try:
        wanted = (origin or stage.origin()).as_json()
        told = [artefacts.load(*split(name)).provenance for name in stage.outputs]
    except ArtefactError:
        return False
    return not any(differences(found, wanted) for found in told)


def differences(told: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """In which respects a provenance differs from what a run would write now.

    Args:
        told: what the provenance file says.
        wanted: `Origin.as_json` of the stage as it stands.

    Returns:
        Sentences, most telling first; empty if nothing differs.
    """
    found = []
    if told.get("code") != wanted["code"]:
        found.append("its code has changed since")
    before, after = told.get("configuration", {}), wanted["configuration"]
    for key in sorted(before.keys() | after.keys()):
        if before.get(key) != after.get(key):
            found.append(f"its setting {key} was {before.get(key)!r}, now {after.get(key)!r}")
    read, there = told.get("inputs", {}), wanted["inputs"]
    changed = [name for name in there if read.get(name) != there[name]]
    changed += [name for name in read if name not in there]
    if changed:
        others = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        found.append(f"its input {changed[0]}{others} has changed since")
    for key in ("seed", "dtype", "model", "dataset"):
        if told.get(key) != wanted[key]:
            found.append(f"its {key} was {told.get(key)!r}, now {wanted[key]!r}")
    return found


def experiment_of(stage: Stage) -> Experiment:
    """The experiment whose posterior a stage records."""
    _, problem, prior, seed = stage.name.split("/")
    return Experiment(problem, prior, int(seed.removeprefix("seed-")))


def _posterior(stage: Stage, _: Origin) -> Made:
    frame, report = posteriors.posterior_record(experiment_of(stage))
    return {stage.outputs[0]: frame}, report


def _comparison(stage: Stage, origin: Origin) -> Made:
    tables, report = comparisons.run(comparisons.COMPARISONS[stage.name], origin)
    return {f"results/{name}": table for name, table in tables.items()}, report


def _table(stage: Stage, _: Origin) -> Made:
    correlations = artefacts.load("results", protocol.VALIDATION).frame
    return {stage.outputs[0]: stages.TABLES[stage.name](correlations)}, {}


def _study(stage: Stage, _: Origin) -> Made:
    return {stage.outputs[0]: studies.STUDIES[stage.name]()}, {}


def _timing(stage: Stage, _: Origin) -> Made:
    script_name, _entries, settings = stages.TIMINGS[stage.name]
    script = runpy.run_path(str(artefacts.ROOT / "benchmarks" / f"{script_name}.py"))
    measure = script["measure"]
    taken = inspect.signature(measure).parameters.keys() & settings.keys()
    return {stage.outputs[0]: measure(**{name: settings[name] for name in taken})}, {}


def _language(stage: Stage, origin: Origin) -> Made:
    return {stage.outputs[0]: language.run(stage.name, origin)}, {}


def _scaling(stage: Stage, origin: Origin) -> Made:
    frame, report = scaled.scaling_record(scaling.runs()[stage.name], origin)
    return {stage.outputs[0]: frame}, report


def _curve(stage: Stage, origin: Origin) -> Made:
    frame, report = curved.curve_record(curve.runs()[stage.name], origin)
    return {stage.outputs[0]: frame}, report


def _texts(_: Stage, origin: Origin) -> Made:
    tables = text_proxies.text_proxy_rows(origin)
    report = {"texts": newsgroups.revision()}
    return {f"records/{name}": table for name, table in tables.items()}, report


def _answers(stage: Stage, origin: Origin) -> Made:
    return {stage.outputs[0]: question_answering.rows(stage.name, origin)}, {}


def _quoted(stage: Stage, _: Origin) -> Made:
    return {stage.outputs[0]: examples.example_tokens()}, {}


def _derived(stage: Stage, origin: Origin) -> Made:
    return derived.DERIVED[stage.name].make(origin), {}


_RUNS: dict[str, Callable[[Stage, Origin], Made]] = {
    "posteriors": _posterior,
    "comparisons": _comparison,
    "tables": _table,
    "studies": _study,
    "timings": _timing,
    "language": _language,
    "chains": _scaling,
    "curve": _curve,
    "texts": _texts,
    "qa": _answers,
    "quoted": _quoted,
    "derived": _derived,
}
