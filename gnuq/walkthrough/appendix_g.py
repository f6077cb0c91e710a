"""Appendix G: what the tables say of the paper's sentences, and numbers for ours."""

from __future__ import annotations

import numpy as np
import pandas as pd

from gnuq import artefacts, paper
from gnuq.display import grouped
from gnuq.qa import study, transfer
from gnuq.qa.evaluation import BASELINES, PLAIN
from gnuq.qa.significance import POOLED, POOLED_RANKS
from gnuq.results import answer_tables as shown
from gnuq.results import judging
from gnuq.results import question_answering as answering

#: What the discussion of Table 11 compares.
COMBINED, ALEATORIC, EPISTEMIC = "Epi. & alea.", "Aleatoric", "Epistemic"
#: The p-values of Table 13 by the names that sentences give them.
TESTS = {"t": "adjusted", "corrected": "adjusted_corrected"}
#: Timings of Table 12, and how the names of their numbers begin.
COSTS = {"table-12": "cost", "table-12-gpu": "gpu"}


def saved(name: str) -> pd.DataFrame:
    """A result of the question-answering runs, such as "table-11"."""
    return artefacts.load("results", name).frame


def joined() -> pd.DataFrame:
    """Every evaluated answer of every finished run, with its scores."""
    return artefacts.load("records", answering.JOINED).frame


def printed_counts() -> pd.DataFrame:
    """The numbers of questions that survive in the paper's Table 14."""
    rows = paper.items()["table-14"].printed
    return pd.DataFrame(rows).T.rename(index=shown.BENCHMARKS)


def fate_of_single_features(transfers: pd.DataFrame, plain: pd.DataFrame) -> pd.DataFrame:
    """Of held-out AUROCs with the epistemic estimate alone: the model's own, or one minus it?

    Args:
        transfers: Table 15.
        plain: `question_answering.without_labels`, of the same answers.

    Returns:
        Of each row of Table 15 with one feature: benchmark, held_out, variant, among, auroc, own
        (the score's raw AUROC), fate: "as it is", "turned around" or "other"; and as it is where
        both are the same. Rows without an AUROC are left out.
    """
    alone = [k for k, v in transfer.VARIANTS.items() if len(v) == 1 and v[0] != "aleatoric"]
    own = plain[plain["score"] == "epistemic"].rename(columns={"model": "held_out", "auroc": "own"})
    rows = transfers[transfers["variant"].isin(alone)].dropna(subset=["auroc"])
    rows = rows.merge(own[["held_out", "benchmark", "own"]], on=["held_out", "benchmark"])
    same, flipped = (np.isclose(rows["auroc"], x) for x in (rows["own"], 1 - rows["own"]))
    fate = np.select([same, flipped], ["as it is", "turned around"], "other")
    return rows[["benchmark", "held_out", "variant", "among", "auroc", "own"]].assign(fate=fate)


def values() -> dict[str, str]:
    """Every number of the chapter's sentences, by name, ready to print."""
    found = [_runs(), _judge(), _per_model(), _costs(), _tests(), _lifts(), _p_true(), _transfer()]
    numbers = {name: text for part in found for name, text in part.items()}
    # until a benchmark is finished its numbers are dashes
    other = {name.replace("truthfulqa", "triviaqa") for name in numbers}
    return dict.fromkeys(other, shown.MISSING) | numbers


def _runs() -> dict[str, str]:
    dropped = saved(answering.DROPPED)
    asked = dropped.groupby(["model", "benchmark"])["questions"].sum()
    left = dropped[dropped["reason"] != "evaluated"]
    worst = (left.groupby(["model", "benchmark"])["questions"].sum() / asked).max()
    finished = dict.fromkeys(model for model, _ in study.FINISHED)
    return {
        "separate": str(sum(name in answering.SEPARATE for name in finished)),
        "separate_names": ", ".join(name for name in finished if name in answering.SEPARATE),
        "asked": grouped(asked.sum()),
        "left_out": grouped(left["questions"].sum()),
        "left_out_most": f"{worst:.0%}",
    }


def _judge() -> dict[str, str]:
    table = judging.agreements().set_index("benchmark")
    uses = judging.by_hand()["use"].value_counts()
    found = {
        "hand_n": str(uses.sum()),
        "hand_checked": str(uses["check"]),
        "hand_chosen": str(uses.get("threshold", 0)),
    }
    for name, row in table.iterrows():
        found |= {
            f"hand_{name}": shown.interval(row["accuracy"], row["low"], row["high"], ".0%"),
            f"hand_{name}_kappa": f"{row['kappa']:.2f}",
            f"hand_{name}_judge": str(int(row["judge_only"])),
            f"hand_{name}_hand": str(int(row["hand_only"])),
        }
    return found


def _per_model() -> dict[str, str]:
    """Of Table 11: how often the paper's orderings hold, and where plain baselines stand."""
    table = saved("table-11")
    separate = table[table["model"].isin(answering.SEPARATE)]
    wide = separate.pivot_table("mean", ["benchmark", "model"], "method")
    ahead = pd.DataFrame(
        {
            "ahead": wide[COMBINED] >= wide[[*BASELINES]].max(axis=1),
            "plain": wide[[*PLAIN]].max(axis=1) >= wide[COMBINED],
            "alea": wide[ALEATORIC] >= wide[EPISTEMIC],
        }
    )
    found = {
        f"{column}_{name}": f"{int(told.sum())} of {len(told)}"
        for column in ahead
        for name, told in ahead[column].groupby(level="benchmark")
    }
    width = (separate["high"] - separate["low"]).median()
    return found | {"width": f"{width:.2f}"}


def _costs() -> dict[str, str]:
    """Of Table 12, on the processor (`cost_…`) and on a GPU (`gpu_…`)."""
    found = {}
    for name, prefix in COSTS.items():
        table, told = saved(name), artefacts.provenance("results", name)
        for method, ratio in zip(table["method"], table["ratio"], strict=True):
            found[f"{prefix}_{method}"] = f"{ratio:.1f}"
        found[f"{prefix}_model"] = str(table["model"].iloc[0])
        found[f"{prefix}_answers"] = str(table["answers"].iloc[0])
        device = told["device"]
        found[f"{prefix}_machine"] = told["machine"] if device == "cpu" else device
    return found


def _tests() -> dict[str, str]:
    """Of Table 13: agreement with what the paper's prose states, and the tests' own errors."""
    rows = saved("table-13")
    rows = rows[rows["family"] == "paper"].dropna(subset=["p"])
    told = [shown.stated(*k) for k in rows[["benchmark", "method", "baseline"]].to_numpy()]
    rows = rows.assign(stated=told)
    stated = rows[rows["stated"] != ""]
    found = {"tests": str(len(rows)), "stated": str(len(stated))}
    for name, column in TESTS.items():
        ours = [shown.verdict(*pair) for pair in stated[["direction", column]].to_numpy()]
        found[f"agree_{name}"] = str(int((stated["stated"] == ours).sum()))
        found[f"significant_{name}"] = str(int((rows[column] < shown.LEVEL).sum()))
    null = saved("qa-null").set_index("test")
    for name, (_, row) in zip(TESTS, null.iterrows(), strict=True):
        found |= {
            f"null_{name}": f"{row['rejected']:.0%}",
            f"null_{name}_error": f"{row['error']:.1%}",
        }
    return found | {"null_repeats": grouped(null["repeats"].iloc[0])}


def _lifts() -> dict[str, str]:
    table = saved("qa-lift")
    rows = table[(table["method"] == COMBINED) & (table["over"] == ALEATORIC)]
    found = {}
    for row in rows.to_dict("records"):
        name = f"lift_{row['benchmark']}"
        found[name] = shown.interval(row["difference"], row["low"], row["high"], "+.3f")
        found[f"{name}_p"] = shown.probability(row["p"])
        found[f"{name}_models"] = f"{row['models_better']} of {row['models']}"
    return found


def _p_true() -> dict[str, str]:
    table = saved("table-14")
    each = table[~table["model"].isin((POOLED, POOLED_RANKS))]
    found = {
        "negative": f"{int((each['rho'] < 0).sum())} of {len(each)}",
        "surely_negative": f"{int((each['high'] < 0).sum())} of {len(each)}",
        "surely_positive": f"{int((each['low'] > 0).sum())} of {len(each)}",
        "rho_low": f"{each['rho'].min():.2f}",
        "rho_high": f"{each['rho'].max():.2f}",
    }
    for short, name in (("pooled", POOLED), ("ranks", POOLED_RANKS)):
        for row in table[table["model"] == name].to_dict("records"):
            found[f"{short}_{row['benchmark']}"] = f"{row['rho']:.2f}"
            found[f"{short}_{row['benchmark']}_shared"] = f"{row['shared']:.1%}"
    return found


def _transfer() -> dict[str, str]:
    table, plain = saved("table-15"), saved("qa-plain")
    fates = fate_of_single_features(table, plain)
    found: dict[str, str] = {}
    for among in ("models", "copies"):
        part = table[(table["among"] == among) & table["variant"].isin(shown.PAPER_VARIANTS)]
        known = part.dropna(subset=["auroc"])
        fate = fates.loc[fates["among"] == among, "fate"]
        found |= {
            f"{among}_chance": f"{int((known['auroc'] <= 0.5).sum())} of {len(known)}",
            f"{among}_same": str(int((fate == "as it is").sum())),
            f"{among}_turned": str(int((fate == "turned around").sum())),
            f"{among}_other": str(int((fate == "other").sum())),
        }
    return found
