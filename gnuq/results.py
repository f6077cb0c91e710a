"""One function per table or figure of the paper: records in, tidy frame out.

Every method is evaluated at the mode on the grid of the record, then correlated with the
record's reference over the grid. `gnuq.protocol` holds the settings.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from scipy.stats import pearsonr, spearmanr

from gnuq import artefacts, paper, protocol
from gnuq.estimators import aleatoric, epistemic
from gnuq.networks import MapFit, fit_map
from gnuq.posteriors import laplace
from gnuq.problems import PROBLEMS
from gnuq.protocol import Experiment

#: Columns of `maps` that estimate each of the record's quantities: (estimate, reference).
EPISTEMIC = {
    "gradient_norm": ("gradient_norm", "hmc_epistemic"),
    "laplace": ("laplace_epistemic", "hmc_epistemic"),
    "gn_laplace": ("gradient_norm", "laplace_epistemic"),
    "bernoulli": ("bernoulli", "hmc_epistemic"),
    "ceiling": ("hmc_epistemic_a", "hmc_epistemic_b"),
}
ALEATORIC = {
    "point": ("bernoulli", "hmc_aleatoric"),
    "laplace": ("sampled_aleatoric", "hmc_aleatoric"),
    "point_laplace": ("bernoulli", "sampled_aleatoric"),
    "linearised": ("linearised_aleatoric", "hmc_aleatoric"),
    "point_total": ("bernoulli", "hmc_total"),
    "second_order": ("second_order_aleatoric", "hmc_aleatoric"),
    "ceiling": ("hmc_aleatoric_a", "hmc_aleatoric_b"),
}
LABELS = {
    "gradient_norm": "‖g‖² vs HMC",
    "laplace": "Laplace vs HMC",
    "gn_laplace": "‖g‖² vs Laplace",
    "bernoulli": "p(1 − p) vs HMC",
    "ceiling": "noise ceiling: one half of the chains vs the other",
    "point": "p(1 − p) vs HMC",
    "point_laplace": "p(1 − p) vs Laplace",
    "linearised": "Laplace, linearised, vs HMC",
    "point_total": "p(1 − p) vs HMC's total",
    "second_order": "p(1 − p) − gᵀΣg (Laplace Σ) vs HMC",
}


#: The comparisons that the chapter's figures show, with their labels, top first.
EPISTEMIC_LABELS = {k: LABELS[k] for k in EPISTEMIC}
ALEATORIC_LABELS = {k: LABELS[k] for k in ALEATORIC}


def settings() -> pd.DataFrame:
    """The primary setting as a table: what was fixed, and whether the paper says it."""
    sampler = protocol.SAMPLER
    hidden = {name: "–".join(map(str, (2, *h, 1))) for name, h in protocol.HIDDEN.items()}
    rows = [
        ("networks", "; ".join(f"{k}: {v}" for k, v in hidden.items()), "width inferred"),
        ("activation", "tanh", "smooth; name lost in the text"),
        ("prior", protocol.PRIOR_LABELS[protocol.PRIMARY] + ", every weight", "not stated"),
        ("training points", str(protocol.POINTS), "not stated"),
        ("noise", "; ".join(f"{k}: {PROBLEMS[k].noise:g}" for k in hidden), "not stated"),
        ("data seeds", ", ".join(map(str, protocol.DATA_SEEDS)), "not stated"),
        ("grid", f"{protocol.RESOLUTION} × {protocol.RESOLUTION}, {protocol.MARGIN:.0%} beyond "
                 "the data on each side", "“dense grid”"),
        ("sampler", f"HMC, {sampler.chains} chains × ({sampler.tune} + {sampler.draws}), "
                    f"target acceptance {sampler.target_accept}", "HMC with dual averaging"),
        ("point estimate", "L-BFGS to a gradient norm below 1e-5", "not stated"),
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["", "here", "in the paper's text"]).set_index("")


def reference(experiment: Experiment) -> pd.DataFrame:
    """The record's moments as Eq. (2): total, aleatoric and epistemic, overall and by half.

    Returns:
        One row per grid point: x, y, inside (of the data), hmc_mean, hmc_epistemic,
        hmc_aleatoric, hmc_total, the first two also for halves `_a` and `_b`, r_hat and
        effective_samples. Units: squared probability.
    """
    record = artefacts.load("records", experiment.record).frame
    a, b = (record[f"mean_{half}"].astype(float) for half in "ab")
    within = (record["variance_a"] + record["variance_b"]).astype(float) / 2
    mean, variance = (a + b) / 2, within + ((a - b) / 2) ** 2
    frame = record[["x", "y", "r_hat", "effective_samples"]].assign(
        inside=experiment.grid.inside(experiment.problem, protocol.INSIDE).numpy(),
        hmc_mean=mean,
        hmc_epistemic=variance,
        hmc_aleatoric=mean * (1 - mean) - variance,
        hmc_total=mean * (1 - mean),
    )
    for half in "ab":
        m, v = (record[f"{k}_{half}"].astype(float) for k in ("mean", "variance"))
        frame[f"hmc_epistemic_{half}"], frame[f"hmc_aleatoric_{half}"] = v, m * (1 - m) - v
    return frame


def point_estimates(
    experiment: Experiment, fit: MapFit, *, samples: int = 200, seed: int = 0
) -> pd.DataFrame:
    """Everything that a mode (and its curvature) says on the grid.

    Args:
        experiment: problem, prior and grid.
        fit: the network at the mode.
        samples: weight samples of the Laplace posterior for the sampled predictive.
        seed: their seed.

    Returns:
        One row per grid point: probability, bernoulli = p(1 − p), gradient_norm = ‖g‖²,
        laplace_epistemic = gᵀΣg, linearised_ and sampled_ epistemic and aleatoric, and
        second_order_aleatoric = p(1 − p) − gᵀΣg.
    """
    points, problem, prior = experiment.grid.points, experiment.problem, experiment.prior
    norms = epistemic(fit.network, points, link="sigmoid")
    curved = laplace.full_laplace(fit, problem, prior)
    variance = curved.variance(points, lambda f: f.sigmoid()[:, 0])
    logits = fit.network(points)[:, 0]
    linear = laplace.linearised_predictive(logits, curved.variance(points, lambda f: f[:, 0]))
    covariance = laplace.dense_covariance(fit, problem, prior)
    drawn = laplace.sampled_predictions(fit, covariance, points, samples=samples, seed=seed)
    sampled = drawn.sigmoid()[..., 0]
    bernoulli = aleatoric(norms.values)
    columns = {
        "probability": norms.values,
        "bernoulli": bernoulli,
        "gradient_norm": norms.total,
        "laplace_epistemic": variance,
        "linearised_epistemic": linear.epistemic,
        "linearised_aleatoric": linear.aleatoric,
        "sampled_epistemic": sampled.var(0, correction=0),
        "sampled_aleatoric": (sampled * (1 - sampled)).mean(0),
        "second_order_aleatoric": bernoulli - variance,
    }
    return pd.DataFrame({name: values.numpy() for name, values in columns.items()})


def sampling_noise(
    experiment: Experiment, *, samples: Sequence[int] = (100, 300, 1000), stride: int = 7
) -> pd.DataFrame:
    """How the weight-sampled Laplace predictive settles as the number of samples grows.

    Args:
        experiment: problem, prior and grid.
        samples: numbers of weight samples to compare.
        stride: use every so-manieth grid point, to save time.

    Returns:
        One row per number of samples: lowest and highest sampled aleatoric value on the grid,
        and its Pearson and Spearman correlation with the reference.
    """
    fit = fit_map(experiment.architecture, experiment.problem, experiment.prior)
    covariance = laplace.dense_covariance(fit, experiment.problem, experiment.prior)
    points = experiment.grid.points[::stride]
    drawn = laplace.sampled_predictions(fit, covariance, points, samples=max(samples))
    p, target = drawn.sigmoid()[..., 0], reference(experiment)["hmc_aleatoric"][::stride]
    rows = []
    for count in samples:
        found = aleatoric(p[:count]).mean(0).numpy()
        r, rho = pearsonr(found, target)[0], spearmanr(found, target)[0]
        rows.append((count, found.min(), found.max(), r, rho))
    columns = ["weight samples", "lowest", "highest", "Pearson", "Spearman"]
    return pd.DataFrame(rows, columns=columns).set_index("weight samples")


def maps(experiment: Experiment, *, map_seed: int = 0) -> pd.DataFrame:
    """Figures 2, 5, 6, 8: every method's map beside the reference, one row per grid point."""
    fit = fit_map(experiment.architecture, experiment.problem, experiment.prior, seed=map_seed)
    return reference(experiment).join(point_estimates(experiment, fit))


def correlate(
    frame: pd.DataFrame, pairs: dict[str, tuple[str, str]], *, inside: bool = False
) -> pd.DataFrame:
    """Pearson and Spearman correlation over the grid for each named pair of columns.

    Args:
        frame: what `maps` returns.
        pairs: comparison → (estimate, reference), names of columns.
        inside: use only the grid points inside the data.

    Returns:
        One row a comparison: comparison, pearson, spearman; NaN where a column is constant
        (a mode that is the zero network predicts the same everywhere).
    """
    used = frame[frame["inside"]] if inside else frame
    rows = []
    for name, (estimate, target) in pairs.items():
        x, y = used[estimate].to_numpy(), used[target].to_numpy()
        constant = min(np.ptp(x) / max(abs(x).max(), 1e-300), np.ptp(y)) < 1e-9
        r, rho = (np.nan, np.nan) if constant else (pearsonr(x, y)[0], spearmanr(x, y)[0])
        rows.append({"comparison": name, "pearson": r, "spearman": rho})
    return pd.DataFrame(rows)


def validation(
    experiments: Iterable[Experiment], *, map_seeds: Sequence[int] = (0,)
) -> pd.DataFrame:
    """All correlations of all experiments, wide grid and inside the data, every MAP seed.

    Returns:
        Tidy: problem, prior, seed, map_seed, region, quantity, comparison, pearson, spearman,
        and `flat`: whether the mode found is the zero network.
    """
    parts = []
    for experiment, map_seed in itertools.product(experiments, map_seeds):
        frame = maps(experiment, map_seed=map_seed)
        for inside, (quantity, pairs) in itertools.product(
            (False, True), (("epistemic", EPISTEMIC), ("aleatoric", ALEATORIC))
        ):
            parts.append(
                correlate(frame, pairs, inside=inside).assign(
                    problem=experiment.problem_name,
                    prior=experiment.prior_name,
                    seed=experiment.seed,
                    map_seed=map_seed,
                    region="inside" if inside else "wide",
                    quantity=quantity,
                    flat=bool(np.ptp(frame["probability"]) < 1e-6),
                )
            )
    return pd.concat(parts, ignore_index=True)


def table(
    correlations: pd.DataFrame, quantity: str, printed: dict[str, dict[str, paper.Pair]]
) -> pd.DataFrame:
    """Mean and range over data seeds, the paper's numbers beside them.

    Args:
        correlations: rows of `validation` for one prior and one region.
        quantity: `"epistemic"` or `"aleatoric"`.
        printed: the paper's table.

    Returns:
        One row per problem and comparison: r, r_low, r_high, rho, rho_low, rho_high (over data
        seeds), r_paper, rho_paper, and n, the number of data seeds.
    """
    rows = []
    chosen = correlations[correlations["quantity"] == quantity]
    for (problem, name), part in chosen.groupby(["problem", "comparison"], sort=False):
        row = {"problem": problem, "comparison": name, "n": int(part["pearson"].notna().sum())}
        for short, column in (("r", "pearson"), ("rho", "spearman")):
            values = part[column]
            row |= {
                short: values.mean(),
                f"{short}_low": values.min(),
                f"{short}_high": values.max(),
            }
        r, rho = printed.get(str(problem), {}).get(str(name), (np.nan, np.nan))
        rows.append(row | {"r_paper": r, "rho_paper": rho})
    return pd.DataFrame(rows)


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """A table of correlations as text: mean (lowest to highest seed), then the paper's pair.

    Args:
        table: what `table_5` and `table_6` return.

    Returns:
        One row per problem and comparison, indexed by both; a dash where the paper has none.
    """

    def spread(row: pd.Series, key: str) -> str:
        return f"{row[key]:.2f} ({row[key + '_low']:.2f} to {row[key + '_high']:.2f})"

    rows = [
        {
            "problem": row["problem"],
            "comparison": LABELS[row["comparison"]],
            "Pearson, ours": spread(row, "r"),
            "Spearman, ours": spread(row, "rho"),
            "paper, 1st column": "–" if np.isnan(row["r_paper"]) else f"{row['r_paper']:.2f}",
            "paper, 2nd column": "–" if np.isnan(row["rho_paper"]) else f"{row['rho_paper']:.2f}",
        }
        for _, row in table.iterrows()
    ]
    return pd.DataFrame(rows).set_index(["problem", "comparison"])


def means(correlations: pd.DataFrame) -> pd.DataFrame:
    """Means over data seeds and MAP seeds, modes that are the zero network left out.

    Args:
        correlations: what `validation` returns, any priors and regions.

    Returns:
        problem, prior, region, quantity, comparison, pearson, spearman, and `flat`, the share
        of modes that are the zero network.
    """
    keys = ["problem", "prior", "region", "quantity", "comparison"]
    grouped = correlations.groupby(keys, sort=False)
    return grouped[["pearson", "spearman", "flat"]].mean().reset_index()


def basin_spread(correlations: pd.DataFrame) -> pd.DataFrame:
    """How far the correlations move with the start of the MAP training alone.

    Returns:
        Per problem and comparison of the primary setting on the wide grid: the largest range
        over MAP seeds of one data seed, for Pearson and for Spearman.
    """
    primary = correlations[
        (correlations["prior"] == protocol.PRIMARY) & (correlations["region"] == "wide")
    ]
    keys = ["problem", "quantity", "comparison", "seed"]
    spans = primary.groupby(keys, sort=False)[["pearson", "spearman"]].agg(np.ptp)
    return spans.groupby(level=[0, 1, 2], sort=False).max().reset_index()


def primary_experiments() -> list[Experiment]:
    """The primary setting: every problem, every data seed."""
    return [
        Experiment(p, protocol.PRIMARY, s) for p in protocol.HIDDEN for s in protocol.DATA_SEEDS
    ]


def table_5(correlations: pd.DataFrame | None = None) -> pd.DataFrame:
    """Table 5: epistemic estimates against HMC, binary problems, wide grid, primary prior.

    Args:
        correlations: what `validation(primary_experiments())` returns; computed if omitted
            (about a minute).
    """
    return _primary_table(correlations, "epistemic", paper.TABLE_5)


def table_6(correlations: pd.DataFrame | None = None) -> pd.DataFrame:
    """Table 6: aleatoric estimates against HMC, binary problems; arguments as in `table_5`."""
    return _primary_table(correlations, "aleatoric", paper.TABLE_6)


def _primary_table(
    correlations: pd.DataFrame | None, quantity: str, printed: dict[str, dict[str, paper.Pair]]
) -> pd.DataFrame:
    found = validation(primary_experiments()) if correlations is None else correlations
    wide = found[(found["prior"] == protocol.PRIMARY) & (found["region"] == "wide")]
    return table(wide[wide["map_seed"] == 0], quantity, printed)


def convergence() -> pd.DataFrame:
    """What the sampler reports about every record: the worst r̂ and ESS over the grid.

    Returns:
        One row per record: problem, prior, seed, parameters, r_hat, effective_samples,
        divergences, acceptance, leapfrog_steps, seconds.
    """
    rows = []
    for experiment in protocol.experiments():
        provenance = artefacts.load("records", experiment.record).provenance
        told = provenance["configuration"]
        rows.append(
            {
                "problem": experiment.problem_name,
                "prior": experiment.prior_name,
                "seed": experiment.seed,
                "parameters": told["parameters"],
                "r_hat": told["r_hat_max"],
                "effective_samples": told["effective_samples_min"],
                "divergences": told["divergences"],
                "acceptance": float(np.mean(told["acceptance"])),
                "leapfrog_steps": told["leapfrog_steps"],
                "seconds": provenance["seconds"],
            }
        )
    return pd.DataFrame(rows)


def worst_convergence(found: pd.DataFrame) -> pd.DataFrame:
    """The worst diagnostics over data seeds, per problem and prior.

    Args:
        found: what `convergence` returns.
    """
    grouped = found.groupby(["problem", "prior"], sort=False)
    return grouped.agg(
        r_hat=("r_hat", "max"),
        effective_samples=("effective_samples", "min"),
        divergences=("divergences", "sum"),
        acceptance=("acceptance", "min"),
        leapfrog_steps=("leapfrog_steps", "mean"),
    ).rename(index=protocol.PRIOR_LABELS, level="prior")


def flat_modes(correlations: pd.DataFrame) -> pd.DataFrame:
    """How many of the modes found are the zero network, by problem and prior."""
    starts = correlations.drop_duplicates(["problem", "prior", "seed", "map_seed"])
    counts = starts.groupby(["problem", "prior"], sort=False)["flat"].agg(["sum", "size"])
    shown = counts["sum"].astype(str) + " of " + counts["size"].astype(str)
    return (
        shown.reset_index(name="n")
        .pivot_table(index="problem", columns="prior", values="n", aggfunc="first", sort=False)[
            list(protocol.PRIORS)
        ]
        .rename(columns=protocol.PRIOR_LABELS)
    )
