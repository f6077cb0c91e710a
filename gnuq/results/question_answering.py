"""Tables of §4.2 and Appendix G from the records of the question-answering runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import pandas as pd

from gnuq import artefacts
from gnuq.qa import evaluation, selective, significance, study, transfer
from gnuq.qa.columns import DIRECTION, uncertainty
from gnuq.qa.discrimination import given_length, plain_auroc
from gnuq.qa.evaluation import BASELINES, GRADIENT, PLAIN, for_each
from gnuq.qa.joined import counted, joined
from gnuq.qa.steps import STEPS

JOINED, DROPPED = "qa/joined", "qa-dropped"
#: Models in the precision they come in: a model and its quantised copy are not two models.
SEPARATE = tuple(name for name, run in study.MODELS.items() if not run.quantisation)
#: Further methods, a family of tests of their own beside the paper's eighteen.
FURTHER = (*GRADIENT, "T‖∇p̄‖²"), (*PLAIN, "Discrete semantic entropy")


def tables_of(model: str, benchmark: str, steps: Iterable[str] = STEPS) -> dict[str, pd.DataFrame]:
    """The records of one run, by step.

    Args:
        model: a key of the study.
        benchmark: likewise.
        steps: which; all, if omitted.
    """
    return {
        step: artefacts.load("records", study.record(model, benchmark, step)).frame
        for step in steps
    }


def collect() -> dict[str, pd.DataFrame]:
    """Every finished run, joined: one row a question that has everything, and what was left out.

    Returns:
        `joined`: model, benchmark, id, correct and the scores; `dropped`: model, benchmark,
        reason, questions, with the reason "evaluated" for those that are in.
    """
    kept, dropped = [], []
    for model, benchmark in study.FINISHED:
        told = {"model": model, "benchmark": benchmark}
        table, out = joined(study.run(model, benchmark), tables_of(model, benchmark))
        kept.append(pd.DataFrame(told, index=table.index).join(table))
        reasons = {"evaluated": len(table), **counted(out)}
        dropped += [{**told, "reason": why, "questions": n} for why, n in reasons.items()]
    return {"joined": pd.concat(kept, ignore_index=True), "dropped": pd.DataFrame(dropped)}


def aurocs(table: pd.DataFrame) -> pd.DataFrame:
    """Table 11: AUROC of every method, model by model, over 300 bootstrap runs.

    Args:
        table: the joined table.

    Returns:
        model, benchmark and what `evaluation.summary` tells of each method.
    """
    return for_each(table, lambda part: evaluation.summary(evaluation.bootstrap(part), part))


def averages(table: pd.DataFrame) -> pd.DataFrame:
    """Table 2: AUROC of every method, averaged over the separate models run by run.

    Args:
        table: the joined table.

    Returns:
        What `evaluation.averaged` tells of each method; n and correct, of all models together.
    """
    separate = _separate(table)
    found = evaluation.averaged(for_each(separate, evaluation.bootstrap))
    counts = separate.groupby("benchmark")["correct"].agg(n="size", correct="sum")
    return found.join(counts, on="benchmark")


def without_labels(table: pd.DataFrame) -> pd.DataFrame:
    """AUROC of every score as it stands, and among answers of equal length.

    Args:
        table: the joined table.

    Returns:
        model, benchmark, score, auroc, low, high, n, correct; given_length, the AUROC over pairs
        of equally long answers, and pairs, how many there are.
    """

    def of(part: pd.DataFrame) -> pd.DataFrame:
        within = {name: given_length(part, name) for name in DIRECTION}
        found = plain_auroc(part)
        return found.assign(
            given_length=[within[name].auroc for name in found["score"]],
            pairs=[within[name].pairs for name in found["score"]],
        )

    return for_each(table, of)


def tests(table: pd.DataFrame) -> pd.DataFrame:
    """Table 13: the paper's eighteen paired tests, and a second family against plain baselines.

    Args:
        table: the joined table.

    Returns:
        What `significance.paired_tests` gives, with a column family: "paper" or "further".
    """
    splits = for_each(_separate(table), evaluation.splits)
    families = {"paper": (GRADIENT, BASELINES), "further": FURTHER}
    parts = {name: significance.paired_tests(splits, *pair) for name, pair in families.items()}
    return pd.concat(parts, names=["family"]).reset_index("family").reset_index(drop=True)


def lifts(table: pd.DataFrame) -> pd.DataFrame:
    """What the epistemic estimate adds to the aleatoric one (G.7), and to p̄.

    Args:
        table: the joined table.
    """
    methods = evaluation.METHODS | {"Epi. & mean probability": ("epistemic", "mean_probability")}
    splits = for_each(_separate(table), lambda part: evaluation.splits(part, methods))
    pairs = (
        ("Epi. & alea.", "Aleatoric"),
        ("Epi. & alea. (log)", "Aleatoric"),
        ("Epi. & mean probability", "Mean probability"),
    )
    parts = [significance.lift(splits, one, other) for one, other in pairs]
    return pd.concat(parts, ignore_index=True)


def correlations(table: pd.DataFrame) -> pd.DataFrame:
    """Table 14: Spearman correlation of the epistemic estimate with P(True).

    Args:
        table: the joined table.
    """
    return significance.correlation_with_p_true(_separate(table))


def transfers(table: pd.DataFrame) -> pd.DataFrame:
    """Table 15: fitted on all models but one, evaluated on that one.

    Args:
        table: the joined table.

    Returns:
        What `transfer.leave_one_model_out` tells, with a column among: "models" for the separate
        ones, as in the paper; "copies" for one model in several precisions, where the estimate's
        scale hardly differs. A benchmark with one of either kind has no such rows.

    Raises:
        ValueError: no benchmark has two models or two copies.
    """
    family = table["model"].map(lambda name: study.MODELS[name].model)
    groups = [("models", _separate(table))]
    groups += [("copies", part) for _, part in table.groupby(family, sort=False)]
    rows = [
        transfer.leave_one_model_out(part).assign(among=among)
        for among, whole in groups
        for _, part in whole.groupby("benchmark", sort=False)
        if len(part["model"].unique()) > 1
    ]
    if not rows:
        raise ValueError("table: it has one model on each benchmark; leaving one out takes two.")
    return pd.concat(rows, ignore_index=True)


def selections(table: pd.DataFrame) -> pd.DataFrame:
    """How much answering only where a method is confident helps, and whether it is calibrated.

    Args:
        table: the joined table.

    Returns:
        model, benchmark, method; rejection, the prediction-rejection ratio; brier,
        brier_of_base_rate, ece and ece_if_calibrated of the fitted probability, cross-fitted; n.
        NaN but for n where fewer than two answers are correct, or wrong: nothing can be fitted.
    """
    undefined = ("rejection", "brier", "brier_of_base_rate", "ece", "ece_if_calibrated")

    def of(part: pd.DataFrame) -> pd.DataFrame:
        correct, rows = part["correct"].to_numpy(), []
        for method, columns in evaluation.METHODS.items():
            fitted = selective.crossfitted(part, columns)
            if np.isnan(fitted).any():
                rows.append({"method": method, **dict.fromkeys(undefined, np.nan), "n": len(part)})
                continue
            ratio = selective.prediction_rejection_ratio(correct, -fitted)
            told = selective.calibration(correct, fitted)
            rows.append({"method": method, "rejection": ratio, **told})
        return pd.DataFrame(rows)

    return for_each(table, of)


def coverage(table: pd.DataFrame, columns: tuple[str, ...] = tuple(DIRECTION)) -> pd.DataFrame:
    """Risk–coverage curves of raw scores: model, benchmark, score, coverage, risk.

    Args:
        table: the joined table.
        columns: scores.
    """

    def of(part: pd.DataFrame) -> pd.DataFrame:
        correct = part["correct"].to_numpy()
        curves = {
            name: selective.risk_coverage(correct, uncertainty(part, name)) for name in columns
        }
        return pd.concat(curves, names=["score"]).reset_index("score").reset_index(drop=True)

    return for_each(table, of)


def _separate(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["model"].isin(SEPARATE)].reset_index(drop=True)


#: Results that follow from the joined table, by name.
TABLES: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "table-2": averages,
    "table-11": aurocs,
    "table-13": tests,
    "table-14": correlations,
    "table-15": transfers,
    "qa-lift": lifts,
    "qa-plain": without_labels,
    "qa-selective": selections,
}
