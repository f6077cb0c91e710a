"""Sentences as unit vectors, whose inner product tells how alike they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch.nn import functional as F

from gnuq.language_models import encoders, load

#: Texts to unit vectors, one a row.
Encoder = Callable[[Sequence[str]], Float[np.ndarray, "texts features"]]
#: Tokens of a text that are read; MiniLM was trained to embed texts up to this length.
MAX_LENGTH = 256
#: The length of a vector that is rounding.
NOTHING = 1e-6


@dataclass(frozen=True)
class SentenceEncoder:
    """An encoder whose mean over a text's tokens, scaled to length 1, stands for the text.

    Attributes:
        model: a model of transformers that returns `last_hidden_state`, in evaluation mode.
        tokenizer: its tokenizer.
        batch_size: texts that are encoded together.
    """

    model: Any
    tokenizer: Any
    batch_size: int = 64

    def __call__(self, texts: Sequence[str]) -> Float[np.ndarray, "texts features"]:
        """The texts' vectors; equal texts are encoded once.

        Raises:
            ValueError: no texts.
        """
        if not texts:
            raise ValueError("texts: there are none; give at least one.")
        # texts of similar length together: little padding
        once = sorted(dict.fromkeys(texts), key=len)
        starts = range(0, len(once), self.batch_size)
        vectors = np.concatenate([self._together(once[i : i + self.batch_size]) for i in starts])
        row = {text: i for i, text in enumerate(once)}
        return vectors[[row[text] for text in texts]]

    @torch.no_grad()
    def _together(self, texts: list[str]) -> np.ndarray:
        made = self.tokenizer(
            texts, padding=True, truncation=True, max_length=MAX_LENGTH, return_tensors="pt"
        ).to(self.model.device)
        mask = made["attention_mask"]
        states = self.model(input_ids=made["input_ids"], attention_mask=mask).last_hidden_state
        kept = mask[..., None].to(states.dtype)
        mean = (states * kept).sum(1) / kept.sum(1)
        vectors: np.ndarray = F.normalize(mean, dim=-1).double().cpu().numpy()
        return vectors


def sentence_encoder(device: str | torch.device | None = None) -> SentenceEncoder:
    """all-MiniLM-L6-v2 (Reimers and Gurevych 2019; Wang et al. 2020), which needs no network.

    Args:
        device: the first GPU if there is one, else the CPU, if omitted.

    Raises:
        ModelError: its package is not installed; the message says how.
    """
    loaded = load(str(encoders.packaged()), dtype="float32", device=device)
    return SentenceEncoder(loaded.model, loaded.tokenizer)


def added(
    encoder: Encoder, question: str, answers: Sequence[str]
) -> Float[np.ndarray, "answers features"]:
    r"""What each answer adds to a question: $v_{qa} - (v_{qa} \cdot v_q) v_q$, scaled to length 1.

    The vectors of "question answer" are all alike, for the question that they share; those of
    answers alone say little when the answers are short. This tells accepted from wrong answers
    better than either.

    An answer that adds nothing, behind a question longer than the encoder reads, has the vector 0.

    Args:
        encoder: embeds texts.
        question: the question.
        answers: the answers.
    """
    own, *joined = encoder([question, *(f"{question} {answer}" for answer in answers)])
    rest = np.array(joined) - np.outer(np.array(joined) @ own, own)
    lengths = np.linalg.norm(rest, axis=1, keepdims=True)
    vectors: np.ndarray = rest / np.where(lengths > NOTHING, lengths, np.inf)
    return vectors
