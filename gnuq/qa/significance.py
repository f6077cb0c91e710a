"""Which differences are more than chance? Appendix G.7 (Table 13) and G.8 (Table 14)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import false_discovery_control, norm, spearmanr, t, ttest_rel

from gnuq.qa.columns import features, require
from gnuq.qa.evaluation import BASELINES, GRADIENT, TEST

#: The rows of Table 14 over all models: raw values as the paper pools them, and ranks.
POOLED, POOLED_RANKS = "Pooled", "Pooled, ranks within models"


def paired_tests(
    splits: pd.DataFrame,
    ours: Sequence[str] = GRADIENT,
    baselines: Sequence[str] = BASELINES,
    test: float = TEST,
) -> pd.DataFrame:
    """Paired t-tests over splits, AUROC averaged over models; Benjamini–Hochberg over this call.

    One call is one family: the defaults give the paper's 18 tests on two benchmarks, further
    methods belong in a call of their own. Splits of the same answers share training answers, so
    their differences are not independent and `p` is too small (Nadeau & Bengio 2003, Machine
    Learning 52); `p_corrected` is their corrected resampled t-test, which multiplies the variance
    of the mean by 1 + k · test / (1 − test) for k splits.

    Args:
        splits: `for_each(joined, splits)`: model, benchmark, method, split, auroc.
        ours: methods.
        baselines: what each is compared with.
        test: share of the answers that a split tests on.

    Returns:
        One row a test: benchmark, method, baseline, difference (mean of method − baseline),
        direction (better, worse, equal), t, p, adjusted, p_corrected, adjusted_corrected, models
        and splits (that count: those with an AUROC). NaN with fewer than two splits, or where the
        difference is the same in all; such a test does not count in the family.

    Raises:
        ValueError: a column or a method is missing.

    Source:
        Appendix G.7, Table 13.
    """
    table = _wide(splits, (*ours, *baselines))
    rows = [
        {"benchmark": benchmark, "method": method, "baseline": baseline}
        | _paired_t(part[[method, baseline]].dropna(), test)
        for benchmark, part in table.groupby("benchmark", sort=False)
        for method in ours
        for baseline in baselines
    ]
    found = pd.DataFrame(rows)
    found.insert(7, "adjusted", _benjamini_hochberg(found["p"]))
    found.insert(9, "adjusted_corrected", _benjamini_hochberg(found["p_corrected"]))
    return found


def lift(
    splits: pd.DataFrame,
    method: str = "Epi. & alea.",
    over: str = "Aleatoric",
    resamples: int = 10_000,
    seed: int = 0,
) -> pd.DataFrame:
    """Paired bootstrap of what one method adds to another, paired by model and split.

    The pairs are resampled as if they were independent, as the paper does; the splits of a model
    share their answers, so interval and p are too small (`paired_tests` with these two methods has
    the corrected test). It says nothing of other models: see how many of these gain.

    Args:
        splits: `for_each(joined, splits)`: model, benchmark, method, split, auroc.
        method: the one.
        over: the other.
        resamples: of the pairs.
        seed: of the resamples.

    Returns:
        One row a benchmark: benchmark, method, over, difference (mean), low, high (95 % percentile
        interval), p (two-sided), pairs, models, models_better (with a mean difference above 0).

    Raises:
        ValueError: a column or a method is missing.

    Source:
        Appendix G.7.
    """
    generator, rows = np.random.default_rng(seed), []
    for benchmark, part in _wide(splits, (method, over)).groupby("benchmark", sort=False):
        differences = (part[method] - part[over]).dropna()
        row = {"benchmark": benchmark, "method": method, "over": over}
        row |= _bootstrapped(differences.to_numpy(), resamples, generator)
        each = differences.groupby("model").mean()
        rows.append(row | {"models": len(each), "models_better": int((each > 0).sum())})
    return pd.DataFrame(rows)


def correlation_with_p_true(joined: pd.DataFrame) -> pd.DataFrame:
    """Spearman correlation of the epistemic estimate with P(True).

    Pooled over models' raw values as in the paper, and over ranks within models beside it: a
    squared gradient norm has another scale in each model, and models differ in P(True), so the
    raw pooled correlation mixes differences between models with those between answers.

    Args:
        joined: the joined table, any models and benchmarks.

    Returns:
        model (or "Pooled", "Pooled, ranks within models"), benchmark, n, rho, p, low, high (95 %,
        Fisher's z with the variance (1 + ρ²/2)/(n − 3) of Bonett & Wright 2000, Psychometrika 65),
        shared (ρ²). NaN where a column is constant, or with fewer than four answers.

    Raises:
        ValueError: a column is missing, or a score is not finite.

    Source:
        Appendix G.8, Table 14.
    """
    require(joined, ("model", "benchmark"))
    joined = joined.reset_index(drop=True)  # tables below each other may repeat row labels
    pair = pd.DataFrame(features(joined, ("epistemic", "p_true")))
    ranks = pair.groupby([joined["benchmark"], joined["model"]]).rank(pct=True)
    rows = []
    for benchmark, part in joined.groupby("benchmark", sort=False):
        for model, own in part.groupby("model", sort=False):
            rows.append({"model": model, "benchmark": benchmark} | _spearman(pair.loc[own.index]))
        for name, values in ((POOLED, pair), (POOLED_RANKS, ranks)):
            rows.append({"model": name, "benchmark": benchmark} | _spearman(values.loc[part.index]))
    return pd.DataFrame(rows)


def _wide(splits: pd.DataFrame, methods: Sequence[str]) -> pd.DataFrame:
    """A row a benchmark, model and split, a column a method."""
    require(splits, ("model", "benchmark", "method", "split", "auroc"))
    missing = [name for name in methods if name not in set(splits["method"])]
    if missing:
        raise ValueError(f"splits: no method {missing[0]!r}; give it to `splits`, or leave it out.")
    keys = ["benchmark", "model", "split"]
    return splits.pivot_table("auroc", keys, "method", sort=False, dropna=False)


def _paired_t(pair: pd.DataFrame, test: float) -> dict[str, float | str]:
    """The t-test of the first column against the second, averaged over models within splits."""
    means = pair.groupby("split").mean()
    ours, theirs = means.iloc[:, 0].to_numpy(), means.iloc[:, 1].to_numpy()
    difference, count = ours - theirs, len(means)
    mean = float(difference.mean()) if count else float("nan")
    statistic = p = corrected = float("nan")
    if count > 1 and np.ptp(difference) > 0:
        statistic, p = map(float, ttest_rel(ours, theirs))
        widened = statistic / np.sqrt(1 + count * test / (1 - test))
        corrected = float(2 * t.sf(abs(widened), count - 1))
    directions = {1.0: "better", -1.0: "worse", 0.0: "equal"}
    return {
        "difference": mean,
        "direction": directions.get(float(np.sign(mean)), "undefined"),
        "t": statistic,
        "p": p,
        "p_corrected": corrected,
        "models": pair.index.get_level_values("model").nunique(),
        "splits": count,
    }


def _benjamini_hochberg(p: pd.Series) -> pd.Series:
    """Adjusted p-values of those that are defined."""
    known = p.dropna()
    adjusted = false_discovery_control(known) if len(known) else known
    return pd.Series(adjusted, known.index, dtype=float).reindex(p.index)


def _bootstrapped(
    differences: np.ndarray, resamples: int, generator: np.random.Generator
) -> dict[str, float]:
    """Mean difference, percentile interval, two-sided p; NaN without a pair."""
    count = len(differences)
    means = np.full(1, np.nan)
    if count:
        means = differences[generator.integers(count, size=(resamples, count))].mean(1)
    # the observed sample counts as one of the resamples, so that p is never 0
    tail = (1 + min((means <= 0).sum(), (means >= 0).sum())) / (1 + resamples)
    low, high = np.quantile(means, [0.025, 0.975])
    return {
        "difference": float(differences.mean()) if count else float("nan"),
        "low": float(low),
        "high": float(high),
        "p": min(1.0, 2 * float(tail)) if count else float("nan"),
        "pairs": count,
    }


def _spearman(pair: pd.DataFrame) -> dict[str, float]:
    """ρ of two columns, its p-value and 95 % interval."""
    count, rho, p, low, high = len(pair), *[float("nan")] * 4
    if count > 3 and pair.nunique().min() > 1:
        rho, p = map(float, spearmanr(pair.iloc[:, 0], pair.iloc[:, 1]))
        half = norm.ppf(0.975) * np.sqrt((1 + rho**2 / 2) / (count - 3))
        with np.errstate(divide="ignore"):  # the interval of ρ = ±1 is a point
            low, high = np.tanh(np.arctanh(rho) + np.array([-half, half]))
    return {"n": count, "rho": rho, "p": p, "low": low, "high": high, "shared": rho**2}
