"""The steps of a run: answers, judgements, baselines, scores; each from some questions to rows.

A step never loses a question: what could not be computed is missing in its row, and the row's
`reason` says why. No step fills a gap with a default.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from gnuq.language_models import Generated, generate
from gnuq.qa import entropies, judge, judge_model, p_true
from gnuq.qa.equivalence import clusters
from gnuq.qa.settings import Run
from gnuq.qa.tools import Tools, tools
from gnuq.scoring import attempts, own_answers
from gnuq.scoring.examples import Example, ExampleError
from gnuq.scoring.settings import Settings as ScoreSettings

#: Finished steps' tables, by name.
Tables = Mapping[str, pd.DataFrame]
EMPTY = "the model's answer is empty"
#: Columns of a score that a step without an answer leaves missing.
SCORES = (
    "length",
    "mean_probability",
    "mean_log_probability",
    "aleatoric",
    "epistemic",
    "length_free",
    "relative",
    "scale_free",
)


@dataclass(frozen=True)
class Step:
    """One step of a run.

    Attributes:
        name: of its table.
        rows: (run, ids of some questions, tables of earlier steps) → one row a question.
        needs: the tables that it reads.
        shard: questions that are computed together.
    """

    name: str
    rows: Callable[[Run, Sequence[str], Tables], pd.DataFrame]
    needs: tuple[str, ...] = ()
    shard: int = 24


def answers(run: Run, ids: Sequence[str], _: Tables) -> pd.DataFrame:
    """The answer that is judged, and further samples, with their tokens' log-probabilities."""
    own, settings = tools(run), run.settings
    prompts, reasons = _prompts(own, ids)
    given = _generated(own, prompts, "answer", temperature=settings.answer_temperature)
    drawn = _generated(
        own,
        prompts,
        "samples",
        temperature=settings.temperature,
        top_p=settings.top_p,
        top_k=settings.top_k,
        samples=settings.samples,
    )
    rows = []
    for i in ids:
        one = given.get(i, [Generated((), "", (), False)])[0]
        several = drawn.get(i, [])
        reason = reasons.get(i) or (None if one.ids else EMPTY)
        rows.append({"id": i, **_told(one), **_sampled(several), "reason": reason})
    return pd.DataFrame(rows).astype({"reason": "string"})


def judged(run: Run, ids: Sequence[str], tables: Tables) -> pd.DataFrame:
    """Whether each answer is correct, by the benchmark's own criterion or by a judge model."""
    own, given = tools(run), by_id(tables["answers"])
    asked, said = [own.questions[i] for i in ids], [given[i]["answer"] for i in ids]
    if run.settings.judge is not None:
        verdicts = judge_model.by_model(
            own.judge.model,
            own.judge.tokenizer,
            [one.question for one in asked],
            said,
            [one.correct for one in asked],
        )
    elif own.benchmark.criterion == "similarity":
        verdicts = [
            judge.by_similarity(own.encoder, one.question, text, one.correct, one.incorrect)
            for text, one in zip(said, asked, strict=True)
        ]
    else:
        verdicts = [
            judge.by_alias(text, one.correct) for text, one in zip(said, asked, strict=True)
        ]
    frame = pd.DataFrame([{"id": i, **v.as_row()} for i, v in zip(ids, verdicts, strict=True)])
    return frame.astype({"correct": "boolean", "reason": "string"})


def baselines(run: Run, ids: Sequence[str], tables: Tables) -> pd.DataFrame:
    """The entropies over the samples, and P(True)."""
    own, given = tools(run), by_id(tables["answers"])
    entropy = [_entropies(own, i, given[i]) for i in ids]
    believed = _p_true(own, ids, given, tables["judged"])
    frame = pd.DataFrame({"id": list(ids)}).join(pd.DataFrame(entropy))
    frame["p_true"] = [value for value, _ in believed]
    reasons = [_both(row["reason"], why) for row, (_, why) in zip(entropy, believed, strict=True)]
    return frame.drop(columns="reason").assign(reason=pd.array(reasons, dtype="string"))


def scores(run: Run, ids: Sequence[str], tables: Tables) -> pd.DataFrame:
    """‖∇p̄‖², the Bernoulli variance, and what the answer's tokens say without a gradient."""
    own, given = tools(run), by_id(tables["answers"])
    prompts, wrong = _prompts(own, ids)
    answered = {i: tuple(map(int, given[i]["answer_ids"])) for i in prompts}
    examples = {i: Example(prompts[i], answer) for i, answer in answered.items() if answer}
    wrong |= {i: EMPTY for i, answer in answered.items() if not answer}
    loaded = own.loaded
    found, failed = attempts.attempted(loaded.model, loaded.tokenizer, examples, ScoreSettings())
    scored = found.reindex(index=list(ids), columns=list(SCORES)).reset_index(drop=True)
    reasons = [(wrong | failed).get(i) for i in ids]
    frame = pd.DataFrame({"id": list(ids)}).join(scored)
    return frame.assign(reason=pd.array(reasons, dtype="string"))


def by_id(table: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """A table's rows by their question."""
    return {str(row["id"]): {str(k): v for k, v in row.items()} for row in table.to_dict("records")}


STEPS = {
    step.name: step
    for step in (
        Step("answers", answers, shard=8),
        Step("judged", judged, ("answers",), shard=100),
        Step("baselines", baselines, ("answers", "judged"), shard=48),
        Step("scores", scores, ("answers",)),
    )
}


def _prompts(own: Tools, ids: Sequence[str]) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
    """Prompts by id; and why others have none."""
    found, wrong = {}, {}
    for i in ids:
        try:
            found[i] = own.prompt(own.questions[i].question)
        except ExampleError as error:
            wrong[i] = error.reason
    room = own.run.settings.max_new_tokens
    fitting, too_long = own_answers.with_room(own.loaded.model, found, room)
    return fitting, wrong | too_long


def _generated(
    own: Tools, prompts: Mapping[str, tuple[int, ...]], what: str, **sampling: Any
) -> dict[str, list[Generated]]:
    """What the model says to each prompt: `samples` answers, or one."""
    if not prompts:
        return {}
    each = sampling.get("samples", 1)
    found = generate(
        own.loaded,
        own.loaded.tokenizer,
        list(prompts.values()),
        max_new_tokens=own.run.settings.max_new_tokens,
        seed=own.run.draw(what, next(iter(prompts))),
        batch_size=len(prompts) * each,
        **sampling,
    )
    return {i: found[k * each : (k + 1) * each] for k, i in enumerate(prompts)}


def _told(one: Generated) -> dict[str, Any]:
    return {
        "answer": one.text.strip(),
        "answer_ids": list(one.ids),
        "answer_log_probabilities": _short(one.log_probabilities),
        "finished": one.finished,
    }


def _sampled(several: list[Generated]) -> dict[str, Any]:
    return {
        "samples": [one.text.strip() for one in several],
        "sample_ids": [list(one.ids) for one in several],
        "sample_log_probabilities": [_short(one.log_probabilities) for one in several],
    }


def _short(log_probabilities: Sequence[float]) -> list[float]:
    return [round(value, 5) for value in log_probabilities]


def _entropies(own: Tools, i: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """The entropies of one question's samples, in nats; missing where there are too few."""
    samples, log_p = list(row["samples"]), [list(one) for one in row["sample_log_probabilities"]]
    shown = [-1] * len(samples)
    try:
        kept = entropies.usable(samples, log_p)
    except ValueError as error:
        names = ("naive_entropy", "semantic_entropy", "discrete_semantic_entropy")
        return {**dict.fromkeys(names, np.nan), "clusters": shown, "reason": str(error)}
    likely = [log_p[k] for k in kept]
    found = clusters(own.questions[i].question, [samples[k] for k in kept], own.same)
    for k, cluster in zip(kept, found, strict=True):
        shown[k] = cluster
    return {
        "naive_entropy": entropies.naive_entropy(likely),
        "semantic_entropy": entropies.semantic_entropy(likely, found),
        "discrete_semantic_entropy": entropies.discrete_semantic_entropy(found),
        "clusters": shown,
        "reason": None,
    }


def _p_true(
    own: Tools, ids: Sequence[str], given: Mapping[str, Mapping[str, Any]], verdicts: pd.DataFrame
) -> list[tuple[float, str | None]]:
    """P(True) of some answers, or why there is none."""
    count, labels = own.run.demonstrations(len(verdicts)), verdicts.set_index("id")["correct"]
    shown = p_true.choose_demonstrations(verdicts, count, own.run.settings.seed)

    def claim(i: str) -> tuple[str, list[str], str]:
        row = given[i]
        return own.questions[i].question, [text for text in row["samples"] if text], row["answer"]

    demonstrations = [p_true.Demonstration(*claim(i), bool(labels[i])) for i in shown]
    loaded = own.loaded
    return p_true.believed(loaded.model, loaded.tokenizer, demonstrations, [claim(i) for i in ids])


def _both(one: str | None, other: str | None) -> str | None:
    return "; ".join(told for told in (one, other) if told) or None
