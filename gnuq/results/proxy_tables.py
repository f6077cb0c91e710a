"""Table 3 and its like: many runs of the proxy-bias experiment, with intervals over seeds."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from gnuq import artefacts, paper
from gnuq.results.proxy_bias import PLAIN, PROBLEMS

COVARIANCES = ("identity", "top", "bottom")
VARIANT_KEYS = ["covariance", "reduction", "labels"]
#: The reading that Table 3 reports: the closest to the paper's words.
PRIMARY = {"precision": 1.0, "split": "location", **vars(PLAIN[0])}


def saved(name: str) -> pd.DataFrame:
    """A saved result of the proxy-bias experiments.

    Args:
        name: `proxy-bias`, `proxy-bias-coverage`, `proxy-bias-terms`, `proxy-bias-posterior` or
            `table-3`.

    Raises:
        ArtefactError: it is missing or torn.
    """
    return artefacts.load("results", name).frame


def saved_maps() -> pd.DataFrame:
    """The saved maps of Figure 1, as `gnuq.results.proxy_bias.figure_1` computes them."""
    return artefacts.load("records", "proxy-bias/maps").frame


def chosen(frame: pd.DataFrame, **values: object) -> pd.DataFrame:
    """The rows of a tidy frame whose columns have these values."""
    kept = pd.Series(True, index=frame.index)
    for name, value in values.items():
        kept &= frame[name] == value
    return frame[kept]


def interval(values: pd.Series, *, ratio: bool = False) -> dict[str, float]:
    """Mean over seeds with a 95 % t-interval, and the range.

    Args:
        values: one number a seed, at least two.
        ratio: take the geometric mean, so that a ratio and its inverse are treated alike.

    Returns:
        mean, low, high (of the interval), least, most, n.

    Raises:
        ValueError: fewer than two values.
    """
    if len(values) < 2:
        raise ValueError(f"values: {len(values)} is too few for an interval; give two or more.")
    numbers = np.log(values) if ratio else values
    half = float(stats.t.ppf(0.975, len(numbers) - 1) * stats.sem(numbers))
    centre = float(numbers.mean())
    told = {"mean": centre, "low": centre - half, "high": centre + half}
    told = {name: float(np.exp(value)) for name, value in told.items()} if ratio else told
    return told | {"least": values.min(), "most": values.max(), "n": len(values)}


def over_seeds(
    frame: pd.DataFrame, by: list[str], column: str, *, ratio: bool = False
) -> pd.DataFrame:
    """`interval` of one column for every group.

    Args:
        frame: one row per seed and group.
        by: the columns that tell groups apart, apart from the seed.
        column: what to average.
        ratio: as for `interval`.
    """
    rows = [
        dict(zip(by, key, strict=True)) | interval(part[column], ratio=ratio)
        for key, part in frame.groupby(by, sort=False)
    ]
    return pd.DataFrame(rows)


def table_3(frame: pd.DataFrame) -> pd.DataFrame:
    """Table 3: top/bottom ratios and effect sizes, λ = 1, full Fisher, summed, observed labels.

    Args:
        frame: as `gnuq.results.proxy_bias.proxy_bias` gives it.

    Returns:
        One row per problem: identity, top and bottom (geometric means over seeds), each with
        `_low` and `_high` (range) and `_paper`; cohen_d with d_low and d_high (95 % t-interval
        over seeds); naive_low and naive_high, the mean ends of the intervals over grid points;
        welch_t_low and welch_t_high (range) and welch_p (the largest); n, the number of seeds.
    """
    printed = paper.items()["table-3"].printed
    rows = []
    for problem, part in chosen(frame, **PRIMARY).groupby("problem", sort=False):
        row: dict[str, object] = {"problem": problem}
        for name in COVARIANCES:
            found = interval(part[f"ratio_{name}"], ratio=True)
            row |= {name: found["mean"], f"{name}_low": found["least"]}
            row |= {f"{name}_high": found["most"], f"{name}_paper": printed[str(problem)][name]}
        d = interval(part["cohen_d"])
        row |= {"cohen_d": d["mean"], "d_low": d["low"], "d_high": d["high"]}
        row |= {"naive_low": part["d_low"].mean(), "naive_high": part["d_high"].mean()}
        row |= {"welch_t_low": part["welch_t"].min(), "welch_t_high": part["welch_t"].max()}
        rows.append(row | {"welch_p": part["welch_p"].max(), "n": d["n"]})
    return pd.DataFrame(rows)


def readable_ratios(table: pd.DataFrame) -> pd.DataFrame:
    """Table 3's ratios as text: geometric mean (lowest to highest seed), then the paper's.

    Args:
        table: as `table_3` returns it.
    """
    rows = []
    for row in table.to_dict("records"):
        shown = {"problem": row["problem"]}
        for name in COVARIANCES:
            low, high = row[f"{name}_low"], row[f"{name}_high"]
            shown[f"{name}, ours"] = f"{row[name]:.2f} ({low:.2f} to {high:.2f})"
            shown[f"{name}, paper"] = f"{row[f'{name}_paper']:.2f}"
        rows.append(shown)
    return pd.DataFrame(rows).set_index("problem")


def readable_effects(table: pd.DataFrame) -> pd.DataFrame:
    """Table 3's effect sizes as text, both intervals beside each other.

    Args:
        table: as `table_3` returns it.
    """
    rows = [
        {
            "problem": row["problem"],
            "Cohen's d": f"{row['cohen_d']:.2f}",
            "95 %, over seeds": f"{row['d_low']:.2f} to {row['d_high']:.2f}",
            "95 %, over grid points": f"{row['naive_low']:.2f} to {row['naive_high']:.2f}",
            "Welch's t": f"{row['welch_t_low']:.0f} to {row['welch_t_high']:.0f}",
            # Below 1e-300 the p-value of so many points is no longer a normal double.
            "largest p": f"{row['welch_p']:.0e}" if row["welch_p"] > 1e-300 else "< 1e-300",
        }
        for row in table.to_dict("records")
    ]
    return pd.DataFrame(rows).set_index("problem")


def identity_asymmetry(frame: pd.DataFrame) -> pd.DataFrame:
    """The identity's own top/bottom ratio: by symmetry of the problem, 1 on average over data.

    Args:
        frame: as `gnuq.results.proxy_bias.proxy_bias` gives it.

    Returns:
        One row per problem and precision: `interval` of the ratio, and larger, the mean over
        seeds of the ratio or its inverse, whichever exceeds 1 (geometric).
    """
    kept = chosen(frame, **(PRIMARY | {"precision": frame["precision"]}))
    by = ["problem", "precision"]
    found = over_seeds(kept, by, "ratio_identity", ratio=True)
    size = kept.assign(larger=np.exp(np.log(kept["ratio_identity"]).abs()))
    larger = over_seeds(size, by, "larger", ratio=True)["mean"]
    return found.assign(larger=larger)


def distance_to_paper(frame: pd.DataFrame) -> pd.DataFrame:
    """How far each variant's ratios lie from the printed ones; to read, not to choose by.

    Args:
        frame: as `gnuq.results.proxy_bias.proxy_bias` gives it.

    Returns:
        One row per variant and precision, nearest first: distance, the factor by which the six
        printed ratios under proxies are missed on (geometric) average.
    """
    printed = paper.items()["table-3"].printed
    rows = []
    located = frame[frame["split"] == "location"]
    for key, part in located.groupby([*VARIANT_KEYS, "precision"], sort=False):
        missed = [
            abs(np.log(chosen(part, problem=problem)[f"ratio_{name}"]).mean() - np.log(ratio))
            for problem in PROBLEMS
            for name, ratio in printed[problem].items()
            if name != "identity"
        ]
        named = dict(zip([*VARIANT_KEYS, "precision"], key, strict=True))
        rows.append(named | {"distance": float(np.exp(np.mean(missed)))})
    return pd.DataFrame(rows).sort_values("distance", ignore_index=True)


def labelled(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of the experiment with a label for each variant, random halves last.

    Args:
        frame: as `gnuq.results.proxy_bias.proxy_bias` gives it.
    """
    label = frame[VARIANT_KEYS].agg(", ".join, axis=1)
    label = label.where(frame["split"] == "location", frame["covariance"] + ", random halves")
    order = label.str.contains("random") * 2 + (frame["covariance"] == "diagonal")
    return frame.assign(label=label).iloc[order.argsort(kind="stable")]
