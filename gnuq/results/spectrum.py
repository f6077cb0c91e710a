"""How far a wide network's covariance is from a multiple of the identity (§3.2, Appendix B).

Everything is in the prior's coordinates, Λ^½ θ, where the prior is N(0, I) and damping is 1. The
generalised Gauss–Newton matrix (GGN) is there ŨᵀŨ with Ũ = UΛ^-½, whose non-zero eigenvalues are
those of the Gram matrix K = ŨŨᵀ = UΛ⁻¹Uᵀ: as many rows as training outputs, at any width. The
Laplace covariance has the eigenvalues 1/(1 + κ_i), and 1 in all other directions. The Hessian,
which has no such form, comes from curvlinops (the optional extra `oracle`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor, nn

from gnuq import artefacts
from gnuq.gradnorm import gradient_factors
from gnuq.networks import MapFit, Prior
from gnuq.posteriors.laplace import DualLaplace, full_laplace
from gnuq.posteriors.training import early_stopped, mode_near
from gnuq.problems import Problem
from gnuq.results.hessian import hessian_eigenvalues
from gnuq.scaling import PRIORS, WIDTHS, Run

#: Beyond it the mode under the unit prior takes L-BFGS more than half an hour.
WIDEST = 256
#: And those whose Hessian is formed, all eigenvalues of it.
FORMED = 64
#: Ranks that a saved spectrum keeps one by one at either end.
FIRST, LAST = 100, 10
#: A mode whose probabilities differ by less over the whole grid is the zero network.
FLAT = 1e-3
POINTS_AT_ONCE = 500


@dataclass(frozen=True)
class Curvature:
    """The GGN at a mode, in the prior's coordinates, by its non-zero eigenvalues.

    Attributes:
        laplace: the Laplace approximation that it belongs to.
        eigenvalues: κ, descending, those that rounding leaves above 0.
        vectors: eigenvectors of K, as columns.
    """

    laplace: DualLaplace
    eigenvalues: Float[Tensor, " rank"]
    vectors: Float[Tensor, "rows rank"]

    @property
    def parameters(self) -> int:
        """P."""
        return sum(self.laplace.training.sizes.values())


def curvature(fit: MapFit, problem: Problem, prior: Prior) -> Curvature:
    """Eigenvalues and eigenvectors of K = UΛ⁻¹Uᵀ, exact at any width."""
    laplace = full_laplace(fit, problem, prior)
    kernel = laplace.training.kernel(laplace.training, laplace.variances)
    values, vectors = torch.linalg.eigh((kernel + kernel.mT) / 2)
    kept = values > values[-1] * len(values) * torch.finfo(values.dtype).eps
    return Curvature(laplace, values[kept].flip(0), vectors[:, kept].flip(1))


def effective_dimension(eigenvalues: Float[Tensor, " rank"]) -> float:
    """Σ κ/(1 + κ) = tr(GGN Σ): how many directions the data determine."""
    return float((eigenvalues / (1 + eigenvalues)).sum())


def distance(eigenvalues: Float[Tensor, " rank"], parameters: int) -> float:
    """‖Σ − cI‖_F / ‖Σ‖_F with the best c = tr Σ / P, in the prior's coordinates.

    Args:
        eigenvalues: κ of the GGN, at most P of them; the others are 0.
        parameters: P.

    Raises:
        ValueError: more eigenvalues than parameters.
    """
    others = parameters - len(eigenvalues)
    if others < 0:
        raise ValueError(f"eigenvalues: {len(eigenvalues)} exceed parameters, {parameters}.")
    variances = 1 / (1 + eigenvalues)
    c = 1 - effective_dimension(eigenvalues) / parameters
    off = (variances - c).square().sum() + others * (1 - c) ** 2
    return float((off / (variances.square().sum() + others)).sqrt())


def distance_of_prior(prior: Prior, network: nn.Module) -> float:
    """The same of Λ⁻¹ in the parameters' own coordinates: what is left without any data."""
    variances = 1 / prior.precisions_of(network)
    return float((variances - variances.mean()).norm() / variances.norm())


def distance_of_parameters(laplace: DualLaplace) -> float:
    """The same of Σ = Λ⁻¹ − Λ⁻¹Uᵀ(I + K)⁻¹UΛ⁻¹ in the parameters' own coordinates.

    With M = (I + K)⁻¹ and G_n = UΛ^-n Uᵀ,

        tr Σ = tr Λ⁻¹ − tr(M G₂),   ‖Σ‖² = tr Λ⁻² − 2 tr(M G₃) + tr(M G₂ M G₂),

    by Gram matrices alone.
    """
    training, sizes = laplace.training, laplace.training.sizes
    G_2, G_3 = (
        training.kernel(training, {name: v**n for name, v in laplace.variances.items()})
        for n in (2, 3)
    )
    M_G_2, M_G_3 = (torch.cholesky_solve(G, laplace.cholesky) for G in (G_2, G_3))
    first, second = (sum(sizes[k] * v**n for k, v in laplace.variances.items()) for n in (1, 2))
    trace = first - M_G_2.trace()
    square = second - 2 * M_G_3.trace() + (M_G_2 * M_G_2.mT).sum()
    return float((1 - trace**2 / (sum(sizes.values()) * square)).clamp_min(0).sqrt())


def seen(
    found: Curvature, points: Float[Tensor, "grid d"]
) -> dict[str, Float[Tensor, "grid classes"]]:
    """What the gradients of the class probabilities see of Σ.

    Returns:
        norm: gᵀΛ⁻¹g; ratio: gᵀΣg / gᵀΛ⁻¹g, in (0, 1], the same for all x and classes if Σ ∝ Λ⁻¹;
        stiff: the share of gᵀΛ⁻¹g in the directions with κ > 1.
    """
    parts = [_seen(found, part) for part in points.split(POINTS_AT_ONCE)]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _seen(found: Curvature, points: Tensor) -> dict[str, Tensor]:
    """g̃ = Λ^-½ g has the coordinates v_iᵀ(Ũ g̃) / √κ_i in the GGN's eigenvectors."""
    laplace, kappa = found.laplace, found.eigenvalues[:, None]
    queries = gradient_factors(laplace.network, points, lambda outputs: outputs.softmax(1))
    norm = queries.squared_norms(laplace.variances)
    k = laplace.training.kernel(queries, laplace.variances)
    shares = (found.vectors.mT @ k).square() / kappa / norm.flatten()
    ratio = 1 - (shares * kappa / (1 + kappa)).sum(0)
    stiff = (shares * (kappa > 1)).sum(0)
    return {"norm": norm, "ratio": ratio.reshape(norm.shape), "stiff": stiff.reshape(norm.shape)}


def summary(run: Run, fit: MapFit, found: Curvature) -> pd.DataFrame:
    """What the spectrum comes to, and what the gradients see, on the grid and inside the data.

    Returns:
        One row per region (`wide`, `inside`): width, parameters, prior; negative_log_posterior;
        flat, whether the mode is the zero network; rank, largest, and stiff, the number of κ > 1;
        effective_dimension; distance, distance_raw and distance_prior (of the three functions);
        mean_variance, c, which a random direction sees. Over the region's points and classes:
        ratio_mean, ratio_low, _median and _high (5 %, 50 %, 95 %); log_spread and norm_spread,
        standard deviations of ln r and of ln gᵀΛ⁻¹g; rank_correlation of gᵀΛ⁻¹g with gᵀΣg,
        averaged over classes; and inside_stiff, the mean share with κ > 1.
    """
    probabilities = fit.network(run.grid.points).softmax(1)
    flat = bool((probabilities.amax(0) - probabilities.amin(0)).max() < FLAT)
    whole = {"width": run.width, "parameters": found.parameters, "prior": run.prior_name}
    whole |= {"negative_log_posterior": fit.negative_log_posterior, "flat": flat}
    whole |= _isotropy(found) | {"distance_prior": distance_of_prior(run.prior, fit.network)}
    views, inside = seen(found, run.grid.points), run.grid.inside(run.problem)
    regions = {"wide": torch.ones_like(inside), "inside": inside}
    rows = [
        whole | {"region": region} | _seen_in({k: v[kept] for k, v in views.items()}, flat=flat)
        for region, kept in regions.items()
    ]
    return pd.DataFrame(rows)


def _isotropy(found: Curvature) -> dict[str, float]:
    """What the eigenvalues alone say."""
    kappa, dimension = found.eigenvalues, effective_dimension(found.eigenvalues)
    return {
        "rank": len(kappa),
        "largest": float(kappa[0]),
        "stiff": int((kappa > 1).sum()),
        "effective_dimension": dimension,
        "distance": distance(kappa, found.parameters),
        "distance_raw": distance_of_parameters(found.laplace),
        "mean_variance": 1 - dimension / found.parameters,
    }


def _seen_in(views: dict[str, Tensor], *, flat: bool) -> dict[str, float]:
    """The gradients' part of a row; a constant prediction ranks nothing."""
    norm, ratio = views["norm"], views["ratio"]
    quantiles = np.quantile(ratio, (0.05, 0.5, 0.95))
    before, after = (pd.DataFrame(values.numpy()) for values in (norm, norm * ratio))
    return dict(zip(("ratio_low", "ratio_median", "ratio_high"), quantiles, strict=True)) | {
        "ratio_mean": float(ratio.mean()),
        "log_spread": float(ratio.log().std()),
        "norm_spread": float(norm.log().std()),
        "rank_correlation": np.nan if flat else before.corrwith(after, method="spearman").mean(),
        "inside_stiff": float(views["stiff"].mean()),
    }


def spectrum(
    run: Run, map_seed: int = 0, *, hessian: bool = True
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One network's spectra at the mode near the early-stopped network, as in the scaling study.

    Args:
        run: problem, network and prior.
        map_seed: of the start of training.
        hessian: also the Hessian's, which needs curvlinops.

    Returns:
        The `summary`, with hessian_largest and hessian_smallest; and eigenvalues, tidy: width,
        parameters, prior, matrix (`GGN`, `Hessian`), rank, eigenvalue.

    Raises:
        RuntimeError: training did not converge.
        ImportError: curvlinops is wanted and not installed.
    """
    start = early_stopped(run.architecture, run.problem, seed=map_seed)
    fit = mode_near(start, run.problem, run.prior)
    found = curvature(fit, run.problem, run.prior)
    row, kappa = summary(run, fit, found), found.eigenvalues.numpy()
    ranks = np.arange(1, len(kappa) + 1)
    frames = {"GGN": pd.DataFrame({"rank": ranks, "eigenvalue": kappa})}
    if hessian:
        frames["Hessian"] = hessian_eigenvalues(fit, run.problem, run.prior)
        values = frames["Hessian"]["eigenvalue"]
        row = row.assign(hessian_largest=values.iloc[0], hessian_smallest=values.iloc[-1])
    tidy = pd.concat(frames, names=["matrix"]).reset_index("matrix")
    tidy["width"], tidy["parameters"], tidy["prior"] = run.width, found.parameters, run.prior_name
    return row, tidy


def spectra() -> dict[str, pd.DataFrame]:
    """The results `spectrum` and `spectrum-eigenvalues`: one data seed, widths to `WIDEST`."""
    runs = [Run(width, prior) for width in WIDTHS if width <= WIDEST for prior in PRIORS]
    rows, eigenvalues = zip(
        *(spectrum(run, hessian=run.width <= FORMED) for run in runs), strict=True
    )
    tidy = pd.concat([thinned(frame) for frame in eigenvalues], ignore_index=True)
    return {"spectrum": pd.concat(rows, ignore_index=True), "spectrum-eigenvalues": tidy}


def thinned(eigenvalues: pd.DataFrame) -> pd.DataFrame:
    """A spectrum with fewer ranks: all at both ends, some between."""
    ranks = eigenvalues["rank"]
    step = (np.log(ranks) * 40).astype(int)
    last = eigenvalues.groupby("matrix")["rank"].transform("max") - LAST
    fresh = ~pd.concat([eigenvalues["matrix"], step], axis=1).duplicated()
    return eigenvalues[fresh | (ranks <= FIRST) | (ranks > last)]


def saved(name: str) -> pd.DataFrame:
    """A saved result, `spectrum` or `spectrum-eigenvalues`; ArtefactError if it is missing."""
    return artefacts.load("results", name).frame
