"""`python -m gnuq qa`: a model on a benchmark, from answers to AUROCs."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pandas as pd

from gnuq.language_models import ModelError
from gnuq.qa import benchmarks, evaluation
from gnuq.qa.execute import Progress, run_all
from gnuq.qa.joined import counted, joined
from gnuq.qa.settings import Run, Settings
from gnuq.qa.store import Folder
from gnuq.qa.workers import Workers, WorkersError, here, on_ray
from gnuq.scoring.command import quiet


def main(options: argparse.Namespace) -> int:
    """Run what the options ask for; what a user can mend is told in one line.

    Returns:
        0; 1 if no AUROC is defined, since all answers are correct or all wrong; 2 on an error.
    """
    quiet()
    try:
        return _run(options)
    except (ModelError, WorkersError, ValueError) as error:
        print(f"python -m gnuq qa: {error}", file=sys.stderr)
    except OSError as error:
        print(
            f"python -m gnuq qa: {error}. Finished parts are kept in {options.output}: free space "
            "or mend it, and run the same command again.",
            file=sys.stderr,
        )
    return 2


def run_of(options: argparse.Namespace) -> Run:
    """The run that the options describe."""
    settings = Settings(
        samples=options.samples,
        answer_temperature=0.0 if options.greedy else Settings.answer_temperature,
        chat=options.chat,
        judge=options.judge,
        equivalence=options.equivalence,
        entailment=options.entailment or Settings.entailment,
        seed=options.seed,
    )
    return Run(
        model=options.model,
        benchmark=options.benchmark,
        quantisation=options.quantisation,
        dtype=options.dtype,
        revision=options.revision,
        device=options.device,
        limit=options.limit,
        settings=settings,
    )


def folder_of(run: Run, output: str) -> Path:
    """Where a run's tables go: one folder for each model, precision, benchmark and limit."""
    model = "-".join(filter(None, (Path(run.model).stem, run.quantisation, run.dtype)))
    benchmark = Path(run.benchmark).stem + (f"-{run.limit}" if run.limit else "")
    names = (re.sub(r"[^\w.-]+", "-", name) for name in (model, benchmark))
    return Path(output).expanduser().joinpath(*names)


def _run(options: argparse.Namespace) -> int:
    run = run_of(options)
    benchmark = benchmarks.named(run.benchmark)
    ids = benchmark.read()["id"].iloc[: run.limit].tolist()
    folder = Folder(folder_of(run, options.output))
    with ExitStack() as stack:
        workers: Workers = here
        if options.ray is not None:
            cluster = on_ray(options.ray, cpus=options.ray_cpus, gpus=options.ray_gpus)
            workers = stack.enter_context(cluster)
        progress = stack.enter_context(_bars())
        tables = run_all(
            run, ids, folder, revision=benchmark.revision, workers=workers, progress=progress
        )
    return _report(run, tables, folder)


def _report(run: Run, tables: dict[str, pd.DataFrame], folder: Folder) -> int:
    """Evaluate, save and print; NaN stands where an AUROC is undefined, with the reason."""
    kept, dropped = joined(run, tables)
    correct = int(kept["correct"].sum())
    print(f"{run.model} on {run.benchmark}: {correct} of {len(kept)} answers are correct.")
    for reason, n in counted(dropped).items():
        print(f"  left out: {n} ({reason})")
    table = evaluation.summary(evaluation.bootstrap(kept, seed=run.settings.seed), kept)
    table.to_csv(folder.path / "evaluation.csv", index=False)
    kept.to_csv(folder.path / "joined.csv", index=False)
    dropped.to_csv(folder.path / "dropped.csv", index=False)
    print(table.to_string(index=False, float_format=lambda value: f"{value:.3f}"))
    print(f"Tables, provenance and evaluation: {folder.path}")
    if correct in (0, len(kept)):
        print("AUROC is undefined: all answers are of one kind. Take more questions (--limit).")
        return 1
    return 0


@contextmanager
def _bars() -> Iterator[Progress]:
    """One progress bar a step, with the time left, on the error stream."""
    from tqdm import tqdm

    bars: dict[str, tqdm] = {}

    def progress(step: str, done: int, of: int) -> None:
        if step not in bars:
            bars[step] = tqdm(
                desc=f"{step:10}", unit="question", total=of, initial=done, file=sys.stderr
            )
        bars[step].update(done - bars[step].n)

    try:
        yield progress
    finally:
        for bar in bars.values():
            bar.close()
