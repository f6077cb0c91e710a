"""The scaling study: every estimate against the streamed reference, run by run (Table 10)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from scipy.stats import rankdata
from torch import nn

from gnuq import artefacts, protocol
from gnuq.estimators import aleatoric, epistemic
from gnuq.gradnorm import gradient_factors
from gnuq.networks import MapFit
from gnuq.posteriors import laplace
from gnuq.posteriors.training import early_stopped, is_flat, mode_near
from gnuq.results.correlations import correlate
from gnuq.results.methods import by_class
from gnuq.scaling import MAP_SEEDS, SEVERAL, Run

#: Comparison → columns of `estimates` and `reference`: (estimate, target).
EPISTEMIC = {
    "gradient_norm": ("gradient_norm", "hmc_epistemic"),
    "prior_norm": ("prior_norm", "hmc_epistemic"),
    "bernoulli": ("bernoulli", "hmc_epistemic"),
    "laplace": ("laplace", "hmc_epistemic"),
    "gn_laplace": ("gradient_norm", "laplace"),
    "ceiling": ("hmc_epistemic_a", "hmc_epistemic_b"),
    "early_norm": ("early_norm", "hmc_epistemic"),
    "early_bernoulli": ("early_bernoulli", "hmc_epistemic"),
    "draw_norm": ("draw_norm", "hmc_epistemic"),
    "draw_bernoulli": ("draw_bernoulli", "hmc_epistemic"),
}
ALEATORIC = {
    "point": ("bernoulli", "hmc_aleatoric"),
    "point_total": ("bernoulli", "hmc_total"),
    "ceiling": ("hmc_aleatoric_a", "hmc_aleatoric_b"),
}
#: Region → share of the data's extent that it covers; None is the whole grid.
REGIONS: dict[str, float | None] = {"wide": None, "data": 1.0, "inside": protocol.INSIDE}


def reference(run: Run) -> pd.DataFrame:
    """A run's record as Eq. (2), over all chains and over either half of them.

    Returns:
        One row per class and grid point, class by class: x, y, class; hmc_mean, hmc_epistemic,
        hmc_aleatoric, hmc_total, the former two variances also with `_a` and `_b`; r_hat,
        effective_samples; what else the record holds. Units: squared probability.
    """
    frame = artefacts.load("records", run.name).frame
    chains = range(run.sampler.chains)
    half = len(chains) // 2
    found = frame.drop(columns=[f"{m}_{c}" for m in ("mean", "variance") for c in chains])
    for suffix, part in {"": chains, "_a": chains[:half], "_b": chains[half:]}.items():
        mean, variance = pooled(frame, part)
        found[f"hmc_epistemic{suffix}"] = variance
        found[f"hmc_aleatoric{suffix}"] = mean * (1 - mean) - variance
        if not suffix:
            found["hmc_mean"], found["hmc_total"] = mean, mean * (1 - mean)
    draw = found.pop("draw_probability").astype(float)
    return found.assign(draw_bernoulli=draw * (1 - draw))


def pooled(record: pd.DataFrame, chains: range) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of a record over some of its chains, all of one length."""
    means = np.stack([record[f"mean_{c}"].to_numpy(float) for c in chains])
    within = np.stack([record[f"variance_{c}"].to_numpy(float) for c in chains])
    return means.mean(0), within.mean(0) + means.var(0)


def estimates(run: Run, map_seed: int = 0) -> tuple[pd.DataFrame, dict[str, float]]:
    """What the point estimate and its curvature say on a run's grid.

    Args:
        run: one of `gnuq.scaling.runs`.
        map_seed: the start of the training.

    Returns:
        One row per class and grid point, class by class: gradient_norm = ‖g‖², prior_norm =
        Σ_i v_i g_i² with the prior's variances v, laplace = gᵀΣg in the dual form, bernoulli =
        p(1 − p); early_norm and early_bernoulli, the same at the early-stopped network. And what
        was found: `flat`, 1 where the mode is the zero network and the early-stopped network
        stands in for it.
    """
    problem, points = run.problem, run.grid.points
    # `training.point_estimate` taken apart, so that the network is trained once.
    trained = early_stopped(run.architecture, problem, seed=map_seed)
    fit = mode_near(trained, problem, run.prior)
    flat = is_flat(fit.network, problem)
    network = trained if flat else fit.network
    found, early = (epistemic(n, points, link="softmax") for n in (network, trained))
    curved = laplace.full_laplace(_fit(network), problem, run.prior)
    columns = {
        "gradient_norm": found.total,
        "prior_norm": prior_norm(network, points, run.prior.variances(network)),
        "laplace": curved.variance(points, lambda f: f.softmax(1), batch_size=500),
        "bernoulli": aleatoric(found),
        "early_norm": early.total,
        "early_bernoulli": aleatoric(early),
    }
    told = {"flat": float(flat)}
    return pd.DataFrame({name: by_class(values) for name, values in columns.items()}), told


def prior_norm(
    network: nn.Module, points: Float[torch.Tensor, "grid 2"], variances: Mapping[str, float]
) -> Float[torch.Tensor, "grid classes"]:
    """Σ_i v_i g_i² of every class: the identity in the coordinates in which the prior is one."""
    parts = [gradient_factors(network, part, lambda f: f.softmax(1)) for part in points.split(500)]
    return torch.cat([part.squared_norms(variances) for part in parts])


def _fit(network: nn.Module) -> MapFit:
    """A trained network as the Laplace module takes it."""
    return MapFit(network, np.nan, np.nan, 0)  # type: ignore[arg-type]


def starts(run: Run) -> tuple[int, ...]:
    """The MAP seeds of a run: several up to width 128 of the study."""
    return MAP_SEEDS if run.width <= SEVERAL and not run.sweep else MAP_SEEDS[:1]


def compare(run: Run) -> pd.DataFrame:
    """All correlations of one run.

    Returns:
        Tidy: name, width, parameters, points, prior, variant, sweep, seed, map_seed, flat; region
        (`REGIONS`), quantity, comparison, pearson, spearman. The comparison `partial` is the
        gradient norm's correlation with the reference once p(1 − p) is given.
    """
    target = reference(run)
    inside = {
        name: np.tile(run.grid.inside(run.problem, share).numpy(), run.problem.outputs)
        for name, share in REGIONS.items()
        if share is not None
    }
    rows = []
    for start in starts(run):
        found, told = estimates(run, start)
        frame = target.join(found)
        for region in REGIONS:
            part = frame[inside[region]] if region in inside else frame
            rows.append(_correlations(part).assign(region=region, map_seed=start, **told))
    return pd.concat(rows, ignore_index=True).assign(
        name=run.name,
        width=run.width,
        parameters=run.architecture.parameters,
        points=len(run.problem.inputs),
        prior=run.prior_name,
        variant=run.variant,
        sweep=run.sweep,
        seed=run.seed,
    )


def _correlations(frame: pd.DataFrame) -> pd.DataFrame:
    quantities = {"epistemic": EPISTEMIC, "aleatoric": ALEATORIC}
    parts = [correlate(frame, pairs).assign(quantity=q) for q, pairs in quantities.items()]
    r, rho = partial_correlations(
        frame["gradient_norm"].to_numpy(),
        frame["hmc_epistemic"].to_numpy(),
        frame["bernoulli"].to_numpy(),
    )
    partial = {"comparison": "partial", "pearson": r, "spearman": rho, "quantity": "epistemic"}
    return pd.concat([*parts, pd.DataFrame([partial])], ignore_index=True)


def partial_correlations(
    x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"], given: Float[np.ndarray, " n"]
) -> tuple[float, float]:
    """Partial Pearson and Spearman correlation of x and y, a third variable given.

    (r_xy − r_xz r_yz) / √((1 − r_xz²)(1 − r_yz²)), of the values and of their ranks.

    Returns:
        Both; NaN where a variable is constant or a function of the third.
    """
    found = []
    for transform in (np.asarray, rankdata):
        with np.errstate(invalid="ignore", divide="ignore"):
            r = np.corrcoef(np.stack([transform(v) for v in (x, y, given)]))
            rest = (1 - r[0, 2] ** 2) * (1 - r[1, 2] ** 2)
            found.append(float((r[0, 1] - r[0, 2] * r[1, 2]) / np.sqrt(rest)))
    return found[0], found[1]
