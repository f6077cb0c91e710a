"""Eq. (5) to (7) on Appendix A's network, and the proxies held against sampled posteriors."""

from __future__ import annotations

import itertools

import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from gnuq.estimators import predictions_from
from gnuq.gradnorm import gradient_factors
from gnuq.posteriors import fisher, laplace
from gnuq.posteriors.error_terms import (
    ErrorTerms,
    Moments,
    best_multiple,
    dense_moments,
    error_terms,
    matching_trace,
)
from gnuq.protocol import DATA_SEEDS, Experiment
from gnuq.results.proxy_bias import (
    PLAIN,
    PROBLEMS,
    SEEDS,
    Trained,
    logit_variance,
    symmetric_grid,
    trained,
)
from gnuq.results.references import reference

#: What the identity and the proxy are each multiplied by before they are compared.
SCALINGS = {
    "paper": "c = 1, proxy as given",
    "trace": "c from the trace of Σ, proxy as given",
    "identity": "best c, proxy as given",
    "both": "best multiple of each",
}
#: Problems whose records sample this very network's posterior under λ = 1.
SAMPLED = ("xor", "rings")


def terms(problem_name: str, seed: int) -> pd.DataFrame:
    """How often the proxy's error exceeds the identity's, λ = 1, over the grid.

    The truth is the full Laplace covariance of all data, (GGN + λI)⁻¹; the proxies are diagonal
    empirical Fisher matrices of the top half, the bottom half, or all data.

    Args:
        problem_name: one of `gnuq.results.proxy_bias.PROBLEMS`.
        seed: of data and start.

    Returns:
        One row per proxy, scaling (`SCALINGS`) and region (of the grid: `"own"`, where the
        proxy has data, `"absent"`, or `"everywhere"`): problem, seed, proxy, scaling, region,
        and what `compared` gives.
    """
    run = trained(problem_name, seed)
    points = symmetric_grid(run.problem)
    gradients = gradient_factors(run.fit.network, points, _probability).jacobian()
    moments = dense_moments(gradients, laplace.dense_covariance(run.fit, run.problem, run.prior))
    rows = []
    for proxy, chosen in _proxies(run).items():
        data = fisher.subset(run.problem, chosen)
        diagonal = fisher.diagonal_fisher(run.fit, data, run.prior).covariance
        for scaling in SCALINGS:
            found = scaled_terms(gradients, moments, diagonal, scaling)
            for region, kept in _regions(proxy, points[:, 1] > 0).items():
                named = {"problem": problem_name, "seed": seed, "proxy": proxy}
                named |= {"scaling": scaling, "region": region}
                rows.append(named | compared(found, kept))
    return pd.DataFrame(rows)


def scaled_terms(
    gradients: Float[Tensor, "queries parameters"],
    moments: Moments,
    proxy_diagonal: Float[Tensor, " parameters"],
    scaling: str,
) -> ErrorTerms:
    """Eq. (5) and (6) after one of `SCALINGS`.

    Args:
        gradients: g, one row a query.
        moments: of the true Σ.
        proxy_diagonal: d̂.
        scaling: a key of `SCALINGS`.
    """
    scale = {"paper": 1.0, "trace": matching_trace(moments.diagonal)}.get(scaling)
    if scaling == "both":
        estimate = gradients.square() @ proxy_diagonal
        proxy_diagonal = proxy_diagonal * best_multiple(estimate, moments.variance)
    return error_terms(gradients, moments, proxy_diagonal, scale=scale)


def compared(found: ErrorTerms, kept: Bool[Tensor, " queries"]) -> dict[str, float]:
    """Eq. (7) over some queries.

    Returns:
        c; larger: share of queries with |[ii]| > |[iii]|; worse: share where the proxy's total
        error |[i] + [ii]| exceeds the identity's |[i] + [iii]|; misled: share where these two
        disagree, so that Eq. (7) names the wrong winner; opposed: share where [i] and
        [ii] have opposite signs; size_off_diagonal, size_proxy, size_identity, size_proxy_total,
        size_identity_total: mean sizes of the terms, over the mean of gᵀΣg.
    """
    size = found.variance[kept].mean()
    names = ("off_diagonal", "proxy", "identity", "proxy_total", "identity_total")
    parts = {name: getattr(found, name)[kept] for name in names}
    larger = parts["proxy"].abs() > parts["identity"].abs()
    worse = parts["proxy_total"].abs() > parts["identity_total"].abs()
    shares = {
        "larger": larger,
        "worse": worse,
        "misled": larger != worse,
        "opposed": parts["off_diagonal"] * parts["proxy"] < 0,
    }
    return (
        {"c": found.scale}
        | {name: float(share.double().mean()) for name, share in shares.items()}
        | {f"size_{name}": float(part.abs().mean() / size) for name, part in parts.items()}
    )


def proxy_bias_terms() -> pd.DataFrame:
    """`terms` of all problems and seeds (two minutes)."""
    return pd.concat([terms(*run) for run in itertools.product(PROBLEMS, SEEDS)], ignore_index=True)


def against_posterior(problem_name: str, seed: int) -> pd.DataFrame:
    """Whether a biased covariance ranks inputs worse than none: correlations with HMC's variance.

    Args:
        problem_name: one of `SAMPLED`.
        seed: one of `gnuq.protocol.DATA_SEEDS`.

    Returns:
        One row per estimate (`identity`, `bernoulli`, or a covariance and the data it saw, such
        as `full, top`) and region (`wide` or `inside` the data): problem, seed, estimate,
        region, pearson, spearman.

    Raises:
        ValueError: a problem whose record is of another network.
        ArtefactError: the record is missing.
    """
    if problem_name not in SAMPLED:
        raise ValueError(f"problem_name: {problem_name!r}; sampled are {', '.join(SAMPLED)}.")
    experiment = Experiment(problem_name, seed=seed)
    truth, run = reference(experiment), trained(problem_name, seed)
    estimates = _estimates(run, experiment.grid.points)
    rows = []
    for region, kept in {"wide": truth["inside"] | True, "inside": truth["inside"]}.items():
        sampled = truth["hmc_epistemic"][kept]
        for name in estimates:
            named = {"problem": problem_name, "seed": seed, "estimate": name, "region": region}
            told = {
                kind: estimates[name][kept].corr(sampled, method=kind)
                for kind in ("pearson", "spearman")
            }
            rows.append(named | told)
    return pd.DataFrame(rows)


def proxy_bias_posterior() -> pd.DataFrame:
    """`against_posterior` of all records of this network (one minute)."""
    runs = itertools.product(SAMPLED, DATA_SEEDS)
    return pd.concat([against_posterior(*run) for run in runs], ignore_index=True)


def _estimates(run: Trained, points: Float[Tensor, "grid 2"]) -> pd.DataFrame:
    """Every estimate at some points: ‖g‖², p(1 − p), and gᵀΣg under each proxy."""
    logit = gradient_factors(run.fit.network, points, lambda outputs: outputs[:, 0])
    p = logit.values.sigmoid()
    slope = p * (1 - p)
    columns = {"identity": slope.square() * logit.squared_norms(), "bernoulli": slope}
    for variant, (proxy, chosen) in itertools.product(PLAIN, _proxies(run).items()):
        variance = logit_variance(run, variant, chosen, points)
        columns[f"{variant.covariance}, {proxy}"] = slope.square() * variance
    return pd.DataFrame({name: values.detach().numpy() for name, values in columns.items()})


def _proxies(run: Trained) -> dict[str, Bool[Tensor, " points"]]:
    """What each proxy sees: either half, or everything."""
    return {"top": run.upper, "bottom": ~run.upper, "all": torch.ones_like(run.upper)}


def _regions(proxy: str, upper: Bool[Tensor, " grid"]) -> dict[str, Bool[Tensor, " grid"]]:
    """Where a proxy has data and where it has none; all data have no absent half."""
    everywhere = {"everywhere": torch.ones_like(upper)}
    if proxy == "all":
        return everywhere
    own = upper if proxy == "top" else ~upper
    return {"own": own, "absent": ~own} | everywhere


def _probability(outputs: Tensor) -> Tensor:
    return predictions_from(outputs, "sigmoid")
