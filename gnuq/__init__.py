"""Uncertainty from gradient norms: the computation behind the book.

    scores = gnuq.score(model, tokenizer, prompts, answers)   # a language model's answers
    wrong = gnuq.calibrate(scores, labels)                     # from scores to probabilities

`gnuq.estimators` has the paper's equations, one function each, for any model; `gnuq.gradnorm` the
exact per-example squared gradient norms, in one backward pass, behind them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gnuq.scoring import Calibration, Scores, calibrate, score

__all__ = ["Calibration", "Scores", "calibrate", "score"]


def __getattr__(name: str) -> Any:
    """Import what is asked for, when it is: the command line must start quickly."""
    if name in __all__:
        return getattr(import_module("gnuq.scoring"), name)
    raise AttributeError(f"module 'gnuq' has no attribute {name!r}")
