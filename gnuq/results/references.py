"""What the records say: the reference on the grid, and how well it converged."""

from __future__ import annotations

import numpy as np
import pandas as pd

from gnuq import artefacts, protocol
from gnuq.protocol import Experiment


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
    table = grouped.agg(
        r_hat=("r_hat", "max"),
        effective_samples=("effective_samples", "min"),
        divergences=("divergences", "sum"),
        acceptance=("acceptance", "min"),
        leapfrog_steps=("leapfrog_steps", "mean"),
    )
    table = table.astype({"effective_samples": int, "leapfrog_steps": int})
    heads = {"r_hat": "r̂", "effective_samples": "ESS", "leapfrog_steps": "steps a draw"}
    return table.rename(columns=heads).rename(index=protocol.PRIOR_LABELS, level="prior")
