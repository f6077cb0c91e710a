"""One answer of a run token by token: what each token adds to ‖∇p̄‖²."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from gnuq.qa.settings import Run
from gnuq.qa.tools import tools
from gnuq.scoring.examples import Example
from gnuq.scoring.tokens import by_token

COLUMNS = ["token", "probability", "aleatoric", "squared_norm", "share"]


def token_shares(run: Run, question: str, answer_ids: Sequence[int]) -> pd.DataFrame:
    """Split one answer's ‖∇p̄‖² over its tokens; T + 1 backward passes.

    Args:
        run: the model and how it is asked; the model is loaded if it is not yet.
        question: the question's id.
        answer_ids: the answer's tokens.

    Returns:
        One row a token: `token`, its text; `probability`, `aleatoric`, `squared_norm`: p_t,
        p_t (1 − p_t), ‖∇p_t‖²; `share`: (1/T) ⟨∇p_t, ∇p̄⟩, which sum to ‖∇p̄‖².

    Raises:
        ValueError: the benchmark has no such question, or the answer has no token.
        DatasetError: the benchmark's questions are not at hand.
        ModelError: the model cannot be loaded.

    Source:
        §3.4, Eq. (10).
    """
    own = tools(run)
    if question not in own.questions:
        raise ValueError(f"question: {run.benchmark} has none with the id {question!r}.")
    if not len(answer_ids):
        raise ValueError(f"answer_ids: the answer to question {question!r} has no token to split.")
    example = Example(
        own.prompt(own.questions[question].question), tuple(int(token) for token in answer_ids)
    )
    frame = by_token(own.loaded.model, own.loaded.tokenizer, example)
    return frame.loc[frame["part"] == "answer", COLUMNS].reset_index(drop=True)
