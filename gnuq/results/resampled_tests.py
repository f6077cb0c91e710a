"""How often the paired tests of G.7 find a difference where there is none."""

from __future__ import annotations

import numpy as np
import pandas as pd

from gnuq.qa import evaluation, significance

#: What is simulated: data sets, models in each, answers of each model.
REPEATS, MODELS, ANSWERS = 500, 3, 400
LEVEL = 0.05
#: Columns of `significance.paired_tests` that hold a p-value, and what they are called.
TESTS = {"p": "paired t-test", "p_corrected": "corrected for shared answers"}


def qa_null(repeats: int = REPEATS, seed: int = 0) -> pd.DataFrame:
    """Rejections of a true null: two scores that know the same of the answers, but for noise.

    An answer is correct with probability σ(−z), z ~ N(0, 1); the two scores are z plus noise of
    variance 1 each, so neither is the better one. Each data set of three models with 400 answers
    goes through the ten splits and the tests of G.7.

    Args:
        repeats: data sets.
        seed: of all draws.

    Returns:
        test, rejected (the share of data sets with p < 0.05), error (standard, of that share),
        repeats, models, answers.

    Source:
        Appendix G.7; Nadeau & Bengio 2003, Machine Learning 52.
    """
    generator = np.random.default_rng(seed)
    found = pd.concat([_tested(generator) for _ in range(repeats)])
    rows = []
    for column, name in TESTS.items():
        share = float((found[column] < LEVEL).mean())
        error = float(np.sqrt(share * (1 - share) / repeats))
        rows.append({"test": name, "rejected": share, "error": error})
    return pd.DataFrame(rows).assign(repeats=repeats, models=MODELS, answers=ANSWERS)


def _tested(generator: np.random.Generator) -> pd.DataFrame:
    """The tests' p-values on one data set."""
    methods = {"one": ("one",), "other": ("other",)}
    parts = [
        evaluation.splits(_answers(generator), methods).assign(model=model, benchmark="simulated")
        for model in range(MODELS)
    ]
    return significance.paired_tests(pd.concat(parts), ("one",), ("other",))[[*TESTS]]


def _answers(generator: np.random.Generator) -> pd.DataFrame:
    z = generator.normal(size=ANSWERS)
    return pd.DataFrame(
        {
            "correct": generator.uniform(size=ANSWERS) < 1 / (1 + np.exp(z)),
            "one": z + generator.normal(size=ANSWERS),
            "other": z + generator.normal(size=ANSWERS),
        }
    )
