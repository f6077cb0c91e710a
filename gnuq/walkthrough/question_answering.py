"""The chapter on §4.2: its tables."""

from __future__ import annotations

import pandas as pd

from gnuq import artefacts
from gnuq.figures.question_curves import BENCHMARKS, SCORES
from gnuq.qa.evaluation import BASELINES, GRADIENT, METHODS, PLAIN
from gnuq.results import question_answering as results
from gnuq.walkthrough.question_curves import within_length

#: Heading → methods, as tables and figures set them apart.
GROUPS = {
    "The paper’s baselines": BASELINES,
    "The paper’s methods": GRADIENT,
    "Plain baselines": PLAIN,
    "Variants": ("Discrete semantic entropy", "T‖∇p̄‖²", "Epi. & alea. (log)"),
}
AVERAGE = "Average of the models"
FITTED, RAW = "fitted, as in the paper", "as it stands"
#: Method → score, where a method is one score.
SINGLE = {name: columns[0] for name, columns in METHODS.items() if len(columns) == 1}
#: What the paper says of each method, its numbers being lost: TruthfulQA, TriviaQA.
SAID = {
    "P(True)": ("below the combined estimate", "“dominates”"),
    "Semantic entropy": ("below the combined estimate", "above the epistemic estimate"),
    "Naive entropy": ("below the combined estimate", "level with the epistemic estimate"),
    "Aleatoric": ("“competitive”, above all baselines", "below P(True)"),
    "Epistemic": ("above naive entropy only", "“near-chance”"),
    "Epi. & alea.": ("the highest", "below P(True)"),
}


def result(name: str) -> pd.DataFrame:
    """The saved table of this name."""
    return artefacts.load("results", name).frame


def joined() -> pd.DataFrame:
    """The joined table: one row an evaluated answer."""
    return artefacts.load("records", results.JOINED).frame


def models(table: pd.DataFrame) -> list[str]:
    """The models of a table that count in averages and tests: no quantised copies."""
    return [name for name in table["model"].unique() if name in results.SEPARATE]


def separate(name: str) -> pd.DataFrame:
    """A saved table's rows of the models that count in averages and tests."""
    told = result(name)
    return told[told["model"].isin(models(told))]


def counts() -> pd.DataFrame:
    """What became of every question, one row a run.

    Returns:
        Indexed by model and benchmark: questions, evaluated, share correct (of these), and one
        column for each reason to leave a question out.
    """
    told = result(results.DROPPED)
    index = ["model", "benchmark"]
    wide = told.pivot_table("questions", index, "reason", "sum", 0, sort=False).astype(int)
    evaluated = wide.pop("evaluated")
    share = joined().groupby(index)["correct"].mean().reindex(wide.index)
    head = {
        "questions": wide.sum(axis=1) + evaluated,
        "evaluated": evaluated,
        "share correct": share,
    }
    return pd.DataFrame(head).join(wide).rename(index=BENCHMARKS, level="benchmark")


def table_2() -> pd.DataFrame:
    """Table 2: AUROC averaged over models (deviation over runs), the paper's words beside it."""
    own = result("table-2").set_index(["method", "benchmark"])
    rows = {}
    for head, methods in GROUPS.items():
        for method in methods:
            row = {}
            for place, (key, benchmark) in enumerate(BENCHMARKS.items()):
                row[f"{benchmark}, ours"] = _spread(own, method, key)
                row[f"{benchmark}, the paper"] = SAID.get(method, ("–", "–"))[place]
            rows[head, method] = row
    return pd.DataFrame(rows).T


def _spread(own: pd.DataFrame, method: str, benchmark: str) -> str:
    if (method, benchmark) not in own.index:
        return "–"
    mean, deviation = (own[name][method, benchmark] for name in ("mean", "deviation"))
    return f"{mean:.3f} ± {deviation:.3f}"


def intervals() -> pd.DataFrame:
    """AUROCs for the figure: the average first, then every model, fitted and as scores stand.

    Returns:
        model, benchmark, method, series, value, low, high.
    """
    fitted = result("table-11").rename(columns={"mean": "value"}).assign(series=FITTED)
    scores = {score: method for method, score in SINGLE.items()}
    plain = result("qa-plain").rename(columns={"auroc": "value"})
    plain = plain.assign(series=RAW, method=plain["score"].map(scores))
    means = result("table-2").rename(columns={"mean": "value"})
    half = 1.96 * means["deviation"]
    means = means.assign(model=AVERAGE, series=FITTED, low=means["value"] - half)
    parts = [means.assign(high=means["value"] + half)] if len(models(fitted)) > 1 else []
    columns = ["model", "benchmark", "method", "series", "value", "low", "high"]
    return pd.concat([part[columns] for part in (*parts, fitted, plain)], ignore_index=True)


def lengths() -> pd.DataFrame:
    """AUROC of raw scores over all pairs, and over pairs of equally long answers, for the figure.

    Returns:
        As `intervals`.
    """
    scores = {score: method for method, score in SINGLE.items() if method != "Length"}
    found = {
        "all pairs": result("qa-plain").rename(columns={"auroc": "value"}),
        "equally long answers": within_length(joined()),
    }
    parts = [part.assign(series=name) for name, part in found.items()]
    table = pd.concat(parts, ignore_index=True)
    kept = table[table["score"].isin(scores)]
    kept = kept.assign(method=kept["score"].map(scores))
    return kept[["model", "benchmark", "method", "series", "value", "low", "high"]]


def by_score() -> pd.DataFrame:
    """AUROC of every raw score, sign fixed: lowest to highest of the separate models.

    Returns:
        Indexed by score; for each benchmark all pairs, and equally long answers.
    """
    told = separate("qa-plain")
    kinds = {"auroc": "all pairs", "given_length": "equally long"}
    rows: dict[str, dict[tuple[str, str], str]] = {}
    for (score, benchmark), part in told.groupby(["score", "benchmark"], sort=False):
        row = rows.setdefault(SCORES[str(score)][0], {})
        for column, head in kinds.items():
            row[BENCHMARKS[str(benchmark)], head] = span(part[column], ".2f")
    return pd.DataFrame(rows).T


def selections() -> pd.DataFrame:
    """What fitted probabilities are good for: lowest to highest of the separate models.

    Returns:
        Indexed by method; for each benchmark the prediction–rejection ratio, and the gain in
        Brier score over the share of correct answers as everyone's probability.
    """
    told = separate("qa-selective")
    kinds = {
        "rejection ratio": (told["rejection"], "+.2f"),
        "Brier gain": (brier_gain(told), "+.1%"),
    }
    rows: dict[str, dict[tuple[str, str], str]] = {}
    for (method, benchmark), part in told.groupby(["method", "benchmark"], sort=False):
        row = rows.setdefault(str(method), {})
        for head, (column, form) in kinds.items():
            row[BENCHMARKS[str(benchmark)], head] = span(column[part.index], form)
    return pd.DataFrame(rows).T


def brier_gain(told: pd.DataFrame) -> pd.Series:
    """The gain in Brier score over the base rate, of rows of `qa-selective`."""
    gain: pd.Series = 1 - told["brier"] / told["brier_of_base_rate"]
    return gain


def span(found: pd.Series, form: str) -> str:
    """Lowest to highest as printed, or the one value that both are."""
    ends = dict.fromkeys(f"{end:{form}}" for end in (found.min(), found.max()))
    return " to ".join(ends)
