"""Numbers and names for the sentences of the chapter on §4.2."""

from __future__ import annotations

import pandas as pd

from gnuq.display import grouped
from gnuq.figures.question_curves import BENCHMARKS
from gnuq.language_models import find
from gnuq.qa import study
from gnuq.qa.evaluation import BASELINES, GRADIENT, PLAIN
from gnuq.walkthrough import question_answering as tables


def values() -> dict[str, str]:
    """Every number and name of the chapter's sentences, ready to print."""
    names = tables.models(tables.joined())
    found = {"models": ", ".join(names), "count": str(len(names))}
    found |= _sizes() | _best() | _raw() | _by_size() | _selective()
    # until a benchmark is finished its numbers are dashes
    other = [name.replace("truthfulqa", "triviaqa") for name in found]
    return dict.fromkeys(other, "–") | found


def _sizes() -> dict[str, str]:
    found = {"answers": grouped(len(tables.joined()))}
    told = tables.counts()
    left_out = (told["questions"] - told["evaluated"]).sum() / told["questions"].sum()
    found["left_out"] = f"{left_out:.1%}"
    titles = {benchmark: key for key, benchmark in BENCHMARKS.items()}
    for benchmark, part in told.groupby(level="benchmark", sort=False):
        key = titles[str(benchmark)]
        found |= _range(f"{key}_correct", part["share correct"], ".0%")
        found |= {
            f"{key}_n_low": grouped(part["evaluated"].min()),
            f"{key}_n_high": grouped(part["evaluated"].max()),
        }
    return found


def _best() -> dict[str, str]:
    """Of the averages: the best method of each group, and its AUROC."""
    found: dict[str, str] = {}
    groups = {"baseline": BASELINES, "gradient": GRADIENT, "plain": PLAIN}
    for key, part in tables.result("table-2").groupby("benchmark", sort=False):
        own = part.set_index("method")["mean"]
        for name, methods in groups.items():
            best = str(own[list(methods)].idxmax())
            found |= {f"{key}_{name}": best, f"{key}_{name}_auroc": f"{own[best]:.2f}"}
        for method, short in {"Epi. & alea.": "combined", "P(True)": "p_true"}.items():
            found[f"{key}_{short}"] = f"{own[method]:.2f}"
        found |= _range(f"{key}_deviation", part["deviation"], ".2f")
    return found


def _raw() -> dict[str, str]:
    """Raw scores over models: range, how many intervals cover chance, what equal length leaves."""
    found: dict[str, str] = {}
    told = tables.separate("qa-plain")
    for (key, name), part in told.groupby(["benchmark", "score"], sort=False):
        chance = (part["low"] <= 0.5) & (part["high"] >= 0.5)
        found[f"{key}_{name}_chance"] = f"{chance.sum()} of {len(part)}"
        found |= _range(f"{key}_{name}", part["auroc"], ".2f")
        found |= _range(f"{key}_{name}_given", part["given_length"], ".2f")
    ranks = tables.joined().groupby(["model", "benchmark"])[["length", "epistemic", "length_free"]]
    rho = ranks.corr("spearman")["length"]
    for name in ("epistemic", "length_free"):
        found |= _range(f"rank_{name}", rho.xs(name, level=-1), ".2f")
    return found


def _by_size() -> dict[str, str]:
    """Raw AUROCs from the smallest model to the largest."""
    told = tables.separate("qa-plain")
    sizes = {name: find(run.model).parameters for name, run in study.MODELS.items()}
    ordered = told.sort_values("model", key=lambda names: names.map(sizes), kind="stable")
    return {
        f"{benchmark}_{score}_by_size": ", ".join(part["auroc"].map("{:.2f}".format))
        for (benchmark, score), part in ordered.groupby(["benchmark", "score"])
    }


def _selective() -> dict[str, str]:
    """Runs in which a fitted probability is better than everyone's base rate, by any method."""
    told = tables.separate("qa-selective")
    gain = tables.brier_gain(told)
    most = told.iloc[int(gain.to_numpy().argmax())]
    return {
        "brier_most": f"{gain.max():.0%}",
        "brier_median": f"{gain.median():.1%}",
        "brier_method": str(most["method"]),
        "brier_run": f"{most['model']} on {BENCHMARKS[most['benchmark']]}",
        "brier_worse": f"{(gain < 0).sum()} of {len(gain)}",
    } | _range("rejection", told["rejection"], ".2f")


def _range(name: str, found: pd.Series, form: str) -> dict[str, str]:
    ends = {f"{name}_low": f"{found.min():{form}}", f"{name}_high": f"{found.max():{form}}"}
    return ends | {f"{name}_range": tables.span(found, form)}
