"""What the chapter on scaling needs beyond the tables: costs, a live run, numbers for sentences."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd

from gnuq import artefacts, paper, protocol, scaling
from gnuq.display import grouped
from gnuq.posteriors.chains import Chain
from gnuq.posteriors.moments import pooled
from gnuq.posteriors.settings import HMC
from gnuq.results import scaling_tables
from gnuq.results.correlations import correlate
from gnuq.results.scaling import EPISTEMIC, estimates
from gnuq.scaling import BASE, Run

#: Arithmetic in float32 that one H100 is sold with, operations a second, and the time that it
#: takes to start the some forty kernels of one leapfrog step.
GPU_OPERATIONS, GPU_LAUNCH = 6e13, 2e-4
#: The titles of the panels of the study's figures.
TITLES = {prior: protocol.PRIOR_LABELS[prior] for prior in scaling.PRIORS}
#: Softmax regression, the smallest network with hidden units, and the widest finished.
ENDS = {"first": 0, "network": 1, "last": -1}


def printed() -> pd.DataFrame:
    """The paper's epistemic columns of Table 10: parameters, r, rho."""
    rows = paper.printed("table-10")
    pairs = {int(size): row["epistemic"] for size, row in rows.items()}
    frame = pd.DataFrame(pairs, index=["r", "rho"]).T
    return frame.rename_axis("parameters").reset_index()


def costs() -> pd.DataFrame:
    """Time and effective samples a second at every width, and an estimate for a GPU.

    Returns:
        One row per prior and finished width: parameters, step (ms of one leapfrog step on two
        cores, measured in one sitting), steps (a draw), draw (s), rate (effective samples a second
        of the worst grid point, tuning left out), gpu (hours that the whole run would take on one
        GPU, by arithmetic), cpu (the same here, from the measured step).
    """
    steps = artefacts.load("results", "scaling-costs").frame.set_index("parameters")
    rows = []
    for run in (r for r in scaling_tables.finished() if not r.sweep and r.seed == 0):
        told, cost = (
            artefacts.provenance("records", run.name)["report"],
            steps.loc[run.architecture.parameters],
        )
        sampler = run.sampler
        draw = (told["leapfrog_steps"] * cost["step_ms"] + cost["prediction_ms"]) / 1e3
        transitions = sampler.chains * (sampler.tune + sampler.draws)
        on_gpu = told["leapfrog_steps"] * (cost["operations"] / GPU_OPERATIONS + GPU_LAUNCH)
        rows.append(
            {
                "prior": protocol.PRIOR_TICKS[run.prior_name],
                "parameters": run.architecture.parameters,
                "step": cost["step_ms"],
                "steps": told["leapfrog_steps"],
                "draw": draw,
                "rate": told["effective_samples_min"] / (sampler.chains * sampler.draws * draw),
                "cpu": transitions * draw / 3600,
                "gpu": transitions * on_gpu / 3600,
            }
        )
    return pd.DataFrame(rows)


def readable_costs() -> pd.DataFrame:
    """`costs` with heads for a page."""
    heads = {
        "prior": "prior",
        "parameters": "parameters",
        "step": "ms a leapfrog step",
        "steps": "steps a draw",
        "draw": "s a draw",
        "rate": "worst ESS a second",
        "cpu": "hours, two cores",
        "gpu": "hours, one GPU (estimated)",
    }
    return costs().rename(columns=heads).set_index(["prior", "parameters"])


def status() -> pd.DataFrame:
    """The convergence of the finished runs of the study, with heads for a page."""
    found = scaling_tables.convergence(r for r in scaling_tables.finished() if not r.sweep)
    found["prior"] = found["prior"].map(protocol.PRIOR_TICKS)
    found = found.astype({"effective_samples": int, "leapfrog_steps": int, "chain_seconds": int})
    heads = {"r_hat": "r̂", "effective_samples": "ESS", "leapfrog_steps": "steps a draw"}
    found = found.rename(columns=heads | {"chain_seconds": "s of sampling a run"})
    return found.set_index(["prior", "parameters"])


def fresh_chains(run: Run, settings: HMC) -> list[Chain]:
    """Chains of a run from the start, kept nowhere; their gᵀθ is taken at the zero network.

    Args:
        run: problem, network, prior and grid.
        settings: of the sampler; tuning and draws have a common divisor of fifty or more.
    """
    from gnuq.posteriors import streaming  # PyMC and JAX: seconds to import

    mode = np.zeros(run.architecture.parameters)
    compiled = streaming.sampler(
        run.architecture, run.problem, run.prior, mode, run.grid.points, settings
    )
    with warnings.catch_warnings():  # blackjax asks for float64, which single precision narrows
        warnings.filterwarnings("ignore", "Explicitly requested dtype", UserWarning)
        return streaming.sample(compiled, batch=math.gcd(settings.tune, settings.draws))


def live(width: int = 8, prior_name: str = "fan-in", *, draws: int = 300) -> pd.DataFrame:
    """Sample one small posterior now and correlate: half a minute up to width 16.

    Args:
        width: units per hidden layer.
        prior_name: a key of `gnuq.protocol.PRIORS`.
        draws: kept draws of each of four chains; a multiple of 100.

    Returns:
        Pearson and Spearman correlation of the norm, p(1 − p) and Laplace with the variance of
        the draws' predictions.
    """
    run = Run(width, prior_name, sweep=True)
    chains = fresh_chains(run, replace(run.sampler, draws=draws))
    found, _ = estimates(run)
    spread = pooled([chain.predictions for chain in chains]).variance
    found["hmc_epistemic"] = spread.T.ravel()
    pairs = {k: EPISTEMIC[k] for k in ("gradient_norm", "bernoulli", "laplace")}
    table = correlate(found, pairs).set_index("comparison")
    return table.rename(index=scaling_tables.LABELS).rename_axis("").rename(columns=str.capitalize)


def values() -> dict[str, str]:
    """Every number of the chapter's sentences, by name, ready to print."""
    table = scaling_tables.saved(scaling_tables.STUDY)
    finished = [run for run in scaling_tables.finished() if not run.sweep]
    found = {
        "runs": str(len(finished)),
        "open": str(len(scaling_tables.unfinished())),
        "widest": grouped(max(run.architecture.parameters for run in finished)),
    }
    found |= _swept_chains() | _curves(table) | _sweep(table) | _terms()
    return found


def _swept_chains() -> dict[str, str]:
    """How far the sweep has come, and how well its shorter chains mix."""
    runs = [run for run in scaling_tables.finished() if run.sweep]
    told = [artefacts.provenance("records", run.name)["report"] for run in runs]
    done = {run.variant for run in runs} | {run.prior_name for run in runs}
    settings = scaling_tables.VARIANT_LABELS | scaling_tables.PRECISION_LABELS
    waiting = [label for key, label in settings.items() if key not in done]
    return {
        "swept": str(len(runs)),
        "sweep_open": str(len(scaling.OPEN) - len(scaling_tables.unfinished())),
        "sweep_r_hat": f"{max(report['r_hat_max'] for report in told):.3f}",
        "sweep_ess": f"{min(report['effective_samples_min'] for report in told):.0f}",
        "sweep_waiting": ", ".join(waiting),
    }


def _curves(table: pd.DataFrame) -> dict[str, str]:
    """Each curve of the study at the sizes of `ENDS`, and where it is lowest."""
    curves = scaling_tables.curves(table)
    found: dict[str, str] = {}
    for (prior, region, name), part in curves.groupby(["prior", "region", "comparison"]):
        ordered = part.dropna(subset=["rho"]).sort_values("parameters")
        if ordered.empty:
            continue
        head = f"{_short(prior)}_{region}_{name}"
        for end, index in ENDS.items():
            row = ordered.iloc[index]
            found |= {
                f"{head}_{end}_r": f"{row['r']:.2f}",
                f"{head}_{end}_rho": f"{row['rho']:.2f}",
            }
        low = ordered.iloc[int(ordered["rho"].to_numpy().argmin())]
        found |= {f"{head}_low": f"{low['rho']:.2f}", f"{head}_low_at": grouped(low["parameters"])}
    return found


def _sweep(table: pd.DataFrame) -> dict[str, str]:
    """Of the sweep's curves: how many recover, and where they turn."""
    turns = scaling_tables.turn(table)
    kept = turns[(turns["region"] == "wide") & (turns["sizes"] >= 5)]
    found = {
        "curves": str(len(kept)),
        "recover": str(int((kept["recovery"] > 0.05).sum())),
        "recover_zero": str(int(((kept["recovery"] > 0.05) & (kept["zero"] > 0)).sum())),
        "largest_recovery": f"{kept['recovery'].max():.2f}",
    }
    for region in ("wide", "inside"):
        of = scaling_tables.of_study(table, region=region)
        of = of[(of["comparison"] == "partial") & (of["map_seed"] == 0) & (of["width"] > 0)]
        for prior, part in of.groupby("prior"):
            means = part.groupby("width")["spearman"].mean()
            ends = {"first": means.iloc[0], "last": means.iloc[-1], "peak": means.max()}
            for end, value in ends.items():
                found[f"{_short(prior)}_{region}_partial_{end}"] = f"{value:.2f}"
            width = means.index.to_numpy(int)[means.to_numpy().argmax()]
            network = Run(int(width), str(prior)).architecture
            found[f"{_short(prior)}_{region}_partial_peak_at"] = grouped(network.parameters)
    return found | _precisions(table)


def _precisions(table: pd.DataFrame) -> dict[str, str]:
    """The norm's rank correlation on the whole grid under each unit prior, widths in common."""
    first = table[table["seed"].eq(0) & table["map_seed"].eq(0) & table["variant"].eq(BASE)]
    kept = first[(first["comparison"] == "gradient_norm") & (first["quantity"] == "epistemic")]
    wide = kept[(kept["region"] == "wide") & (kept["width"] > 0)]
    wide = wide[wide["prior"].str.startswith("unit")]
    by_width = wide.pivot_table("spearman", "parameters", "prior").dropna()
    found = {"precision_sizes": " to ".join(grouped(x) for x in by_width.index[[0, -1]])}
    for prior, column in by_width.items():
        found |= {
            f"{prior}_lowest_rho": f"{column.min():.2f}",
            f"{prior}_highest_rho": f"{column.max():.2f}",
        }
    return found


def _terms() -> dict[str, str]:
    """The terms of Eq. (5) to (7) for softmax regression, the smallest network and the largest."""
    terms = scaling_tables.by_size(scaling_tables.saved(scaling_tables.TERMS))
    found = {}
    for (prior, sigma), part in terms[terms["scaling"] == "both"].groupby(["prior", "sigma"]):
        ordered = part.sort_values("parameters")
        head = f"{_short(prior)}_{sigma}"
        for end, index in ENDS.items():
            row = ordered.iloc[index]
            found[f"{head}_off_{end}"] = _times(row["off_diagonal"])
            found[f"{head}_worse_{end}"] = f"{row['proxy_worse']:.0%}"
            found[f"{head}_rank_{end}"] = f"{row['spearman_norm']:.2f}"
    return found


def _short(prior: object) -> str:
    return {protocol.PRIMARY: "unit", "fan-in": "fan"}.get(str(prior), str(prior))


def _times(value: float) -> str:
    """A multiple: whole if it is large."""
    return f"{value:.0f}" if value >= 10 else f"{value:.2f}"
