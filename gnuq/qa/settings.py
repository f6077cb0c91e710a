"""What one run of the question-answering experiments decides beforehand (§4.2, Appendix G)."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import Any, Literal

Equivalence = Literal["similarity", "entailment", "judge"]


@dataclass(frozen=True)
class Settings:
    """How questions are asked, answers judged, and samples compared.

    The numbers of Farquhar et al. (2024), whose protocol the paper follows.

    Attributes:
        samples: further answers, for the entropies and P(True).
        temperature: of the samples.
        top_p: sample from the likeliest tokens that together have this probability.
        top_k: sample from this many likeliest tokens.
        answer_temperature: of the answer that is judged and scored; 0 is greedy.
        max_new_tokens: the longest answer.
        chat: ask in the model's chat template.
        judge: a model that judges the answers; None for the benchmark's own criterion.
        equivalence: how samples are found to mean the same.
        entailment: the model that does so, for `equivalence="entailment"`.
        demonstrations: questions that P(True) is shown with their labels; they leave the
            evaluation.
        seed: of sampling, and of the choice of demonstrations.
    """

    samples: int = 10
    temperature: float = 1.0
    top_p: float = 0.9
    top_k: int = 50
    answer_temperature: float = 0.1
    max_new_tokens: int = 50
    chat: bool = False
    judge: str | None = None
    equivalence: Equivalence = "similarity"
    entailment: str = "microsoft/deberta-large-mnli"
    demonstrations: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("samples", 2), ("max_new_tokens", 1), ("demonstrations", 2)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}: {getattr(self, name)} is below {least}.")
        if self.temperature <= 0:
            raise ValueError("temperature: it must be above 0; at 0 all samples are the same.")
        if self.equivalence not in ("similarity", "entailment", "judge"):
            raise ValueError(
                f"equivalence: {self.equivalence!r} is none of similarity, entailment, judge."
            )


@dataclass(frozen=True)
class Run:
    """One model on one benchmark.

    Attributes:
        model: a name of the registry, a folder, a GGUF file, or a repository on the hub.
        benchmark: a name of `benchmarks.BENCHMARKS`, or a file.
        quantisation: as for `gnuq.language_models.load`.
        dtype: likewise.
        revision: likewise.
        device: likewise; it does not change what a run is.
        limit: the first questions only; None for all.
        settings: everything else.
    """

    model: str
    benchmark: str
    quantisation: str | None = None
    dtype: str | None = None
    revision: str | None = None
    device: str | None = None
    limit: int | None = None
    settings: Settings = Settings()

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 5:
            raise ValueError(
                f"limit: {self.limit} is below 5; some questions become demonstrations of P(True)."
            )

    @property
    def configuration(self) -> dict[str, Any]:
        """Everything that was decided beforehand, as JSON-able values."""
        told = asdict(self)
        del told["device"]
        return told

    def demonstrations(self, questions: int) -> int:
        """How many questions P(True) is shown: at most a fifth of all."""
        return min(self.settings.demonstrations, questions // 5)

    def draw(self, *what: str) -> int:
        """A seed of its own for each part of the run."""
        told = " ".join((str(self.settings.seed), *what)).encode()
        return int.from_bytes(hashlib.sha256(told).digest()[:4], "big")
