"""Which sampled answers mean the same: the clusters of semantic entropy.

Their authors ask whether each of two answers entails the other, given the question: a model
trained for that (`Entailment`), or a language model (`gnuq.qa.judge_model.Judged`). `Similarity`
approximates it where neither can be had.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from gnuq.language_models import texts
from gnuq.language_models.errors import explained
from gnuq.qa.embeddings import Encoder, added
from gnuq.qa.words import normalised

#: Of Kuhn et al. 2023; Farquhar et al. 2024 use microsoft/deberta-v2-xlarge-mnli.
NLI = "microsoft/deberta-large-mnli"
#: (question, an answer, other answers) → whether it means the same as each of the others.
Same = Callable[[str, str, Sequence[str]], list[bool]]


def clusters(question: str, samples: Sequence[str], same: Same) -> list[int]:
    """Sort answers by meaning: each joins the first cluster whose first member it equals.

    A text that equals an earlier one but for spelling joins it unasked.

    Args:
        question: what was answered.
        samples: the answers; their order may matter, since equivalence as models see it is not
            transitive.
        same: decides; it is asked for the first members of all clusters at once.

    Returns:
        The cluster of each answer, numbered from 0 in order of appearance.

    Raises:
        ValueError: a blank answer, which means nothing.

    Source:
        Kuhn et al. 2023, Algorithm 1 (bidirectional entailment clustering).
    """
    heads: list[str] = []
    known: dict[str, int] = {}
    found = []
    for i, sample in enumerate(samples):
        if not sample.strip():
            raise ValueError(f"samples: sample {i} is blank; leave out what usable() leaves out.")
        key = normalised(sample) or sample.strip()
        if key not in known:
            verdicts = same(question, sample, heads) if heads else []
            known[key] = verdicts.index(True) if True in verdicts else len(heads)
            if known[key] == len(heads):
                heads.append(sample)
        found.append(known[key])
    return found


class Similarity:
    """Answers that add similar vectors to the question: in place of bidirectional entailment.

    An approximation (`gnuq.qa.embeddings.added`): it knows little of negation, or of who does
    what to whom.

    Args:
        encoder: embeds texts (`gnuq.qa.embeddings.sentence_encoder`).
        threshold: the least cosine of two answers that mean the same. The default suits MiniLM:
            it was chosen on references of TriviaQA and TruthfulQA, pairs of accepted answers
            against pairs of an accepted and a wrong one.

    Raises:
        ValueError: a threshold outside [−1, 1].
    """

    def __init__(self, encoder: Encoder, threshold: float = 0.3) -> None:
        if not -1 <= threshold <= 1:
            raise ValueError(f"threshold: {threshold} is no cosine; give one in [−1, 1].")
        self.encoder, self.threshold = encoder, threshold
        self._question: str | None = None
        self._vectors: dict[str, Float[np.ndarray, " features"]] = {}

    def __call__(self, question: str, sample: str, heads: Sequence[str]) -> list[bool]:
        """Whether the cosine with each head reaches the threshold."""
        if question != self._question:
            self._question, self._vectors = question, {}
        new = [text for text in dict.fromkeys([sample, *heads]) if text not in self._vectors]
        if new:
            self._vectors |= dict(zip(new, added(self.encoder, question, new), strict=True))
        cosines = np.array([self._vectors[head] for head in heads]) @ self._vectors[sample]
        found: list[bool] = (cosines >= self.threshold).tolist()
        return found


@dataclass(frozen=True)
class Entailment:
    """Two answers mean the same if "question answer" of each entails that of the other.

    Attributes:
        model: a sequence classifier of pairs, one of whose classes is called entailment.
        tokenizer: its tokenizer.
        strict: whether both directions must entail; else neither may contradict, and one must
            entail.
        batch_size: pairs that are classified together.

    Source:
        Kuhn et al. 2023; both readings are in the code of Farquhar et al. 2024, strict as default.
    """

    model: Any
    tokenizer: Any
    strict: bool = True
    batch_size: int = 16

    def __call__(self, question: str, sample: str, heads: Sequence[str]) -> list[bool]:
        """One truth value for each head.

        Raises:
            ValueError: the model has no such class, or a pair is longer than it reads.
        """
        entails = _class_of(self.model, "entailment")
        mine = f"{question} {sample}"
        others = [f"{question} {head}" for head in heads]
        there = self._classes([(mine, other) for other in others])
        back = self._classes([(other, mine) for other in others])
        pairs = list(zip(there, back, strict=True))
        if self.strict:
            return [a == b == entails for a, b in pairs]
        contradicts = _class_of(self.model, "contradiction")
        return [contradicts not in pair and entails in pair for pair in pairs]

    @torch.no_grad()
    def _classes(self, pairs: list[tuple[str, str]]) -> list[int]:
        """The likeliest class of each premise and hypothesis."""
        found: list[int] = []
        for i in range(0, len(pairs), self.batch_size):
            made = self.tokenizer(
                pairs[i : i + self.batch_size], padding=True, return_tensors="pt"
            ).to(self.model.device)
            length, limit = made["input_ids"].shape[1], self._limit()
            if length > limit:
                raise ValueError(
                    f"heads: question and two answers have {length} tokens, the entailment model "
                    f"reads {limit}; leave this question out."
                )
            found += self.model(**made).logits.argmax(-1).tolist()
        return found

    def _limit(self) -> int:
        told = self.tokenizer.model_max_length
        return int(min(told, texts.context_of(self.model) or told))


def entailment(
    name: str = NLI, device: str | torch.device | None = None, *, revision: str | None = None
) -> Entailment:
    """Load a model of natural language inference from the Hugging Face hub, or from a folder.

    Args:
        name: its repository or folder.
        device: the first GPU if there is one, else the CPU, if omitted.
        revision: a commit on the hub; if omitted the current one, which a warning names.

    Raises:
        ModelError: it cannot be loaded; the message says why and what helps.
        ValueError: none of its classes is called entailment.
    """
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    place = device or ("cuda" if torch.cuda.is_available() else "cpu")
    with explained(name, name):
        model = AutoModelForSequenceClassification.from_pretrained(
            name, revision=revision or "main", dtype=torch.float32
        )
        commit = getattr(model.config, "_commit_hash", None)
        tokenizer = AutoTokenizer.from_pretrained(name, revision=commit or "main")
    _class_of(model, "entailment")
    if commit is not None and revision is None:
        warnings.warn(
            f"{name}: its revision is not pinned; this is {commit}. Pass revision={commit!r} to "
            "load the same again.",
            stacklevel=2,
        )
    return Entailment(model.to(place).eval(), tokenizer)


def _class_of(model: Any, name: str) -> int:
    """The number of the class of that name, in any case."""
    labels = {int(i): str(label).casefold() for i, label in model.config.id2label.items()}
    for number, label in labels.items():
        if label == name:
            return number
    raise ValueError(
        f"model: none of its classes ({', '.join(labels.values())}) is called {name}; take a model "
        "of natural language inference, such as " + NLI + "."
    )
