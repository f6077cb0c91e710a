"""Table 4 and its variants, from the record of the proxy bias on text: Appendix A.1."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.stats import gmean, ttest_ind

from gnuq import paper
from gnuq.language_models import encoders
from gnuq.qa import newsgroups
from gnuq.results.text_proxies import DOMAINS, PRIMARY, Variant, cohens_d

Draws = Float[np.ndarray, "draws texts"]

#: Resampled test sets, and the ends of the intervals.
DRAWS, ENDS = 2000, (0.025, 0.975)
#: What tells the variants apart.
KEYS = [field.name for field in fields(Variant)]
ASSUMED = ("identity", *DOMAINS)
#: Texts whose share of a domain's mean uncertainty is told.
FEW = 5


def settings() -> pd.DataFrame:
    """What the paper's text says of the experiment, and what we took, one row a decision."""
    training, rate = encoders.FineTuning(), encoders.RECIPES["minilm"].learning_rate
    counts = {role: n for role, (_, n) in newsgroups.ROLES.items()}
    rows = {
        "texts a domain": ("400 to train, 100 to test", "{training} to train, {test} to test"),
        "proxies a domain": ("200, which ones is not said", "the first 200 of those trained on"),
        "encoder": ("DistilBERT", "MiniLM, all of it trained"),
        "tokens of a text that are read": ("not said", f"the first {training.max_length}"),
        "optimiser": (
            "AdamW, 3 epochs",
            f"AdamW, {training.epochs} epochs, {training.batch} texts a step",
        ),
        "learning rate": ("lost", f"{rate:g}"),
        "weight decay": ("lost", f"{training.weight_decay:g}"),
        "labels in the Fisher": ("the model's own distribution", "in expectation over it"),
        "reduction over proxies": ("not said", PRIMARY.reduction),
        "prior precision λ": ("matches the weight decay", f"{PRIMARY.prior_precision:g}"),
    }
    table = pd.DataFrame(rows, index=["the paper's text", "ours"]).T
    return table.map(lambda text: text.format(**counts))


def chosen(table: pd.DataFrame, variant: Variant = PRIMARY) -> pd.DataFrame:
    """The rows of a record or summary that belong to a variant."""
    wanted = pd.Series(asdict(variant))
    return table[(table[KEYS] == wanted[KEYS]).all(axis=1)].reset_index(drop=True)


def summarise(record: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """One row per seed and variant: accuracies, ratios, log-ratios, effect sizes.

    Args:
        record: as `gnuq.results.text_proxies.per_text` returns it, of any number of seeds.
        seed: of the bootstrap, which draws test texts within each domain.

    Returns:
        seed and the variant; accuracy, overall and by domain; ratio_identity, ratio_science,
        ratio_sports: mean variance on science over that on sports; typical_…, the same of
        geometric means; shift_science and shift_sports, either proxy's ratio over that of the
        identity, and typical_shift_…; median_science and median_sports, of the log-ratio on either
        domain's texts; cohens_d, sports minus science; t, df, p_value, Welch's; few_science and
        few_sports, the share of a domain's identity variance that its five largest texts have.
        Columns ending in `_low` and `_high` are 95 % bootstrap intervals over texts.
    """
    rows = []
    for values, part in record.groupby(["seed", *KEYS], sort=False):
        keys = dict(zip(["seed", *KEYS], values, strict=True))
        rows.append(
            keys | _accuracies(part) | _medians(part) | _welch(part) | _resampled(part, seed)
        )
    return pd.DataFrame(rows)


def _by_domain(part: pd.DataFrame, column: str) -> list[np.ndarray]:
    return [part.loc[part["domain"] == domain, column].to_numpy(float) for domain in DOMAINS]


def _accuracies(part: pd.DataFrame) -> dict[str, float]:
    found = {"accuracy": float(part["correct"].mean())}
    for domain, values in zip(DOMAINS, _by_domain(part, "correct"), strict=True):
        found[f"accuracy_{domain}"] = float(values.mean())
    return found


def _medians(part: pd.DataFrame) -> dict[str, float]:
    """Medians of the log-ratio, and how few texts make the mean of the identity's variance."""
    ratios = zip(DOMAINS, _by_domain(part, "log_ratio"), strict=True)
    norms = zip(DOMAINS, _by_domain(part, "identity"), strict=True)
    medians = {f"median_{domain}": float(np.median(values)) for domain, values in ratios}
    few = {f"few_{name}": float(np.sort(v)[-FEW:].sum() / v.sum()) for name, v in norms}
    return medians | few


def _welch(part: pd.DataFrame) -> dict[str, float]:
    science, sports = _by_domain(part, "log_ratio")
    found = ttest_ind(sports, science, equal_var=False)
    return {"t": found.statistic, "df": found.df, "p_value": found.pvalue}


def _resampled(part: pd.DataFrame, seed: int) -> dict[str, float]:
    """Ratios, shifts and effect sizes with their intervals; all from the same draws of texts."""
    generator = np.random.default_rng(seed)
    sizes = [len(values) for values in _by_domain(part, "p")]
    # the texts as they are come first: what they give is the estimate
    drawn = [np.vstack([np.arange(n), generator.integers(n, size=(DRAWS, n))]) for n in sizes]

    def draws(column: str) -> list[Draws]:
        pairs = zip(_by_domain(part, column), drawn, strict=True)
        return [values[rows] for values, rows in pairs]

    found = {}
    for name in ASSUMED:
        science, sports = draws(name)
        found[f"ratio_{name}"] = science.mean(axis=1) / sports.mean(axis=1)
        logs = np.log(science).mean(axis=1) - np.log(sports).mean(axis=1)
        found[f"typical_{name}"] = np.exp(logs)
    for name in DOMAINS:
        found[f"shift_{name}"] = found[f"ratio_{name}"] / found["ratio_identity"]
        found[f"typical_shift_{name}"] = found[f"typical_{name}"] / found["typical_identity"]
    found["cohens_d"] = cohens_d(*draws("log_ratio"))
    return {key: value for name, d in found.items() for key, value in _interval(name, d).items()}


def _interval(name: str, draws: Float[np.ndarray, " draws"]) -> dict[str, float]:
    low, high = np.quantile(draws[1:], ENDS)
    return {name: float(draws[0]), f"{name}_low": float(low), f"{name}_high": float(high)}


def table_4(summary: pd.DataFrame, variant: Variant = PRIMARY) -> pd.DataFrame:
    """Table 4: science over sports under I and under either proxy, ours by seed and the paper's.

    Args:
        summary: as `summarise` returns it.
        variant: which rows of it.

    Returns:
        Indexed by encoder: the three ratios, either proxy's ratio over the identity's, Welch's t
        and Cohen's d of the log-ratio. What the paper's text has lost is missing.
    """
    rows = chosen(summary, variant)
    ours = rows.set_index("MiniLM, seed " + rows["seed"].astype(str))
    printed = paper.items()["table-4"].printed["distilbert"]
    theirs = {f"ratio_{name}": value for name, value in printed.items()}
    shifts = {f"shift_{d}": printed[d] / printed["identity"] for d in DOMAINS}
    row = pd.DataFrame(theirs | shifts, index=["DistilBERT, the paper"])
    columns = [*theirs, *shifts, "t", "cohens_d"]
    return pd.concat([ours[columns], row]).rename_axis("encoder")


def readable(summary: pd.DataFrame, kind: Literal["arithmetic", "geometric"]) -> pd.DataFrame:
    """The ratios of the primary variant as text: value (95 % interval), one row a seed.

    Args:
        summary: as `summarise` returns it.
        kind: ratios of arithmetic means, as in Table 4, with the paper's row; or of geometric ones.
    """
    ratio, shift = ("ratio_", "shift_") if kind == "arithmetic" else ("typical_", "typical_shift_")
    heads = {f"{ratio}identity": "I"} | {f"{ratio}{d}": f"{d} proxy" for d in DOMAINS}
    heads |= {f"{shift}{d}": f"{d} proxy / I" for d in DOMAINS}
    rows = {
        f"MiniLM, seed {row['seed']}": {
            head: "{:.3g} ({:.3g} to {:.3g})".format(*row[[key, f"{key}_low", f"{key}_high"]])
            for key, head in heads.items()
        }
        for _, row in chosen(summary).iterrows()
    }
    if kind == "arithmetic":
        last = table_4(summary).iloc[-1]
        rows[str(last.name)] = {head: f"{last[key]:.2f}" for key, head in heads.items()}
    return pd.DataFrame(rows).T.rename_axis("encoder")


def remaining(table: pd.DataFrame) -> pd.DataFrame:
    """What either proxy leaves of the prior's variance, λ gᵀH⁻¹g / gᵀg, which is at most 1.

    Args:
        table: a record's rows.

    Returns:
        One row per text and proxy: seed, domain of the text, proxy, share.
    """
    shares = {d: table["prior_precision"] * table[d] / table["identity"] for d in DOMAINS}
    wide = table[["seed", "domain"]].assign(**shares)
    return wide.melt(["seed", "domain"], var_name="proxy", value_name="share")


def sensitivity(summary: pd.DataFrame, controls: pd.DataFrame) -> pd.DataFrame:
    """Every variant: both measures of the distortion beside those of chance.

    Args:
        summary: as `summarise` returns it.
        controls: as `gnuq.results.text_proxies.controls` returns it, of the same seeds.

    Returns:
        The variant; typical_shift_science and typical_shift_sports, geometric means over seeds;
        cohens_d and gap (of the medians), means over seeds, with d_low, d_high, gap_low, gap_high,
        their ranges; control_d and control_gap, medians over splits and seeds of their sizes, and
        control_d_high, the largest.
    """
    gap = summary["median_sports"] - summary["median_science"]
    groups = summary.assign(gap=gap).groupby(KEYS, sort=False)
    chance = controls.assign(d=controls["cohens_d"].abs(), gap=controls["gap"].abs())
    by_chance = chance.groupby(KEYS, sort=False)
    shifts = [f"typical_shift_{domain}" for domain in DOMAINS]
    found = groups[shifts].agg(gmean)
    for short, column in (("d", "cohens_d"), ("gap", "gap")):
        found[column] = groups[column].mean()
        found[f"{short}_low"], found[f"{short}_high"] = groups[column].min(), groups[column].max()
    found["control_d"], found["control_d_high"] = by_chance["d"].median(), by_chance["d"].max()
    found["control_gap"] = by_chance["gap"].median()
    return found.reset_index()
