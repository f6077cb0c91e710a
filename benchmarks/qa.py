"""What each score of §4.2 costs per answer, once the answer is there (Appendix G.6, Table 12).

    GNUQ_DATA=... python benchmarks/qa.py
    GNUQ_DATA=... python benchmarks/qa.py --model llama-3.2-3b --device cuda

Every method gets the same questions in batches as large as suit it; what several methods need (the
ten samples) is timed once and told apart. The rows:

    gradient norm      one forward and one backward pass for each answer (`gnuq.score`)
    forward pass       p̄, log p̄ and Σ p (1 − p): what the norm's batch costs without its gradient
    samples            ten sampled answers a question: the naive entropy is an average of them
    semantic entropy   the samples, and sorting them by meaning with a sentence encoder
    P(True) alone      asking the model, its demonstrations read once for all questions
    P(True)            the same with the samples that its prompt shows

Times are medians of rounds, each of which runs everything once. They depend on the machine: read
the ratios to the gradient norm.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd
import torch

from gnuq.language_models import generate
from gnuq.qa import p_true
from gnuq.qa.equivalence import clusters
from gnuq.qa.settings import Run
from gnuq.qa.tools import Tools
from gnuq.scoring import Example, passes, score

QUESTIONS, ROUNDS, THREADS = 24, 3, 2


def seconds(call: Callable[[], Any]) -> tuple[float, Any]:
    """How long a call takes, and what it returns."""
    began = time.perf_counter()
    found = call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began, found


def forward(model: Any, examples: Sequence[Example], batch: int) -> None:
    """The answers' log-probabilities, no gradient."""
    for start in range(0, len(examples), batch):
        part = passes.Batch.of(model, examples[start : start + batch])
        objective = passes.Objective(part, "mean_probability")
        with torch.no_grad(), passes.logits_at(model, part.before):
            objective(model(**part.inputs))


def one_round(own: Tools, asked: Mapping[str, Any]) -> dict[str, float]:
    """Seconds of every part, all questions together."""
    loaded, settings = own.loaded, own.run.settings
    model, tokenizer = loaded.model, loaded.tokenizer
    prompts, answers, texts = asked["prompts"], asked["answers"], asked["texts"]
    norm, _ = seconds(lambda: score(model, tokenizer, prompts, answers))
    examples = [Example(tuple(p), tuple(a)) for p, a in zip(prompts, answers, strict=True)]
    plain, _ = seconds(lambda: forward(model, examples, 8))
    sampling, drawn = seconds(
        lambda: generate(
            loaded,
            tokenizer,
            prompts,
            temperature=settings.temperature,
            top_p=settings.top_p,
            top_k=settings.top_k,
            samples=settings.samples,
            seed=0,
            batch_size=8 * settings.samples,
        )
    )
    n = settings.samples
    samples = [
        [one.text.strip() for one in drawn[k * n : (k + 1) * n] if one.text.strip()]
        for k in range(len(prompts))
    ]
    sorting, _ = seconds(
        lambda: [clusters(q, s, own.same) for q, s in zip(asked["questions"], samples, strict=True)]
    )
    claims = list(zip(asked["questions"], samples, texts, strict=True))
    shown = [p_true.Demonstration(*claim, k % 2 == 0) for k, claim in enumerate(claims[:10])]
    asking, _ = seconds(lambda: p_true.believed(model, tokenizer, shown, claims))
    return {
        "gradient norm": norm,
        "forward pass": plain,
        "samples": sampling,
        "semantic entropy": sampling + sorting,
        "P(True) alone": asking,
        "P(True)": sampling + asking,
    }


def measure(model: str = "smollm2-135m", device: str = "cpu") -> pd.DataFrame:
    """One row a method: seconds per answer, median and spread over rounds, and ratio to ours."""
    torch.set_num_threads(THREADS)
    own = Tools(Run(model, "truthfulqa", device=device, limit=QUESTIONS))
    questions = [one.question for one in own.questions.values()]
    prompts = [own.prompt(question) for question in questions]
    given = generate(own.loaded, own.loaded.tokenizer, prompts)
    kept = [k for k, one in enumerate(given) if one.ids]
    asked = {
        "questions": [questions[k] for k in kept],
        "prompts": [prompts[k] for k in kept],
        "answers": [given[k].ids for k in kept],
        "texts": [given[k].text for k in kept],
    }
    own.same("a question", "one", ["two"])  # the encoder is loaded
    rounds = [one_round(own, asked) for _ in range(ROUNDS)]
    rows = []
    for method in rounds[0]:
        times = [found[method] / len(kept) for found in rounds]
        ratios = [found[method] / found["gradient norm"] for found in rounds]
        rows.append(
            {
                "model": model,
                "method": method,
                "seconds": statistics.median(times),
                "lowest": min(times),
                "highest": max(times),
                "ratio": statistics.median(ratios),
                "answers": len(kept),
            }
        )
    return pd.DataFrame(rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    print(measure(options.model, options.device).to_string(index=False))
