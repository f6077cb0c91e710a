"""One answer token by token: which predictions, and which positions, carry ‖∇p̄‖²."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from gnuq.gradnorm.alignment import Alignment
from gnuq.scoring import passes
from gnuq.scoring.examples import Example
from gnuq.scoring.exclusive import exclusive
from gnuq.scoring.learnt_prompts import learnt_positions

#: Stands for what could not be split over the positions.
UNSPLIT = "(not split)"
#: Tokens before one that can change how it is decoded.
NEIGHBOURS = 6


def by_token(
    model: nn.Module, tokenizer: Any, example: Example, counts: Collection[str] | None = None
) -> pd.DataFrame:
    """The epistemic score of one answer, split over its predictions and over all positions.

    Args:
        model: the model.
        tokenizer: its tokenizer, for the tokens' text.
        example: the prompt and the answer.
        counts: names of the weights that count; all if omitted.

    Returns:
        One row a token of prompt and answer:
        `token`, `part` ("prompt" or "answer");
        `probability`, `aleatoric`, `squared_norm`: p_t, p_t (1 − p_t), ‖∇p_t‖² of answer tokens;
        `share`: (1/T) ⟨∇p_t, ∇p̄⟩, what the prediction of this token adds to ‖∇p̄‖²;
        `position_share`: what the computation at this position adds to it.
        Both shares sum to ‖∇p̄‖². They may be negative: a token's gradient may point against the
        rest. A prompt's tokens are not predicted, so their `share` is nought. A last row holds
        what a layer without per-token gradients did not split, and what a prompt that peft has
        learnt adds, if there is any.

    Source:
        §3.4, Eq. (10): ‖∇p̄‖² = (1/T²) Σ_t Σ_s ⟨∇p_t, ∇p_s⟩, row by row.
    """
    batch = passes.Batch.of(model, [example])
    with exclusive(model):
        found, log_p = passes.aligned(model, batch, counts)
    count, answer = len(example.prompt), len(example.answer)
    blank = np.zeros(count)
    log_p_answer = log_p[0].double().cpu().numpy()
    probability = np.exp(log_p_answer)
    learnt = learnt_positions(model)
    positions, rest = _positions(found, len(example), learnt, batch.before[0].cpu())
    unsplit = float(found.unsplit[0]) + rest
    frame = pd.DataFrame(
        {
            "token": texts(tokenizer, example.ids),
            "part": ["prompt"] * count + ["answer"] * answer,
            "probability": np.r_[np.full(count, np.nan), probability],
            "aleatoric": np.r_[np.full(count, np.nan), -probability * np.expm1(log_p_answer)],
            "squared_norm": np.r_[np.full(count, np.nan), _numbers(found.squared_norms[0])],
            "share": np.r_[blank, _numbers(found.aligned[0]) / answer],
            "position_share": positions,
        }
    )
    if abs(unsplit) > 1e-12 * float(found.total[0]):
        row = {"token": UNSPLIT, "part": UNSPLIT, "share": 0.0, "position_share": unsplit}
        frame = pd.concat([frame, pd.DataFrame([row])], ignore_index=True)
    return frame


def texts(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    """What each token adds to the decoded text: a piece on its own may lose its space.

    A token that ends in the middle of a character shows as the tokenizer decodes it alone.
    """
    found = []
    for i in range(len(ids)):
        behind = ids[max(0, i - NEIGHBOURS) : i]
        before, text = (str(tokenizer.decode(part)) for part in (behind, [*behind, ids[i]]))
        whole = text.startswith(before) and not before.endswith("\ufffd")
        found.append(text[len(before) :] if whole else str(tokenizer.decode([ids[i]])))
    return found


def gram(model: nn.Module, example: Example) -> np.ndarray:
    """⟨∇p_t, ∇p_s⟩ for every pair of an answer's tokens, shape (T, T).

    Its diagonal holds the tokens' own norms, its sum over T² is ‖∇p̄‖². Memory grows with T times
    the layers' outputs, so this is for one answer of a model that fits well.

    Source:
        §3.4, Eq. (10), the double sum's terms.
    """
    with exclusive(model):
        return _numbers(passes.products(model, passes.Batch.of(model, [example]))[0])


def _positions(
    found: Alignment, length: int, learnt: int, before: Tensor
) -> tuple[np.ndarray, float]:
    """What each position adds to the total, and what cannot be told apart.

    The head sees the answer's positions only, every other layer all of them, those of a learnt
    prompt first; norms of single heads have a second dimension, which is summed over.
    """
    shares, rest = torch.zeros(length, dtype=torch.float64), 0.0
    for name, uses in found.positions.items():
        for use in uses:
            one = use[0].double().cpu()
            at = [axis for axis, size in enumerate(one.shape) if size in (length, length + learnt)]
            if learnt and name.startswith("prompt_encoder."):
                rest += float(one.sum())
            elif len(at) == 1:
                along = one.movedim(at[0], 0).reshape(one.shape[at[0]], -1).sum(1)
                rest += float(along[:-length].sum())
                shares += along[-length:]
            elif one.shape == before.shape:
                shares.index_add_(0, before, one)
            else:  # as many heads as tokens
                rest += float(one.sum())
    return _numbers(shares), rest


def _numbers(x: Tensor) -> np.ndarray:
    values: np.ndarray = x.double().cpu().numpy()
    return values
