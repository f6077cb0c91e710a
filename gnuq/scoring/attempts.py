"""Scores of examples of which some may fail: each by its own key, with its own reason."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import pandas as pd

from gnuq.scoring import models
from gnuq.scoring.examples import Example, ExampleError
from gnuq.scoring.exclusive import exclusive
from gnuq.scoring.settings import Settings
from gnuq.scoring.task import Row, collected

Key = TypeVar("Key", int, str)


def attempted(
    model: Any, tokenizer: Any, examples: Mapping[Key, Example], settings: Settings
) -> tuple[pd.DataFrame, dict[Key, str]]:
    """Score what can be scored; where a batch fails, its answers are tried one by one.

    Args:
        model: the model.
        tokenizer: its tokenizer.
        examples: by any key.
        settings: how to score.

    Returns:
        `Scores.to_frame` of those that succeeded, indexed by key in the order given; and why the
        others have no score.
    """
    with exclusive(model):
        return _attempted(model, tokenizer, examples, settings)


def _attempted(
    model: Any, tokenizer: Any, examples: Mapping[Key, Example], settings: Settings
) -> tuple[pd.DataFrame, dict[Key, str]]:
    wrong = {}
    keys = list(examples)
    for i, reason in models.fits(model, list(examples.values())).items():
        wrong[keys[i]] = reason
    keys = [key for key in keys if key not in wrong]
    task = settings.task(model)
    rows: dict[int, Row] = {}
    for i, found in task.attempts([examples[key] for key in keys]):
        if isinstance(found, ExampleError):
            wrong[keys[i]] = found.reason
        else:
            rows[i] = found
    if not rows:
        return pd.DataFrame(), wrong
    order = sorted(rows)
    scores = collected(
        task,
        tokenizer,
        [examples[keys[i]] for i in order],
        [rows[i] for i in order],
        settings.params,
    )
    return scores.to_frame().set_axis([keys[i] for i in order]), wrong
