"""Logistic regressions that predict correctness from scores, by AUROC: Table 2, Table 11.

Everything takes the joined table (`gnuq.qa.columns`). `relative` and `scale_free` are multiples of
`epistemic` within one model, so they rank its answers alike and are no methods here; between
models they differ (`gnuq.qa.transfer`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from gnuq.qa.columns import LOG, features, labels, require
from gnuq.qa.discrimination import auroc

#: Printed name → the logistic regression's features. The paper does not say how its two features
#: are scaled; standardised and otherwise as they are is our reading, "(log)" the alternative.
METHODS: dict[str, tuple[str, ...]] = {
    "P(True)": ("p_true",),
    "Semantic entropy": ("semantic_entropy",),
    "Discrete semantic entropy": ("discrete_semantic_entropy",),
    "Naive entropy": ("naive_entropy",),
    "Aleatoric": ("aleatoric",),
    "Epistemic": ("epistemic",),
    "Epi. & alea.": ("epistemic", "aleatoric"),
    "Epi. & alea. (log)": (f"{LOG}epistemic", "aleatoric"),
    "T‖∇p̄‖²": ("length_free",),
    "Length": ("length",),
    "Mean probability": ("mean_probability",),
    "Mean log-probability": ("mean_log_probability",),
}
#: The paper's own methods, and what it compares them with.
GRADIENT = ("Aleatoric", "Epistemic", "Epi. & alea.")
BASELINES = ("Naive entropy", "Semantic entropy", "P(True)")
#: What costs nothing beyond the answer itself.
PLAIN = ("Length", "Mean probability", "Mean log-probability")
#: The share of the answers that a split holds out.
TEST = 0.2


def bootstrap(
    frame: pd.DataFrame,
    methods: Mapping[str, Sequence[str]] = METHODS,
    runs: int = 300,
    seed: int = 0,
) -> pd.DataFrame:
    """AUROC of fitted methods: trained on a bootstrap sample, tested on the answers left out.

    The paper says "300 bootstrap runs" and no more; testing out of the bag is our reading.

    Args:
        frame: the joined table of one model and benchmark.
        methods: name → features.
        runs: resamples, the same ones for every method.
        seed: of the resamples.

    Returns:
        method, run, auroc; NaN where training or test answers are all correct or all wrong.

    Raises:
        ValueError: a column is missing, a feature is not finite, or several models or benchmarks.

    Source:
        §4.2 and Appendix G.3.
    """
    generator, every = np.random.default_rng(seed), np.arange(len(frame))
    drawn = (generator.integers(len(frame), size=len(frame)) for _ in range(runs))
    resamples = ((train, np.setdiff1d(every, train)) for train in drawn)
    return _evaluated(frame, methods, resamples, "run")


def splits(
    frame: pd.DataFrame,
    methods: Mapping[str, Sequence[str]] = METHODS,
    count: int = 10,
    test: float = TEST,
    seed: int = 0,
) -> pd.DataFrame:
    """AUROC of fitted methods on random splits into training and test answers.

    Args:
        frame: the joined table of one model and benchmark.
        methods: name → features.
        count: of splits, the same ones for every method, with equal shares of correct answers.
        test: share of the answers that is tested on.
        seed: of the splits.

    Returns:
        method, split, auroc; NaN where there are too few correct or wrong answers to split.

    Raises:
        ValueError: a column is missing, a feature is not finite, or several models or benchmarks.

    Source:
        Appendix G.7 (10 random splits, 80/20).
    """
    correct = labels(frame)
    rarer = min(correct.sum(), len(correct) - correct.sum())
    none = np.array([], int)
    resamples: Iterable[tuple[np.ndarray, np.ndarray]] = [(none, none)] * count
    if rarer >= 2 and len(correct) * min(test, 1 - test) >= 2:
        drawn = StratifiedShuffleSplit(count, test_size=test, random_state=seed)
        resamples = drawn.split(correct[:, None], correct)
    return _evaluated(frame, methods, resamples, "split")


def _evaluated(
    frame: pd.DataFrame,
    methods: Mapping[str, Sequence[str]],
    resamples: Iterable[tuple[np.ndarray, np.ndarray]],
    name: str,
) -> pd.DataFrame:
    for column in {"model", "benchmark"} & set(frame):
        if len(frame[column].unique()) > 1:
            raise ValueError(f"frame: several in {column!r}; use for_each, or pick one.")
    correct = labels(frame)
    inputs = {method: features(frame, columns) for method, columns in methods.items()}
    rows = [
        (method, number, held_out(x[train], correct[train], x[test], correct[test]))
        for number, (train, test) in enumerate(resamples)
        for method, x in inputs.items()
    ]
    return pd.DataFrame(rows, columns=["method", name, "auroc"])


def held_out(
    x: np.ndarray, correct: np.ndarray, x_test: np.ndarray, correct_test: np.ndarray
) -> float:
    """AUROC on test answers of a logistic regression fitted to the training answers.

    With one feature the fit decides only the direction: the loss, minimised over the intercept, is
    convex in the slope with derivative −Σ(y − ȳ)x at 0, so the slope has the covariance's sign.

    Args:
        x: shape (n, features), to train on.
        correct: shape (n,), truth values.
        x_test: shape (m, features).
        correct_test: shape (m,).

    Returns:
        NaN where either set of labels is all correct or all wrong.
    """
    if min(len(set(given.tolist())) for given in (correct, correct_test)) < 2:
        return float("nan")
    if x.shape[1] == 1:
        # a centred feature, so that rounding of a large mean does not decide
        slope = np.sign((x[:, 0] - x[:, 0].mean()) @ (correct - correct.mean()))
        return auroc(correct_test, slope * x_test[:, 0])
    fitted = classifier().fit(x, correct)
    return auroc(correct_test, fitted.decision_function(x_test))


def classifier() -> Pipeline:
    """Logistic regression on standardised features, scikit-learn's default penalty."""
    return make_pipeline(StandardScaler(), LogisticRegression())


def summary(runs: pd.DataFrame, frame: pd.DataFrame) -> pd.DataFrame:
    """Mean and spread of each method's AUROC over runs.

    Args:
        runs: what `bootstrap` (or `splits`) returns.
        frame: what it was given.

    Returns:
        One row a method: method, mean, deviation (standard), low and high (2.5 and 97.5
        percentiles), defined (runs with an AUROC), n, correct. NaN where no run has one.
    """
    correct = labels(frame)
    grouped = runs.groupby("method", sort=False)["auroc"]
    found = pd.DataFrame(
        {
            "mean": grouped.mean(),
            "deviation": grouped.std(),
            "low": grouped.quantile(0.025),
            "high": grouped.quantile(0.975),
            "defined": grouped.count(),
        }
    )
    return found.assign(n=len(correct), correct=int(correct.sum())).reset_index()


def for_each(
    joined: pd.DataFrame, evaluate: Callable[[pd.DataFrame], pd.DataFrame]
) -> pd.DataFrame:
    """A function of one model and benchmark, applied to each: `for_each(joined, bootstrap)`.

    Returns:
        The tables below each other, with columns model and benchmark before their own.

    Raises:
        ValueError: the table has no column model or benchmark, or no row.
    """
    require(joined, ("model", "benchmark"))
    keys = ["model", "benchmark"]
    parts = {key: evaluate(part) for key, part in joined.groupby(keys, sort=False)}
    return pd.concat(parts, names=keys).reset_index(keys).reset_index(drop=True)


def averaged(runs: pd.DataFrame) -> pd.DataFrame:
    """Table 2: AUROC averaged over models, run by run.

    Args:
        runs: `for_each(joined, bootstrap)`.

    Returns:
        benchmark, method, mean, deviation (standard, over runs of the models' average), between
        (standard deviation of the models' means), models (with an AUROC).

    Raises:
        ValueError: a column is missing.
    """
    require(runs, ("model", "benchmark", "method", "run", "auroc"))
    keys = ["benchmark", "method"]
    over_runs = runs.groupby([*keys, "run"], sort=False)["auroc"].mean().groupby(keys, sort=False)
    of_models = runs.groupby([*keys, "model"], sort=False)["auroc"].mean().groupby(keys, sort=False)
    found = over_runs.agg(mean="mean", deviation="std")
    found["mean"] = of_models.mean()
    return found.assign(between=of_models.std(), models=of_models.count()).reset_index()
