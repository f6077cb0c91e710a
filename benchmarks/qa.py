"""What each score of §4.2 costs per answer, once the answer is there (Appendix G.6, Table 12).

    GNUQ_DATA=... python -m gnuq record table-12     # writes data/results/table-12.csv
    GNUQ_DATA=... python benchmarks/qa.py --model llama-3.2-3b --device cuda

Every method gets the same questions in batches; what several methods need (the ten samples) is
timed once and told apart. The rows:

    gradient norm      one forward and one backward pass for each answer (`gnuq.score`, whose check
                       of one answer a batch is left out, as it is when the records are made)
    forward pass       p̄, log p̄ and Σ p (1 − p): what the norm costs without its gradient
    naive entropy      ten sampled answers a question: the entropy is an average over them
    semantic entropy   the same, and sorting them by meaning with a sentence encoder
    P(True) alone      asking the model, its demonstrations read once for all questions
    P(True)            the same with the samples that its prompt shows

Times are medians of rounds, each of which runs everything once, after two questions that are not
counted. They depend on the machine: read the ratios to the gradient norm.
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
#: Answers that the forward pass takes together, and questions whose samples are drawn together.
BATCH = 8


def seconds(call: Callable[[], Any]) -> tuple[float, Any]:
    """How long a call takes, and what it returns."""
    began = time.perf_counter()
    found = call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began, found


def forward(model: Any, examples: Sequence[Example]) -> None:
    """The answers' log-probabilities, no gradient; answers of like length together."""
    ordered = sorted(examples, key=len)
    for start in range(0, len(ordered), BATCH):
        part = passes.Batch.of(model, ordered[start : start + BATCH])
        objective = passes.Objective(part, "mean_probability")
        with torch.no_grad(), passes.logits_at(model, part.before, part.length):
            objective(model(**part.inputs))


def sampled(own: Tools, prompts: Sequence[tuple[int, ...]]) -> list[list[str]]:
    """Every question's samples, as texts, blank ones left out."""
    settings = own.run.settings
    drawn = generate(
        own.loaded,
        own.loaded.tokenizer,
        prompts,
        temperature=settings.temperature,
        top_p=settings.top_p,
        top_k=settings.top_k,
        samples=settings.samples,
        seed=0,
        batch_size=BATCH * settings.samples,
    )
    texts, n = [one.text.strip() for one in drawn], settings.samples
    return [[text for text in texts[k * n : (k + 1) * n] if text] for k in range(len(prompts))]


def believed(own: Tools, claims: Sequence[tuple[str, list[str], str]]) -> None:
    """P(True) of every answer, behind ten demonstrations, whose marks do not matter here."""
    shown = [p_true.Demonstration(*claim, k % 2 == 0) for k, claim in enumerate(claims[:10])]
    p_true.believed(own.loaded.model, own.loaded.tokenizer, shown, claims)


def one_round(own: Tools, asked: Mapping[str, list[Any]]) -> dict[str, float]:
    """Seconds of every method, all questions together."""
    model, tokenizer = own.loaded.model, own.loaded.tokenizer
    questions, prompts, answers = asked["questions"], asked["prompts"], asked["answers"]
    examples = [Example(tuple(p), tuple(a)) for p, a in zip(prompts, answers, strict=True)]
    norm, _ = seconds(lambda: score(model, tokenizer, prompts, answers, verify=False))
    plain, _ = seconds(lambda: forward(model, examples))
    sampling, samples = seconds(lambda: sampled(own, prompts))
    pairs = list(zip(questions, samples, strict=True))
    sorting, _ = seconds(lambda: [clusters(q, texts, own.same) for q, texts in pairs])
    claims = list(zip(questions, samples, asked["texts"], strict=True))
    asking, _ = seconds(lambda: believed(own, claims))
    return {
        "gradient norm": norm,
        "forward pass": plain,
        "naive entropy": sampling,
        "semantic entropy": sampling + sorting,
        "P(True) alone": asking,
        "P(True)": sampling + asking,
    }


def measure(
    model: str = "smollm2-135m", device: str = "cpu", questions: int = QUESTIONS
) -> pd.DataFrame:
    """One row a method: seconds per answer, median and range over rounds, and ratio to ours."""
    torch.set_num_threads(THREADS)
    own = Tools(Run(model, "truthfulqa", device=device))
    asked = to_time(own, questions)
    one_round(own, {name: told[:2] for name, told in asked.items()})  # models loaded, memory taken
    rounds = [one_round(own, asked) for _ in range(ROUNDS)]
    return summarised(rounds, len(asked["texts"])).assign(model=model)


def to_time(own: Tools, count: int) -> dict[str, list[Any]]:
    """The first questions of the benchmark whose answers have a token, with these answers."""
    questions = [one.question for one in own.questions.values()][:count]
    prompts = [own.prompt(question) for question in questions]
    given = generate(own.loaded, own.loaded.tokenizer, prompts)
    kept = [k for k, one in enumerate(given) if one.ids]
    return {
        "questions": [questions[k] for k in kept],
        "prompts": [prompts[k] for k in kept],
        "answers": [given[k].ids for k in kept],
        "texts": [given[k].text for k in kept],
    }


def summarised(rounds: Sequence[Mapping[str, float]], answers: int) -> pd.DataFrame:
    """Rounds to rows: method, seconds (per answer), lowest, highest, ratio, answers."""
    rows = []
    for method in rounds[0]:
        times = [found[method] / answers for found in rounds]
        ratios = [found[method] / found["gradient norm"] for found in rounds]
        rows.append(
            {
                "method": method,
                "seconds": statistics.median(times),
                "lowest": min(times),
                "highest": max(times),
                "ratio": statistics.median(ratios),
                "answers": answers,
            }
        )
    return pd.DataFrame(rows).round(4)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--questions", type=int, default=QUESTIONS)
    options = parser.parse_args()
    print(measure(options.model, options.device, options.questions).to_string(index=False))
