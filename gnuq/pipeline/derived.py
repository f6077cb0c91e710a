"""Results that follow from records, or from nothing but a seed, one stage each.

What takes minutes falls into parts, kept on this machine by the code and the one record that each
part reads: a study to which runs are added computes only what is new.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from importlib.metadata import version

import pandas as pd

from gnuq import artefacts
from gnuq.architectures.sweep import ORDER, SAMPLE, families, sweep
from gnuq.artefacts import Origin, Parts
from gnuq.pipeline import text_proxies
from gnuq.pipeline.comparisons import significant
from gnuq.protocol import DATA_SEEDS, Experiment
from gnuq.qa import study
from gnuq.qa.steps import STEPS
from gnuq.results import (
    proxy_bias,
    proxy_coverage,
    proxy_tables,
    proxy_terms,
    resampled_tests,
    scaling_tables,
    scaling_terms,
    spectrum,
)
from gnuq.results import question_answering as answering
from gnuq.results.scaling import compare
from gnuq.scaling import Run

#: Output → table.
Tables = dict[str, pd.DataFrame]


@dataclass(frozen=True)
class Derived:
    """A computation with its outputs.

    Attributes:
        outputs: `results/…` or `records/…`.
        entries: dotted names of the functions whose code decides the outputs.
        make: the computation.
        inputs: the artefacts that it reads.
        sample: a part of the outputs' rows, computed again; all of them if None.
        tolerance: how far these may be off.
    """

    outputs: tuple[str, ...]
    entries: tuple[str, ...]
    make: Callable[[Origin], Tables]
    inputs: tuple[str, ...] = ()
    sample: Callable[[], Tables] | None = None
    tolerance: float = 1e-3


def _plain(name: str, function: Callable[[], pd.DataFrame], **kwargs: object) -> Derived:
    """One result, from a function without arguments."""
    entry = f"{function.__module__}.{function.__name__}"
    made: Callable[[Origin], Tables] = lambda _: {name: significant(function())}  # noqa: E731
    return Derived((name,), (entry,), made, **kwargs)  # type: ignore[arg-type]


def _from(name: str, source: str, function: Callable[[pd.DataFrame], pd.DataFrame]) -> Derived:
    """One result, from another artefact's table."""
    entry = f"{function.__module__}.{function.__name__}"

    def make(_: Origin) -> Tables:
        return {name: function(_saved(source))}

    return Derived((name,), (entry,), make, (source,), tolerance=1e-9)


def _over_runs(
    name: str, function: Callable[[Run], pd.DataFrame], runs: Iterable[Run], sample: Iterable[Run]
) -> Derived:
    """One result over runs of the scaling study, one part a run."""
    chosen, entry = list(runs), f"{function.__module__}.{function.__name__}"

    def make(origin: Origin) -> Tables:
        parts = []
        for run in chosen:
            record = f"records/{run.name}"
            alone = replace(origin, inputs={record: origin.inputs[record]})
            store = Parts(f"{name}/{run.name}", alone)
            if store.missing(["rows"]):
                store.save("rows", significant(function(run)))
                print(f"{name}: {run.name}", flush=True)
            parts.append(store.load(["rows"]))
        return {name: pd.concat(parts, ignore_index=True)}

    def again() -> Tables:
        return {name: significant(pd.concat([function(run) for run in sample], ignore_index=True))}

    inputs = tuple(f"records/{run.name}" for run in chosen)
    return Derived((name,), (entry,), make, inputs, again, tolerance=0.02)


def _proxy_sample() -> Tables:
    rows = proxy_bias.bias("xor", 0)
    # Under λ = 0.01 training takes thousands of steps, and rounding leads it elsewhere.
    return {"results/proxy-bias": significant(rows[rows["precision"] >= 1])}


def _spectrum_sample() -> Tables:
    summary, _ = spectrum.spectrum(Run(8, "fan-in"), hessian=False)
    return {"results/spectrum": significant(summary)}


def _answers() -> dict[str, Derived]:
    """The tables of §4.2 and Appendix G: one that joins every run's steps, the others from it."""
    steps = [study.record(*pair, step) for pair in study.FINISHED for step in STEPS]
    joined, dropped = f"records/{answering.JOINED}", f"results/{answering.DROPPED}"

    def make(_: Origin) -> Tables:
        made = answering.collect()
        return {joined: significant(made["joined"]), dropped: made["dropped"]}

    found = {
        "qa-joined": Derived(
            (joined, dropped),
            ("gnuq.results.question_answering.collect",),
            make,
            tuple(f"records/{name}" for name in steps),
        )
    }
    found |= {
        name: _from(f"results/{name}", joined, function)
        for name, function in answering.TABLES.items()
    }
    return found


def _swept(origin: Origin) -> Tables:
    """Classes of transformers, one part a model type."""
    store = Parts(f"results/exact-classes/{version('transformers')}", origin)
    kinds = families()
    for kind in store.missing(kinds):
        store.save(kind, significant(sweep([kind])))
    rows = store.load(kinds).sort_values("task", key=lambda task: task.map(ORDER), kind="stable")
    return {"results/exact-classes": rows.reset_index(drop=True)}


_STUDY = [run for run in scaling_tables.finished() if not run.sweep]
_SMALL = [run for run in _STUDY if run.width in (0, 8) and run.seed == 0]

DERIVED: dict[str, Derived] = {
    "scaling": _over_runs("results/scaling", compare, scaling_tables.finished(), _SMALL),
    "scaling-terms": _over_runs("results/scaling-terms", scaling_terms.terms, _STUDY, _SMALL),
    "table-10": _from("results/table-10", "results/scaling", scaling_tables.table_10),
    "spectrum": Derived(
        ("results/spectrum", "results/spectrum-eigenvalues"),
        ("gnuq.results.spectrum.spectra",),
        lambda _: {f"results/{name}": significant(t) for name, t in spectrum.spectra().items()},
        sample=_spectrum_sample,
    ),
    "proxy-bias": _plain("results/proxy-bias", proxy_bias.proxy_bias, sample=_proxy_sample),
    "proxy-bias-coverage": _plain(
        "results/proxy-bias-coverage", proxy_coverage.proxy_bias_coverage
    ),
    "proxy-bias-terms": _plain("results/proxy-bias-terms", proxy_terms.proxy_bias_terms),
    "proxy-bias-posterior": _plain(
        "results/proxy-bias-posterior",
        proxy_terms.proxy_bias_posterior,
        inputs=tuple(
            f"records/{Experiment(name, seed=seed).record}"
            for name in proxy_terms.SAMPLED
            for seed in DATA_SEEDS
        ),
    ),
    "proxy-bias-maps": _plain("records/proxy-bias/maps", proxy_bias.figure_1),
    "table-3": _from("results/table-3", "results/proxy-bias", proxy_tables.table_3),
    "table-4": _from("results/table-4", f"records/{text_proxies.NAME}", text_proxies.summaries),
    "exact-classes": Derived(
        ("results/exact-classes",),
        ("gnuq.architectures.sweep.sweep", "gnuq.architectures.sweep.families"),
        _swept,
        sample=lambda: {"results/exact-classes": significant(sweep(SAMPLE))},
        tolerance=1.0,  # its differences are of rounding
    ),
    "qa-null": _plain("results/qa-null", resampled_tests.qa_null),
    # Table 15 takes two models
    **(_answers() if len({model for model, _ in study.FINISHED}) > 1 else {}),
}


def again(name: str) -> list[tuple[pd.DataFrame, pd.DataFrame]]:
    """For each output the saved rows and the same computed again.

    Args:
        name: a key of `DERIVED`.
    """
    stage = DERIVED[name]
    made = stage.sample() if stage.sample else stage.make(Origin(code="replay"))
    return [matching(*both) for both in ((_saved(key), new) for key, new in made.items())]


def _saved(output: str) -> pd.DataFrame:
    head, _, rest = output.partition("/")
    return artefacts.load("records" if head == "records" else "results", rest).frame


def matching(saved: pd.DataFrame, new: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The saved rows that have the new rows' keys (all columns but floats), in their order."""
    keys = [c for c in new if not pd.api.types.is_float_dtype(new[c])]
    found = new[keys].merge(saved, on=keys, how="left") if len(new) < len(saved) else saved
    return found[list(new)], new
