"""Parallel work: what is finished is handed on, and a failure names its experiment."""

from __future__ import annotations

import pandas as pd
import pytest

from gnuq.pipeline import comparisons
from gnuq.protocol import Experiment

CHOSEN = [Experiment("line", seed=seed) for seed in range(4)]


def work(experiment: Experiment) -> tuple[pd.DataFrame]:
    if experiment.seed == 2:
        raise ValueError("no such luck")
    return (pd.DataFrame({"seed": [experiment.seed]}),)


def test_a_failure_names_its_experiment_after_the_rest_is_handed_on() -> None:
    found: list[int] = []

    def collect() -> None:
        for experiment, _ in comparisons.in_parallel(work, CHOSEN):
            found.append(experiment.seed)

    with pytest.raises(RuntimeError, match="hmc/line/unit-1/seed-2: ValueError: no such luck"):
        collect()
    assert {0, 1} <= set(found)
    assert 2 not in found


def test_significant_digits_round_numbers_and_leave_the_rest() -> None:
    frame = pd.DataFrame({"a": [1.23456789, 0.000123456789], "b": ["x", "y"], "n": [1, 2]})
    found = comparisons.significant(frame)
    assert found["a"].tolist() == [1.23457, 0.000123457]
    assert found["b"].tolist() == ["x", "y"]
