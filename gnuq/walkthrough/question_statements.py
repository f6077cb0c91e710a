"""What §4.2 says of its experiments, and what comes out here."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from gnuq.figures.question_curves import BENCHMARKS
from gnuq.qa.evaluation import BASELINES, GRADIENT
from gnuq.qa.significance import POOLED_RANKS
from gnuq.walkthrough.question_answering import models, result

#: Of the tests, after Benjamini–Hochberg.
LEVEL = 0.05
#: A share of variance below this is weak.
WEAK = 0.1


def statements() -> pd.DataFrame:
    """What §4.2 says, and what comes out here.

    Returns:
        Indexed by benchmark and statement: here, in numbers; reading: "agrees", "disagrees", or
        "undecided" where the difference is not significant by the corrected test.
    """
    rows = [*_highest(), *_tested(), *_every_model(), *_lifted(), *_shared()]
    found = pd.DataFrame(rows, columns=["", "the paper says", "here", "reading"])
    return found.sort_values("", ascending=False, kind="stable").set_index(["", "the paper says"])


def _highest() -> Iterator[tuple[str, str, str, str]]:
    said = {"triviaqa": "P(True)", "truthfulqa": "Epi. & alea."}
    for key, part in result("table-2").groupby("benchmark", sort=False):
        own = part.set_index("method")["mean"]
        best = str(own[[*BASELINES, *GRADIENT]].idxmax())
        other = said[str(key)]
        here = f"{best} is highest, {own[best]:.3f}; {other} has {own[other]:.3f}"
        reading = "agrees" if best == other else "disagrees"
        yield BENCHMARKS[str(key)], f"{other} has the highest AUROC", here, reading


def _tested() -> Iterator[tuple[str, str, str, str]]:
    """The significant differences that §4.2 reports, by both tests."""
    tests = result("table-13")
    tests = tests[tests["family"] == "paper"]
    families = (
        ("truthfulqa", tests["method"] == "Epi. & alea.", 1, "Epi. & alea. beats every baseline"),
        ("truthfulqa", tests["method"] == "Aleatoric", 1, "Aleatoric beats every baseline"),
        ("triviaqa", tests["baseline"] == "P(True)", -1, "P(True) beats every gradient method"),
    )
    for key, chosen, sign, statement in families:
        part = tests[chosen & (tests["benchmark"] == key)]
        if part.empty:
            continue
        right = sign * part["difference"] > 0
        significant = right & (part["adjusted"] < LEVEL)
        sure = right & (part["adjusted_corrected"] < LEVEL)
        against = ~right & (part["adjusted_corrected"] < LEVEL)
        here = (
            f"{right.sum()} of {len(part)} differences have that sign; {significant.sum()} are "
            f"significant by the paper’s test, {sure.sum()} by the corrected one"
        )
        reading = "agrees" if sure.all() else "disagrees" if against.any() else "undecided"
        yield BENCHMARKS[key], f"{statement}, significantly", here, reading


def _every_model() -> Iterator[tuple[str, str, str, str]]:
    said = {
        "truthfulqa": "Epi. & alea. is at least on par with the best baseline for every model",
        "triviaqa": "Epi. & alea. is behind the best baseline for three of four models",
    }
    table = result("table-11")
    own = table[table["model"].isin(models(table))]
    for key, part in own.groupby("benchmark", sort=False):
        wide = part.pivot_table("mean", "model", "method")
        ahead = wide["Epi. & alea."] >= wide[list(BASELINES)].max(axis=1)
        here = f"it is ahead for {ahead.sum()} of {len(ahead)} models"
        as_said = ahead.all() if key == "truthfulqa" else ahead.mean() < 0.5
        reading = "agrees" if as_said else "disagrees"
        yield BENCHMARKS[str(key)], said[str(key)], here, reading


def _lifted() -> Iterator[tuple[str, str, str, str]]:
    said = {"truthfulqa": "significantly", "triviaqa": "but not significantly"}
    lifts = result("qa-lift")
    for row in lifts[lifts["method"] == "Epi. & alea."].to_dict("records"):
        statement = f"the epistemic term adds to the aleatoric one, {said[row['benchmark']]}"
        here = (
            f"{row['difference']:+.3f} (95 % interval {row['low']:+.3f} to {row['high']:+.3f}), "
            f"a gain for {row['models_better']} of {row['models']} models"
        )
        clear = row["low"] > 0 or row["high"] < 0
        reading = "disagrees" if row["high"] < 0 else "agrees" if row["low"] > 0 else "undecided"
        if row["benchmark"] == "triviaqa":
            reading = "disagrees" if clear else "agrees"
        yield BENCHMARKS[row["benchmark"]], statement, here, reading


def _shared() -> Iterator[tuple[str, str, str, str]]:
    table = result("table-14")
    pooled = table[table["model"] == POOLED_RANKS]
    for row in pooled.to_dict("records"):
        here = f"ρ = {row['rho']:.2f}, {row['shared']:.0%} shared"
        reading = "agrees" if row["rho"] < 0 and row["shared"] < WEAK else "disagrees"
        statement = "‖∇p̄‖² and P(True) correlate negatively and weakly"
        yield BENCHMARKS[row["benchmark"]], statement, here, reading
