"""The tables of Appendix G as a page shows them: intervals, arrows and counts as text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from gnuq.figures import question_curves
from gnuq.qa import transfer
from gnuq.qa.evaluation import BASELINES
from gnuq.results.resampled_tests import LEVEL

BENCHMARKS = question_curves.BENCHMARKS | {"both": "both"}
ARROWS = {"better": "↑", "worse": "↓"}
MISSING = "–"
#: What the prose of G.7 says of Table 13, whose numbers are lost: (benchmark, method) → against
#: the naive entropy, the semantic entropy and P(True). It is silent where a place is empty.
STATED = {
    ("truthfulqa", "Aleatoric"): ("↑", "↑", "↑"),
    ("truthfulqa", "Epistemic"): ("↑", "=", "="),
    ("truthfulqa", "Epi. & alea."): ("↑", "↑", "↑"),
    ("triviaqa", "Aleatoric"): ("", "", "↓"),
    ("triviaqa", "Epistemic"): ("=", "↓", "↓"),
    ("triviaqa", "Epi. & alea."): ("", "", "↓"),
}
#: The columns of Table 15, and what we set beside them.
PAPER_VARIANTS = ("Raw", "Normalised", "Raw & alea.", "Normalised & alea.")
OUR_VARIANTS = ("Product & alea.", "Log raw & alea.", "Ranks & alea. ranks", "Aleatoric")


def interval(value: float, low: float, high: float, form: str = ".2f") -> str:
    """A number with its interval, or a dash."""
    if np.isnan(value):
        return MISSING
    return f"{value:{form}} ({low:{form}} to {high:{form}})"


def probability(p: float) -> str:
    """A p-value, never printed as nought."""
    return MISSING if np.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


def account(dropped: pd.DataFrame) -> pd.DataFrame:
    """What became of every question: rows are fates, columns models.

    Args:
        dropped: model, benchmark, reason, questions (`question_answering.collect`).
    """
    rows = dropped.assign(benchmark=dropped["benchmark"].map(BENCHMARKS))
    totals = rows.groupby(["model", "benchmark"], sort=False, as_index=False)["questions"].sum()
    rows = pd.concat([rows, totals.assign(reason="asked in all")])
    keys = ["benchmark", "reason"]
    wide = rows.pivot_table("questions", keys, "model", "sum", 0, sort=False).astype(int)
    place = {"evaluated": -1, "asked in all": 1}
    wide = wide.sort_index(
        level=1,
        key=lambda i: i.map(lambda why: place.get(why, 0)),
        kind="stable",
        sort_remaining=False,
    )
    return _ordered(wide).rename_axis(index=["benchmark", "fate"], columns=None)


def per_model(aurocs: pd.DataFrame) -> pd.DataFrame:
    """Table 11: mean AUROC (95 % of the runs), a row a benchmark and method, a column a model.

    Args:
        aurocs: what `question_answering.aurocs` returns.
    """
    keys = ["benchmark", "method"]
    counts = [
        f"{correct} of {n} answers"
        for correct, n in aurocs[["correct", "n"]].astype(int).to_numpy()
    ]
    first = aurocs.assign(shown=counts, method="correct").drop_duplicates([*keys, "model"])
    shown = aurocs.assign(shown=_intervals(aurocs, "mean"))
    rows = pd.concat([first, shown]).assign(benchmark=lambda t: t["benchmark"].map(BENCHMARKS))
    wide = rows.pivot_table("shown", keys, "model", sort=False, aggfunc="first").fillna(MISSING)
    return _ordered(wide).rename_axis(columns=None)


def verdict(direction: str, p: float) -> str:
    """An arrow where a difference is significant, else an equals sign."""
    return MISSING if np.isnan(p) else ARROWS.get(direction, "=") if p < LEVEL else "="


def significance(tests: pd.DataFrame, family: str = "paper") -> pd.DataFrame:
    """Table 13, one row a test: the difference, two adjusted p-values, and what the paper says.

    Args:
        tests: what `question_answering.tests` returns.
        family: "paper", its eighteen tests; or "further", those against plain baselines.
    """
    rows = tests[tests["family"] == family]
    shown = pd.DataFrame(
        {
            "benchmark": rows["benchmark"].map(BENCHMARKS),
            "method": rows["method"],
            "baseline": rows["baseline"],
            "difference": rows["difference"].map("{:+.3f}".format),
            "paired t-test": _judged(rows, "adjusted"),
            "corrected": _judged(rows, "adjusted_corrected"),
        }
    )
    if family == "paper":
        told = [stated(*key) for key in rows[["benchmark", "method", "baseline"]].to_numpy()]
        shown["the paper"] = [one or MISSING for one in told]
    return shown.set_index(["benchmark", "method", "baseline"])


def stated(benchmark: str, method: str, baseline: str) -> str:
    """What the paper's prose says of one test: ↑, ↓, =, or nothing."""
    known = STATED.get((benchmark, method), ("", "", ""))
    return dict(zip(BASELINES, known, strict=True)).get(baseline, "")


def _judged(rows: pd.DataFrame, column: str) -> list[str]:
    pairs = zip(rows["direction"], rows[column], strict=True)
    return [f"{verdict(way, p)} {probability(p)}" for way, p in pairs]


def lifts(table: pd.DataFrame) -> pd.DataFrame:
    """What the epistemic estimate adds, one row a benchmark and pair.

    Args:
        table: what `question_answering.lifts` returns.
    """
    shown = pd.DataFrame(
        {
            "benchmark": table["benchmark"].map(BENCHMARKS),
            "method": table["method"],
            "over": table["over"],
            "gain in AUROC": _intervals(table, "difference", "+.3f"),
            "p": table["p"].map(probability),
            "models that gain": [
                f"{k} of {n}" for k, n in table[["models_better", "models"]].to_numpy()
            ],
        }
    )
    return _ordered(shown.set_index(["benchmark", "method", "over"]))


def correlations(table: pd.DataFrame) -> pd.DataFrame:
    """Table 14: ρ (95 % interval), p and shared variance of the ranks.

    Args:
        table: what `question_answering.correlations` returns.
    """
    shown = pd.DataFrame(
        {
            "benchmark": table["benchmark"].map(BENCHMARKS),
            "model": table["model"],
            "n": table["n"],
            "ρ": _intervals(table, "rho"),
            "p": table["p"].map(probability),
            "shared": table["shared"].map("{:.1%}".format),
        }
    )
    return shown.set_index(["benchmark", "model"])


def transfers(table: pd.DataFrame, variants: Sequence[str], among: str = "models") -> pd.DataFrame:
    """Table 15, a row a benchmark and held-out model, mean and deviation below, a column a variant.

    Args:
        table: what `question_answering.transfers` returns.
        variants: names of `transfer.VARIANTS`.
        among: "models" or "copies".

    Returns:
        AUROCs as text; without rows if the table has none of that kind.
    """
    part = table[(table["among"] == among) & table["variant"].isin(variants)]
    keys, last = ["benchmark", "held_out"], "mean (deviation)"
    each = part.assign(shown=[_number(value) for value in part["auroc"]])
    means = transfer.over_models(part).assign(held_out=last)
    pairs = zip(means["mean"], means["deviation"], strict=True)
    means["shown"] = [f"{_number(m)} ({_number(d)})" for m, d in pairs]
    rows = pd.concat([each, means]).assign(benchmark=lambda t: t["benchmark"].map(BENCHMARKS))
    wide = rows.pivot_table("shown", keys, "variant", sort=False, aggfunc="first")
    wide = wide.reindex(columns=[*variants])
    return _ordered(wide).rename_axis(index=["benchmark", "held out"], columns=None)


def _number(value: float) -> str:
    return MISSING if np.isnan(value) else f"{value:.2f}"


def costs(table: pd.DataFrame) -> pd.DataFrame:
    """Table 12: seconds an answer (range over rounds) and multiples of the gradient norm's.

    Args:
        table: what `benchmarks/qa.py` measures.
    """
    shown = pd.DataFrame(
        {
            "method": table["method"],
            "seconds an answer": _intervals(table, "seconds", ".3f", "lowest", "highest"),
            "over the gradient norm": table["ratio"].map("{:.2f}".format),
        }
    )
    return shown.set_index("method")


def agreement(table: pd.DataFrame) -> pd.DataFrame:
    """The judge against verdicts by hand.

    Args:
        table: what `judging.agreements` returns.
    """
    shown = pd.DataFrame(
        {
            "benchmark": table["benchmark"].map(BENCHMARKS),
            "answers": table["n"],
            "agree": _intervals(table, "accuracy"),
            "Cohen's κ": table["kappa"].map("{:.2f}".format),
            "correct for the judge only": table["judge_only"],
            "by hand only": table["hand_only"],
            "left open": table["undecided"],
        }
    )
    return _ordered(shown.set_index("benchmark"))


def by_verdict(table: pd.DataFrame) -> pd.DataFrame:
    """AUROC (95 % interval) of raw scores, a row a score, two columns a benchmark.

    Args:
        table: what `judging.scores_by_hand` returns.
    """
    counts = table["correct"].astype(str) + " of " + table["n"].astype(str)
    first = table.assign(shown=counts, score="correct").drop_duplicates(["benchmark", "verdicts"])
    names = [question_curves.SCORES[score][0] for score in table["score"]]
    rows = pd.concat([first, table.assign(shown=_intervals(table, "auroc"), score=names)])
    rows["benchmark"] = rows["benchmark"].map(BENCHMARKS)
    heads = ["benchmark", "verdicts"]
    wide = rows.pivot_table("shown", "score", heads, sort=False, aggfunc="first")
    wide.columns.names = [None, None]
    return wide


def _ordered(table: pd.DataFrame) -> pd.DataFrame:
    """Benchmarks in the paper's order, rows within them as they are."""
    places = {name: place for place, name in enumerate(BENCHMARKS.values())}
    names = table.index.get_level_values(0)
    return table.iloc[np.argsort([places[name] for name in names], kind="stable")]


def _intervals(
    table: pd.DataFrame, value: str, form: str = ".2f", low: str = "low", high: str = "high"
) -> list[str]:
    rows = table[[value, low, high]].to_numpy(float)
    return [interval(x, x_low, x_high, form) for x, x_low, x_high in rows]
