"""Tables from the records of the default language model: sequences, layers, precisions."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from gnuq import artefacts
from gnuq.scoring.calibration import held_out_predictions, reliability_curve

MODEL = "smollm2-135m"
#: What no `.grad` holds in a quantised model, and what it does.
HELD = {False: "packed weights", True: ".grad"}


def _record(name: str) -> pd.DataFrame:
    return artefacts.load("records", name).frame


def answers() -> pd.DataFrame:
    """The reference record: one row an answer, its scores and its token ids."""
    return _record(f"scores/{MODEL}-float32")


def sums() -> pd.DataFrame:
    """Answers to small sums: scores, token ids, and whether each is correct."""
    return _record(f"calibration/{MODEL}-sums")


def tokens() -> pd.DataFrame:
    """One row a token of prompt and answer, as `Scores.by_token` gives them."""
    return _record(f"sequences/{MODEL}-tokens")


def sequences() -> pd.DataFrame:
    """One row an answer: ‖∇p̄‖² beside the average of its tokens' norms.

    Returns:
        By id: length T; epistemic, ‖∇p̄‖²; token_average, (1/T) Σ_t ‖∇p_t‖²; length_free,
        T ‖∇p̄‖²; diagonal, the share of ‖∇p̄‖² that the tokens' own norms make,
        token_average / length_free, and cross, the rest; prompt, the share of the prompt's
        positions; and p̄, its logarithm's mean, aleatoric and the other objectives' norms.
    """
    table = tokens()
    answer = table[table["part"] == "answer"].groupby("id")
    found = pd.DataFrame(
        {
            "length": answer.size(),
            "epistemic": table.groupby("id")["share"].sum(),
            "token_average": answer["squared_norm"].mean(),
            "mean_probability": answer["probability"].mean(),
            "aleatoric": answer["aleatoric"].mean(),
        }
    )
    found["length_free"] = found["length"] * found["epistemic"]
    found["diagonal"] = found["token_average"] / found["length_free"]
    found["cross"] = 1 - found["diagonal"]
    at_prompt = table[table["part"] == "prompt"].groupby("id")["position_share"].sum()
    found["prompt"] = at_prompt / found["epistemic"]
    others = _record(f"sequences/{MODEL}-objectives").set_index("id")
    return found.join(others)


def cosines() -> pd.DataFrame:
    """cos(∇p_t, ∇p_s) for every pair t < s of tokens of a few answers.

    Returns:
        id, t, s, distance s − t, cosine.
    """
    table = _record(f"sequences/{MODEL}-products")
    own = table[table["t"] == table["s"]].set_index(["id", "t"])["inner_product"]
    first = own.loc[list(zip(table["id"], table["t"], strict=True))].to_numpy()
    second = own.loc[list(zip(table["id"], table["s"], strict=True))].to_numpy()
    table = table.assign(
        cosine=table["inner_product"] / np.sqrt(first * second), distance=table["s"] - table["t"]
    )
    return table[table["t"] < table["s"]].drop(columns="inner_product").reset_index(drop=True)


def products(question: int) -> np.ndarray:
    """⟨∇p_t, ∇p_s⟩ of one answer, shape (T, T)."""
    table = _record(f"sequences/{MODEL}-products")
    part = table[table["id"] == question]
    return part.pivot_table("inner_product", "t", "s").to_numpy()


def rank_correlations(table: pd.DataFrame, names: dict[str, str]) -> pd.DataFrame:
    """Spearman correlations between columns.

    Args:
        table: one row an answer.
        names: column → its label.
    """
    matrix = spearmanr(table[list(names)]).statistic
    return pd.DataFrame(matrix, index=list(names.values()), columns=list(names.values()))


def layers() -> pd.DataFrame:
    """The mean share of every layer and kind of module, over answers; they sum to one."""
    table = _record(f"sequences/{MODEL}-layers")
    table["share"] = table["epistemic"] / table.groupby("id")["epistemic"].transform("sum")
    count = table["id"].nunique()
    sums = table.groupby(["layer", "kind"], sort=False)["share"].sum() / count
    return sums.reset_index()


def precisions() -> pd.DataFrame:
    """One row an answer and precision.

    Returns:
        id, precision, total (every weight), held (what `.grad` would hold), share = held / total,
        ratio = total over that in float32.
    """
    table = _record(f"quantisation/{MODEL}")
    total = table.groupby(["precision", "id"], sort=False)["epistemic"].sum()
    held = table[table["held"]].groupby(["precision", "id"], sort=False)["epistemic"].sum()
    found = pd.DataFrame({"total": total, "held": held}).reset_index()
    reference = found[found["precision"] == "float32"].set_index("id")["total"]
    found["share"] = found["held"] / found["total"]
    found["ratio"] = found["total"] / found["id"].map(reference)
    found["reference"] = found["id"].map(reference)
    return found


def precision_summary() -> pd.DataFrame:
    """One row a precision: how the norms compare with float32, and what `.grad` holds."""
    rows = {}
    for name, part in precisions().groupby("precision", sort=False):
        low, middle, high = part["ratio"].quantile([0.05, 0.5, 0.95])
        rows[name] = {
            "ratio, 5 %": low,
            "median": middle,
            "95 %": high,
            "Spearman with float32": spearmanr(part["total"], part["reference"]).statistic,
            ".grad holds, median": part["share"].median(),
            ".grad, Spearman with all": spearmanr(part["held"], part["total"]).statistic,
        }
    return pd.DataFrame(rows).T.rename_axis("precision")


def kinds(precision: str) -> pd.DataFrame:
    """The mean share of every kind of module in one precision, and whether `.grad` holds it."""
    table = _record(f"quantisation/{MODEL}")
    part = table[table["precision"] == precision].copy()
    part["share"] = part["epistemic"] / part.groupby("id")["epistemic"].transform("sum")
    count = part["id"].nunique()
    sums = part.groupby(["kind", "held"], sort=False)["share"].sum() / count
    return sums.reset_index().assign(where=lambda x: x["held"].map(HELD))


def reliability(*features: str, bins: int = 8) -> pd.DataFrame:
    """The held-out reliability curve of a fit to all sums; see `Calibration.reliability`.

    Args:
        features: the scores that enter.
        bins: number of bins.
    """
    table = sums()
    values = np.log(table[list(features)].to_numpy())
    wrong = ~table["correct"].to_numpy()
    return reliability_curve(held_out_predictions(values, wrong), wrong, bins)


def sums_auroc(draws: int = 1000) -> pd.DataFrame:
    """Area under the ROC curve of each score for "this sum is wrong", with bootstrap intervals.

    Args:
        draws: bootstrap samples of the questions.
    """
    from sklearn.metrics import roc_auc_score

    table = sums()
    wrong = ~table["correct"].to_numpy()
    random = np.random.default_rng(0)
    drawn = random.integers(len(table), size=(draws, len(table)))
    samples = [s for s in drawn if 0 < wrong[s].sum() < len(s)]
    rows = {}
    for name, sign in {"epistemic": 1, "aleatoric": 1, "mean_probability": -1, "length": 1}.items():
        score = sign * table[name].to_numpy()
        areas = [roc_auc_score(wrong[s], score[s]) for s in samples]
        low, high = np.quantile(areas, [0.025, 0.975])
        rows[name] = {"AUROC": roc_auc_score(wrong, score), "2.5 %": low, "97.5 %": high}
    return pd.DataFrame(rows).T.rename_axis("score, high for wrong")


def costs() -> pd.DataFrame:
    """What `benchmarks/scoring.py` measured, by method."""
    table = artefacts.load("results", "scoring-costs").frame.set_index("method")
    heads = {
        "time_over_floor": "time / floor",
        "time_over_summed": "time / one backward()",
        "memory_over_summed": "memory / one backward()",
        "largest_relative_error": "error against the loop",
    }
    return table[list(heads)].rename(columns=heads)


def sizes() -> pd.DataFrame:
    """What `benchmarks/sizes.py` measured or estimated, by shape and precision."""
    table = artefacts.load("results", "scoring-sizes").frame
    heads = {
        "weights_gib": "weights, GiB",
        "activations_gib": "activations, GiB",
        "seconds": "seconds, CPU",
        "over_floor": "time / floor",
    }
    made = np.where(table["measured"], "measured", "estimate")
    indexed = table.assign(how=made).set_index(["shape", "precision"])
    return indexed[[*heads, "how"]].rename(columns=heads)
