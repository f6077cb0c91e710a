"""What the steps of a run share within one process: models are loaded once, when first needed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, cached_property
from typing import NamedTuple

from gnuq.language_models import Loaded, load, texts
from gnuq.qa import benchmarks, embeddings, equivalence, judge_model
from gnuq.qa.benchmarks import Benchmark
from gnuq.qa.equivalence import Same
from gnuq.qa.settings import Run
from gnuq.scoring.examples import Encoder, Prompt
from gnuq.scoring.questions import asked


class Question(NamedTuple):
    """A question with its references.

    Attributes:
        question: the question.
        correct: accepted answers.
        incorrect: answers that are known to be wrong.
    """

    question: str
    correct: Sequence[str]
    incorrect: Sequence[str]


class Tools:
    """Models and questions of one run.

    Args:
        run: which.
    """

    def __init__(self, run: Run) -> None:
        self.run = run

    @cached_property
    def loaded(self) -> Loaded:
        """The model that answers."""
        run = self.run
        return load(
            run.model,
            revision=run.revision,
            quantisation=run.quantisation,
            dtype=run.dtype,
            device=run.device,
        )

    @cached_property
    def benchmark(self) -> Benchmark:
        """What is asked, and how it is judged."""
        return benchmarks.named(self.run.benchmark)

    @cached_property
    def questions(self) -> dict[str, Question]:
        """The benchmark's questions, by id."""
        table = self.benchmark.read().iloc[: self.run.limit]
        asked = zip(table["question"], table["correct"], table["incorrect"], strict=True)
        return {i: Question(*one) for i, one in zip(table["id"], asked, strict=True)}

    @cached_property
    def encoder(self) -> embeddings.Encoder:
        """The sentence encoder behind similarities."""
        return embeddings.sentence_encoder(self.run.device)

    @cached_property
    def judge(self) -> Loaded:
        """The model that judges; the one that answers, if it judges itself."""
        chosen = self.run.settings.judge
        same = chosen is None or chosen == self.run.model
        return self.loaded if same else load(chosen, device=self.run.device)

    @cached_property
    def same(self) -> Same:
        """How samples are found to mean the same."""
        settings = self.run.settings
        if settings.equivalence == "similarity":
            return equivalence.Similarity(self.encoder)
        if settings.equivalence == "entailment":
            return equivalence.entailment(settings.entailment, self.run.device)
        return judge_model.Judged(self.judge.model, self.judge.tokenizer)

    def prompt(self, question: str) -> tuple[int, ...]:
        """A question as the model is asked it, in token ids."""
        chat, loaded = self.run.settings.chat, self.loaded
        ends = frozenset(texts.ends(loaded.model, loaded.tokenizer))
        encoder = Encoder(loaded.tokenizer, chat=chat, ends=ends)
        worded: Prompt = asked({"question": question}, chat)[0]
        return encoder.prompt(worded)


@cache
def tools(run: Run) -> Tools:
    """The tools of a run, one set a process."""
    return Tools(run)
