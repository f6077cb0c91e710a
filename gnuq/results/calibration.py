"""What constant would turn ‖g‖² into a variance, and how far one constant serves a whole map."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd

from gnuq import protocol
from gnuq.networks import fit_map
from gnuq.posteriors import laplace
from gnuq.protocol import Experiment

#: Estimates of the variance that are calibrated; Laplace's constant should be one.
ESTIMATES = {"gradient_norm": "gradient_norm", "laplace": "laplace_epistemic"}


def calibrate(estimate: np.ndarray, target: np.ndarray) -> dict[str, float]:
    """The constant c that fits c · estimate to the target, and how well one constant does.

    Args:
        estimate: values on the grid, not negative.
        target: the reference's variances there, positive.

    Returns:
        `constant` (least squares); `low`, `median` and `high`, the 5 %, 50 % and 95 % quantiles
        of target / estimate; `within_2`, the share of points where c · estimate is within a
        factor of two of the target; `explained`, the share of the target's variance over the
        grid that c · estimate explains (negative: worse than the mean).

    Raises:
        ValueError: different lengths, or values that are negative or not finite.
    """
    if estimate.shape != target.shape:
        raise ValueError(f"target: shape {target.shape} for estimates {estimate.shape}.")
    for name, values in (("estimate", estimate), ("target", target)):
        if not (np.isfinite(values).all() and (values >= 0).all()):
            raise ValueError(f"{name}: it has negative, infinite or missing values.")
    if not (estimate > 0).any() or not (target > 0).all():
        raise ValueError("estimate, target: all zero, or a target of zero; nothing to calibrate.")
    constant = float(estimate @ target / (estimate @ estimate))
    with np.errstate(divide="ignore"):
        ratio = target / estimate  # infinite where the estimate has underflowed: a true quantile
    low, median, high = np.quantile(ratio, [0.05, 0.5, 0.95], method="nearest")
    residual = ((target - constant * estimate) ** 2).sum()
    return {
        "constant": constant,
        "low": float(low),
        "median": float(median),
        "high": float(high),
        "within_2": float(((ratio > constant / 2) & (ratio < constant * 2)).mean()),
        "explained": float(1 - residual / ((target - target.mean()) ** 2).sum()),
    }


def calibration(experiment: Experiment, frame: pd.DataFrame) -> pd.DataFrame:
    """The calibration of ‖g‖² and of gᵀΣg, on the whole grid and inside the data.

    Args:
        experiment: problem and prior.
        frame: its `maps`.

    Returns:
        One row per estimate and region: problem, prior, seed, estimate, region, the fields of
        `calibrate`, and `mean_variance`, the mean posterior variance of a weight under Laplace
        at the mode: what c would be if gᵀΣg = (tr Σ / P) ‖g‖².
    """
    fit = fit_map(experiment.architecture, experiment.problem, experiment.prior)
    covariance = laplace.dense_covariance(fit, experiment.problem, experiment.prior)
    rows = []
    for (name, column), inside in itertools.product(ESTIMATES.items(), (False, True)):
        part = frame[frame["inside"]] if inside else frame
        found = calibrate(part[column].to_numpy(), part["hmc_epistemic"].to_numpy())
        rows.append({"estimate": name, "region": "inside" if inside else "wide"} | found)
    return pd.DataFrame(rows).assign(
        problem=experiment.problem_name,
        prior=experiment.prior_name,
        seed=experiment.seed,
        mean_variance=float(covariance.diagonal().mean()),
    )


def calibration_table(found: pd.DataFrame, region: str = "inside") -> pd.DataFrame:
    """The constants under the primary prior, mean over data seeds.

    Args:
        found: what the saved result `calibration` holds.
        region: `"wide"` or `"inside"`.

    Returns:
        One row per problem: c, its range over data seeds, the spread of the pointwise constants
        (95 % quantile over 5 % quantile), the share of points within a factor of two, and the
        same share for Laplace, whose constant is taken as it is fitted too.
    """
    chosen = found[(found["prior"] == protocol.PRIMARY) & (found["region"] == region)]
    rows = {}
    for problem, part in chosen.groupby("problem", sort=False):
        norm, curved = (part[part["estimate"] == name] for name in ESTIMATES)
        rows[problem] = {
            "c": norm["constant"].mean(),
            "lowest": norm["constant"].min(),
            "highest": norm["constant"].max(),
            "tr Σ / P": norm["mean_variance"].mean(),
            "95 % : 5 %": (norm["high"] / norm["low"]).median(),
            "within 2×": norm["within_2"].mean(),
            "Laplace: c": curved["constant"].mean(),
            "Laplace: within 2×": curved["within_2"].mean(),
        }
    return pd.DataFrame(rows).T.rename_axis("problem")


def scaled_norm(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with `scaled_norm` = c ‖g‖², c fitted to the reference on the whole grid."""
    fitted = calibrate(frame["gradient_norm"].to_numpy(), frame["hmc_epistemic"].to_numpy())
    return frame.assign(scaled_norm=fitted["constant"] * frame["gradient_norm"])
