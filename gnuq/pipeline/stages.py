"""Every stage: the artefacts that it writes, and the code, settings and inputs that decide them.

`python -m gnuq record NAME` runs one. Its *claim* is computed from the code as it stands, without
running it; an artefact whose provenance says otherwise is out of date.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Literal

from gnuq import artefacts, curve, paper, protocol, results, scaling
from gnuq.fingerprint import Code
from gnuq.pipeline import curve as curved
from gnuq.pipeline import (
    derived,
    examples,
    language,
    posteriors,
    question_answering,
    studies,
    text_proxies,
)
from gnuq.pipeline import scaling as scaled
from gnuq.protocol import Experiment
from gnuq.qa import datasets, newsgroups, study

Group = Literal["posteriors", "comparisons", "timings", "tables", "studies"]

#: Where code is followed.
PACKAGES = ("gnuq", "benchmarks")

#: The paper's tables that follow from the saved correlations, by the name of their result.
TABLES: dict[str, Callable] = {
    "table-1": results.table_1,
    "table-5": results.table_5,
    "table-6": results.table_6,
    "table-7": results.table_7,
    "table-8": results.table_8,
    "table-9": results.table_9,
}

#: Chains of Appendix C's networks take another course after the first rounding difference.
STUDY_TOLERANCE = {"appendix-c": 0.5, "eigenvalues": 1e-6}
#: Whose printed numbers stand beside ours in a table.
PRINTED = {name: (name,) for name in TABLES} | {
    "table-1": ("table-5", "table-6", "table-7", "table-8", "table-9")
}


#: What Table 12 rests on in `benchmarks/qa.py`.
_TABLE_12 = (
    *("qa.measure", "qa.to_time", "qa.one_round", "qa.summarised", "qa.seconds"),
    *("qa.forward", "qa.sampled", "qa.believed"),
)
#: Measured by a script of `benchmarks/`: the result's name → the script, what it measures (a
#: child process is not followed), and its settings; `measure` gets those that it takes.
TIMINGS: dict[str, tuple[str, tuple[str, ...], dict[str, Any]]] = {
    protocol.COSTS: (
        "methods",
        ("methods.measure",),
        {"points": 2500, "threads": 1, "problems": list(protocol.COSTED)},
    ),
    "scoring-costs": (
        "scoring",
        ("scoring.measure", "scoring.peak", "sizes.ours", "sizes.floor", "sizes.alternating"),
        {"batch": 8, "threads": 2},
    ),
    "scoring-sizes": (
        "sizes",
        ("sizes.measure", "sizes.one"),
        {"prompt": 128, "answer": 16, "threads": 2},
    ),
    "scaling-costs": (
        "scaling",
        ("scaling.measure", "scaling.of_width", "scaling.seconds_per_call"),
        {"seconds": 2, "device": "cpu"},
    ),
    "table-12": (
        "qa",
        _TABLE_12,
        {"model": "smollm2-135m", "questions": 24, "rounds": 3, "threads": 2},
    ),
    "table-12-gpu": (
        "qa",
        _TABLE_12,
        {
            "model": "qwen2.5-coder-1.5b",
            "device": "cuda",
            "questions": 32,
            "rounds": 3,
            "threads": 2,
        },
    ),
}


class ItemError(ValueError):
    """No such item, or one that cannot be computed yet."""


@dataclass(frozen=True)
class Stage:
    """One computation.

    Attributes:
        name: what `record`, `reproduce` and `replay` call it.
        group: how it is run.
        outputs: the artefacts that it writes, `records/…` or `results/…`.
        entries: dotted names of the functions whose code decides the outputs.
        choose: tables of settings of which it reads only some entries (`Code.fingerprint`).
        configuration: what was decided beforehand.
        inputs: the artefacts that it reads.
        tolerance: how far a replay may be off.
        seed: where one number says it.
        dtype: of the arithmetic.
    """

    name: str
    group: Group
    outputs: tuple[str, ...]
    entries: tuple[str, ...]
    configuration: Mapping[str, Any]
    choose: Mapping[str, str] = field(default_factory=dict)
    inputs: tuple[str, ...] = ()
    tolerance: Mapping[str, float] = field(default_factory=dict)
    seed: int | None = None
    dtype: str = "float64"

    def code(self, *, fresh: bool = False) -> str:
        """Fingerprint of the code that the stage reaches, as it stands.

        Args:
            fresh: read the files again, not as they were when this process first read them.
        """
        code = Code(artefacts.ROOT, PACKAGES) if fresh else source()
        return code.fingerprint(*self.entries, choose=self.choose)

    def origin(self) -> artefacts.Origin:
        """What a run of the stage would write into the provenance of its outputs.

        Raises:
            ArtefactError: an input is missing.
        """
        inputs = {name: provenance(name)["sha256"] for name in self.inputs}
        return artefacts.Origin(
            code=self.code(),
            configuration=self.configuration,
            inputs=inputs,
            seed=self.seed,
            dtype=self.dtype,
            tolerance=self.tolerance,
        )


@dataclass(frozen=True)
class LanguageStage(Stage):
    """One computation with a pretrained model, on a benchmark's questions or on texts.

    A class of its own: the posteriors' fingerprints cover `Stage`, whose change would outdate them.

    Attributes:
        model: the model's name and revision.
        dataset: the questions' or texts' name and checksum.
    """

    group: Literal["language", "texts", "qa", "quoted"]  # type: ignore[assignment]
    model: str | None = None
    dataset: str | None = None

    def origin(self) -> artefacts.Origin:
        """As of any stage, with model and data set."""
        return replace(super().origin(), model=self.model, dataset=self.dataset)


@dataclass(frozen=True)
class ScalingStage(Stage):
    """One posterior of the scaling study or of its sweep; a class of its own as above."""

    group: Literal["chains"]  # type: ignore[assignment]


@dataclass(frozen=True)
class CurveStage(Stage):
    """One posterior of the curve; a class of its own as above."""

    group: Literal["curve"]  # type: ignore[assignment]


@dataclass(frozen=True)
class DerivedStage(Stage):
    """What follows from records, or from nothing but a seed."""

    group: Literal["derived"]  # type: ignore[assignment]


@cache
def source() -> Code:
    """The code of this repository, read once a process."""
    return Code(artefacts.ROOT, PACKAGES)


def split(artefact: str) -> tuple[artefacts.Kind, str]:
    """`records/hmc/…` as kind and name."""
    kind, _, name = artefact.partition("/")
    if kind not in ("records", "results"):
        raise ValueError(f"artefact: {artefact!r} begins with neither 'records/' nor 'results/'.")
    return kind, name  # type: ignore[return-value]


def provenance(artefact: str) -> dict[str, Any]:
    """What an artefact's provenance file says."""
    return artefacts.provenance(*split(artefact))


@cache
def stages() -> dict[str, Stage]:
    """Every stage by name, inputs before what reads them."""
    everything = [*map(_posterior, protocol.experiments()), *_comparisons()]
    everything += [*_timings(), *_tables(), *_studies(), *_language()]
    everything += [_scaling(name) for name in scaling.runs() if name not in scaling.OPEN]
    everything += map(_curve, curve.recorded().values())
    everything += [_texts(), *(_answers(*named) for named in question_answering.names())]
    everything += map(_derived, derived.DERIVED)
    everything += [_quoted()] if examples.finished() else []
    return {stage.name: stage for stage in everything}


@cache
def unfinished() -> dict[str, Stage]:
    """The runs that no machine has finished: `record` goes on with them, nothing checks them."""
    steps = [_answers(*named) for named in question_answering.waiting()]
    steps += [_scaling(name) for name in scaling.OPEN]
    there = curve.recorded()
    steps += [_curve(run) for name, run in curve.runs().items() if name not in there]
    return {stage.name: stage for stage in steps}


def find(item: str) -> list[Stage]:
    """The stages that a name means: a stage, an artefact, or the beginning of several names.

    An unfinished run is meant only by its whole name: there is nothing of it to replay.

    Args:
        item: `table-5`, `results/table-5`, `hmc/xor/unit-1/seed-0`, or `hmc/xor`.

    Raises:
        ItemError: no stage is meant.
    """
    known, name = stages(), item.rstrip("/")
    if name in known or name in unfinished():
        return [known.get(name) or unfinished()[name]]
    found = [s for s in known.values() if name in s.outputs or s.name.startswith(f"{name}/")]
    if not found:
        heads = sorted({stage.name.partition("/")[0] for stage in known.values()})
        raise ItemError(f"item: no stage is called {item!r}; they begin with {', '.join(heads)}.")
    return found


def selected(items: Sequence[str]) -> list[Stage]:
    """The stages that several names mean, as for `find`; every stage if there are none."""
    return [s for item in items for s in find(item)] if items else list(stages().values())


def _posterior(experiment: Experiment) -> Stage:
    return Stage(
        name=experiment.record,
        group="posteriors",
        outputs=(f"records/{experiment.record}",),
        entries=("gnuq.pipeline.posteriors.posterior_record",),
        choose={
            "gnuq.problems.PROBLEMS": experiment.problem_name,
            "gnuq.protocol.HIDDEN": experiment.problem_name,
            "gnuq.protocol.PRIORS": experiment.prior_name,
        },
        configuration=posteriors.configuration(experiment),
        # Errors of rare events have heavy tails; and a linear model's whole map hangs on two
        # weights, so that even the root mean square spreads widely.
        tolerance={"largest standard errors": 8.0, "root mean square": 2.5},
        seed=experiment.seed,
        dtype="float32",
    )


def _scaling(name: str) -> Stage:
    run = scaling.runs()[name]
    return ScalingStage(
        name=name,
        group="chains",
        outputs=(f"records/{name}",),
        entries=("gnuq.pipeline.scaling.scaling_record",),
        choose={
            "gnuq.problems.PROBLEMS": run.problem.name,
            "gnuq.protocol.PRIORS": run.prior_name,
            "gnuq.scaling.VARIANTS": run.variant,
        },
        configuration=scaled.configuration(run),
        tolerance={"largest standard errors": 8.0, "root mean square": 2.0},
        seed=run.seed,
        dtype="float32",
    )


def _curve(run: curve.Run) -> Stage:
    return CurveStage(
        name=run.name,
        group="curve",
        outputs=(f"records/{run.name}",),
        entries=("gnuq.pipeline.curve.curve_record",),
        choose={
            "gnuq.problems.PROBLEMS": run.problem.name,
            "gnuq.curve.PRIORS": run.prior_name,
            "gnuq.curve.VARIANTS": run.variant,
        },
        configuration=curved.configuration(run),
        tolerance={"largest standard errors": 8.0, "root mean square": 2.0},
        seed=run.seed,
        dtype="float32",
    )


def _texts() -> Stage:
    return LanguageStage(
        name=text_proxies.NAME,
        group="texts",
        outputs=tuple(f"records/{name}" for name in (text_proxies.NAME, text_proxies.CONTROLS)),
        entries=("gnuq.pipeline.text_proxies.text_proxy_rows",),
        configuration=text_proxies.configuration(),
        tolerance=text_proxies.TOLERANCE,
        dtype="float32",
        model=text_proxies.SOURCE,
        dataset=newsgroups.FILE.revision,
    )


def _answers(model: str, benchmark: str, step: str) -> Stage:
    told = question_answering.described(model, benchmark, step)
    return LanguageStage(name=study.record(model, benchmark, step), group="qa", **told)


def _quoted() -> Stage:
    return LanguageStage(name=examples.EXAMPLES, group="quoted", **examples.described())


def _derived(name: str) -> Stage:
    work = derived.DERIVED[name]
    return DerivedStage(
        name=name,
        group="derived",
        outputs=work.outputs,
        entries=work.entries,
        configuration={"printed": paper.items()[name].printed} if name in paper.items() else {},
        inputs=work.inputs,
        tolerance={"largest difference": work.tolerance},
    )


def _comparisons() -> list[Stage]:
    shared = {"inside": protocol.INSIDE, "problems": list(protocol.HIDDEN)}
    compared = [e.record for e in results.compared_experiments()]
    return [
        Stage(
            name=protocol.VALIDATION,
            group="comparisons",
            outputs=(f"results/{protocol.VALIDATION}", f"results/{protocol.CALIBRATION}"),
            entries=(
                "gnuq.pipeline.comparisons.validate",
                "gnuq.pipeline.comparisons.significant",
            ),
            configuration=shared | {"map_seeds": list(protocol.MAP_SEEDS)},
            inputs=tuple(f"records/{e.record}" for e in protocol.experiments()),
            tolerance={"largest difference": 1e-3},
        ),
        Stage(
            name=protocol.METHODS,
            group="comparisons",
            outputs=(f"results/{protocol.METHODS}",),
            entries=(
                "gnuq.pipeline.comparisons.compare",
                "gnuq.pipeline.comparisons.significant",
            ),
            configuration=shared | {"map_seeds": [0]},
            inputs=tuple(f"records/{name}" for name in compared),
            tolerance={"largest difference": 1e-3},
        ),
    ]


def _timings() -> list[Stage]:
    return [
        Stage(
            name=name,
            group="timings",
            outputs=(f"results/{name}",),
            entries=tuple(f"benchmarks.{entry}" for entry in entries),
            configuration=settings,
        )
        for name, (_, entries, settings) in TIMINGS.items()
    ]


def _tables() -> list[Stage]:
    return [
        Stage(
            name=name,
            group="tables",
            outputs=(f"results/{name}",),
            entries=(f"gnuq.results.{function.__name__}",),
            configuration={
                "prior": protocol.PRIMARY,
                "region": "wide",
                "map_seed": 0,
                "printed": {item: paper.items()[item].printed for item in PRINTED[name]},
            },
            inputs=(f"results/{protocol.VALIDATION}",),
            tolerance={"largest difference": 1e-9},
        )
        for name, function in TABLES.items()
    ]


def _studies() -> list[Stage]:
    return [
        Stage(
            name=name,
            group="studies",
            outputs=(f"results/{name}",),
            entries=(f"gnuq.pipeline.studies.{function.__name__}",),
            configuration={},
            tolerance={"largest difference": STUDY_TOLERANCE[name]},
        )
        for name, function in studies.STUDIES.items()
    ]


def _language() -> list[Stage]:
    return [
        LanguageStage(
            name=name,
            group="language",
            outputs=(f"records/{name}",),
            entries=(f"gnuq.pipeline.language.{work.rows.__name__}",),
            configuration={"questions": work.questions, **work.settings},
            inputs=tuple(f"records/{other}" for other in work.inputs),
            tolerance={"largest difference": work.tolerance},
            dtype="float32",
            model=language.SOURCE,
            dataset=work.dataset and datasets.DATASETS[work.dataset].revision,
        )
        for name, work in language.WORKS.items()
    ]
