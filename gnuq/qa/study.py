"""The runs of §4.2 and Appendix G that the book reports: three models, two benchmarks.

The paper's four models stand beside them as they would be run on one GPU; no machine has run them.
"""

from __future__ import annotations

from dataclasses import replace

from gnuq.qa.settings import Run

BENCHMARKS = ("truthfulqa", "triviaqa")
#: Model and precision by the name that records and figures give them.
MODELS: dict[str, Run] = {
    "smollm2-135m": Run("smollm2-135m", "", dtype="float32"),
    "smollm2-135m-nf4": Run("smollm2-135m", "", quantisation="nf4", dtype="float32"),
    "gemma-3-270m": Run("gemma-3-270m", "", dtype="float32"),
    "qwen2.5-coder-1.5b": Run("qwen2.5-coder-1.5b", "", dtype="float32", limit=500),
}
#: The paper's (G.1), quantised as it says, on the benchmarks whole.
PAPER: dict[str, Run] = {
    name: Run(name, "") for name in ("llama-2-7b-chat-awq", "llama-3.2-3b", "olmo-1b", "phi-4")
}
#: Steps whose records are there, in order, by (model, benchmark).
RECORDED: dict[tuple[str, str], tuple[str, ...]] = {
    ("smollm2-135m", "truthfulqa"): ("answers", "judged", "baselines", "scores"),
    ("smollm2-135m", "triviaqa"): ("answers", "judged", "baselines", "scores"),
    ("smollm2-135m-nf4", "truthfulqa"): ("answers", "judged", "baselines", "scores"),
    ("smollm2-135m-nf4", "triviaqa"): ("answers", "judged", "baselines", "scores"),
    ("gemma-3-270m", "truthfulqa"): ("answers", "judged", "baselines", "scores"),
    ("gemma-3-270m", "triviaqa"): ("answers", "judged", "baselines", "scores"),
    ("qwen2.5-coder-1.5b", "truthfulqa"): ("answers", "judged", "baselines", "scores"),
    ("qwen2.5-coder-1.5b", "triviaqa"): ("answers", "judged", "baselines", "scores"),
}
#: Runs of which every step is.
FINISHED = tuple(pair for pair, steps in RECORDED.items() if steps[-1] == "scores")


def run(model: str, benchmark: str) -> Run:
    """A run of the study.

    Args:
        model: a key of `MODELS` or `PAPER`.
        benchmark: one of `BENCHMARKS`.
    """
    return replace({**MODELS, **PAPER}[model], benchmark=benchmark)


def record(model: str, benchmark: str, step: str) -> str:
    """The name of a step's record."""
    return f"qa/{model}/{benchmark}/{step}"
