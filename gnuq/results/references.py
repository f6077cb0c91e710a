"""What the records say: the reference on the grid, and how well it converged."""

from __future__ import annotations

import numpy as np
import pandas as pd

from gnuq import artefacts, protocol
from gnuq.problems import Task
from gnuq.protocol import Experiment


def reference(experiment: Experiment) -> pd.DataFrame:
    """The record's moments as Eq. (2): total, aleatoric and epistemic, overall and by half.

    Returns:
        One row per class and grid point, class by class: x, y (in the plane), class (1 for
        binary problems, 0 in regression), inside (of the data), hmc_mean, hmc_epistemic, its
        halves `_a` and `_b`, r_hat and effective_samples (missing where they were not checked).
        In classification also hmc_aleatoric with its halves, and hmc_total. Units: squared
        probability, or the target's squared.
    """
    record = artefacts.load("records", experiment.record).frame
    problem = experiment.problem
    a, b = (record[f"mean_{half}"].astype(float) for half in "ab")
    within = (record["variance_a"] + record["variance_b"]).astype(float) / 2
    mean, variance = (a + b) / 2, within + ((a - b) / 2) ** 2
    places = [name for name in ("x", "y", "r_hat", "effective_samples") if name in record]
    inside = experiment.grid.inside(problem, protocol.INSIDE).numpy()
    frame = record[places].assign(
        inside=np.tile(inside, problem.outputs), hmc_mean=mean, hmc_epistemic=variance
    )
    frame["class"] = record.get("class", int(problem.task == "binary"))
    for half in "ab":
        frame[f"hmc_epistemic_{half}"] = record[f"variance_{half}"].astype(float)
    if problem.task == "regression":
        return frame
    frame["hmc_total"] = mean * (1 - mean)
    frame["hmc_aleatoric"] = frame["hmc_total"] - variance
    for half, m in (("a", a), ("b", b)):
        frame[f"hmc_aleatoric_{half}"] = m * (1 - m) - frame[f"hmc_epistemic_{half}"]
    return frame


def convergence(*tasks: Task) -> pd.DataFrame:
    """What the sampler reports about every record: the worst r̂ and ESS over the grid.

    Args:
        tasks: keep the problems of these tasks only; all if none is given.

    Returns:
        One row per record: problem, prior, seed, parameters, r_hat, effective_samples,
        divergences, acceptance, leapfrog_steps, seconds.
    """
    rows = []
    for experiment in protocol.experiments(*tasks):
        provenance = artefacts.load("records", experiment.record).provenance
        told = provenance["configuration"] | provenance["report"]
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
