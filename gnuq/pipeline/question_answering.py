"""The records of the question-answering experiments: one for each step of each run.

They are the tables of `python -m gnuq qa`, with the pipeline's provenance. What a replay computes
again is what sampling does not touch: log-probabilities of saved tokens, labels, entropies, scores.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from gnuq import artefacts
from gnuq.artefacts import Origin, Parts
from gnuq.language_models import find
from gnuq.qa import benchmarks, study
from gnuq.qa.execute import configuration, entry, finish
from gnuq.qa.settings import Run
from gnuq.qa.steps import STEPS, Tables, by_id
from gnuq.qa.store import FolderParts
from gnuq.qa.tools import tools
from gnuq.results.question_answering import tables_of
from gnuq.scoring import score

#: Where shards of unfinished records are kept.
CHECKPOINTS = artefacts.ROOT / "data" / "checkpoints"
#: Questions that a replay computes again.
REPLAYED = 3
#: How far a replay may be off, relative to a column's largest value. NF4's sums of products are
#: ordered by the machine.
TOLERANCE = 5e-3


def names() -> list[tuple[str, str, str]]:
    """Model, benchmark and step of every record that there is, inputs before what reads them."""
    return [(*pair, step) for pair, steps in study.RECORDED.items() for step in steps]


def waiting() -> list[tuple[str, str, str]]:
    """The same for steps that no machine has finished."""
    pairs = [(m, b) for m in (*study.MODELS, *study.PAPER) for b in study.BENCHMARKS]
    every = [(*pair, step) for pair in pairs for step in STEPS]
    return [one for one in every if one not in names()]


def described(model: str, benchmark: str, step: str) -> dict[str, Any]:
    """What a stage says of itself: outputs, entries, configuration, inputs, model, dataset."""
    run, known = study.run(model, benchmark), STEPS[step]
    found = find(run.model)
    return {
        "outputs": (f"records/{study.record(model, benchmark, step)}",),
        "entries": (entry(step),),
        "configuration": configuration(run, known),
        "inputs": tuple(f"records/{study.record(model, benchmark, need)}" for need in known.needs),
        "tolerance": {"largest difference": TOLERANCE},
        "seed": run.settings.seed,
        "dtype": run.dtype or found.dtype,
        "model": f"{found.name} ({found.repository}, {found.revision})",
        "dataset": benchmarks.named(benchmark).revision,
    }


def rows(name: str, origin: Origin) -> pd.DataFrame:
    """All rows of a record; shards that are there already are not computed again."""
    model, benchmark, step = _split(name)
    run = study.run(model, benchmark)
    ids = benchmarks.named(benchmark).read()["id"].iloc[: run.limit].tolist()
    before = tables_of(model, benchmark, STEPS[step].needs)
    return finish(run, STEPS[step], ids, before, _parts(name, origin), progress=_told)


def discard(name: str, origin: Origin) -> None:
    """Delete the parts, once the record is saved."""
    _parts(name, origin).discard()


def _parts(name: str, origin: Origin) -> Parts:
    """Finished shards, in files that are committed: a run of hours outlives a machine."""
    head, _, step = name.rpartition("/")
    return FolderParts(CHECKPOINTS / head, step, origin)


def replayed(name: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Saved values of a record and the same computed again.

    Of answers and samples the mean log-probabilities, from the saved tokens; of judgements every
    row; of baselines and scores a few.
    """
    model, benchmark, step = _split(name)
    run, saved = study.run(model, benchmark), artefacts.load("records", name).frame
    return _AGAIN[step](run, saved, tables_of(model, benchmark, STEPS[step].needs))


def _answers(run: Run, saved: pd.DataFrame, _: Tables) -> tuple[pd.DataFrame, pd.DataFrame]:
    own, told = tools(run), by_id(saved.head(REPLAYED))
    prompts, answers, before = [], [], []
    for i, row in told.items():
        for ids, log_p in zip(row["sample_ids"], row["sample_log_probabilities"], strict=True):
            if len(ids):
                prompts.append(own.prompt(own.questions[i].question))
                answers.append([int(token) for token in ids])
                before.append(float(np.mean(log_p)))
    found = score(own.loaded.model, own.loaded.tokenizer, prompts, answers)
    name = "mean_log_probability"
    return pd.DataFrame({name: before}), pd.DataFrame({name: found.mean_log_probability})


def _judged(run: Run, saved: pd.DataFrame, tables: Tables) -> tuple[pd.DataFrame, pd.DataFrame]:
    return saved, STEPS["judged"].rows(run, saved["id"].tolist(), tables)


def _baselines(run: Run, saved: pd.DataFrame, tables: Tables) -> tuple[pd.DataFrame, pd.DataFrame]:
    there = saved.head(REPLAYED).drop(columns="clusters")
    new = STEPS["baselines"].rows(run, there["id"].tolist(), tables)
    return there, new.drop(columns="clusters")


def _scores(run: Run, saved: pd.DataFrame, tables: Tables) -> tuple[pd.DataFrame, pd.DataFrame]:
    there = saved.head(REPLAYED)
    return there, STEPS["scores"].rows(run, there["id"].tolist(), tables)


_AGAIN: Mapping[str, Callable[[Run, pd.DataFrame, Tables], tuple[pd.DataFrame, pd.DataFrame]]] = {
    "answers": _answers,
    "judged": _judged,
    "baselines": _baselines,
    "scores": _scores,
}


def _split(name: str) -> tuple[str, str, str]:
    _, model, benchmark, step = name.split("/")
    return model, benchmark, step


def _told(step: str, done: int, of: int) -> None:
    print(f"{step}: {done} of {of} questions", flush=True)
