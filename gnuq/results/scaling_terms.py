"""Eq. (5) to (7) as the network grows: which error is larger, and what the off-diagonal is worth.

Σ comes from the posterior draws (the streamed variance of gᵀθ, and the weights' variances) and
from the full Laplace approximation. The proxy is the diagonal empirical Fisher matrix of the data
in the upper half of the plane, with the prior's precision added, as in §3.1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from scipy.stats import spearmanr
from torch import Tensor, nn
from torch.nn import functional as F

from gnuq import artefacts
from gnuq.gradnorm import gradient_factors
from gnuq.posteriors import laplace
from gnuq.posteriors.diagonals import diagonal_form
from gnuq.posteriors.training import point_estimate
from gnuq.results.methods import by_class
from gnuq.results.scaling import _fit, prior_norm
from gnuq.scaling import Run

Values = Float[np.ndarray, " rows"]
#: Widths whose Laplace diagonal is formed: 1 600 gradients of all parameters are held for it.
WIDEST = 128
#: Given a multiple: neither, or the identity's and the proxy's best one each, by least squares.
SCALINGS = ("identity", "both")


@dataclass(frozen=True)
class Forms:
    """Quadratic forms of the gradients at every grid point and class.

    Attributes:
        variance: gᵀΣg.
        diagonal: Σ_i g_i² d_i, with d the diagonal of Σ.
        norm: ‖g‖².
        prior: Σ_i v_i g_i².
        proxy: Σ_i g_i² d̂_i.
    """

    variance: Values
    diagonal: Values
    norm: Values
    prior: Values
    proxy: Values


def terms(run: Run) -> pd.DataFrame:
    """How the terms of Eq. (5) to (7) compare over a run's grid.

    Returns:
        One row per Σ (`hmc`, and up to `WIDEST` `laplace`) and scaling: name, width, parameters,
        prior, seed, what `compared` gives.
    """
    network, _ = point_estimate(run.architecture, run.problem, run.prior)
    norm, prior, proxy = _fixed(run, network)
    record = artefacts.load("records", run.name).frame
    drawn = (record["linear_variance_a"] + record["linear_variance_b"]).to_numpy(float) / 2
    found = {"hmc": Forms(drawn, record["diagonal"].to_numpy(float), norm, prior, proxy)}
    if run.width <= WIDEST:
        found["laplace"] = Forms(*_laplace(run, network), norm, prior, proxy)
    rows = [
        {"sigma": sigma, "scaling": scaling, **compared(forms, scaling)}
        for sigma, forms in found.items()
        for scaling in SCALINGS
    ]
    return pd.DataFrame(rows).assign(
        name=run.name,
        width=run.width,
        parameters=run.architecture.parameters,
        prior=run.prior_name,
        seed=run.seed,
    )


def compared(forms: Forms, scaling: str) -> dict[str, float]:
    """The terms in numbers, over all grid points and classes.

    Args:
        forms: of one Σ.
        scaling: one of `SCALINGS`.

    Returns:
        off_diagonal, the mean of |[i]| over the mean of gᵀΣg; cancels, the share of points at
        which [i] is negative; proxy_term_larger, the share at which |[ii]| > |[iii]|, Eq. (7);
        proxy_worse, the share at which the proxy's whole error is larger, |[i] + [ii]| >
        |[i] + [iii]|; and the rank correlation of ‖g‖², of the prior-weighted norm, of the true
        diagonal and of the proxy with gᵀΣg.
    """
    multiple = _best(forms.norm, forms.variance)
    other = _best(forms.proxy, forms.variance) if scaling == "both" else 1.0
    off = forms.variance - forms.diagonal
    proxy, identity = forms.diagonal - other * forms.proxy, forms.diagonal - multiple * forms.norm
    ranks = {
        f"spearman_{name}": float(spearmanr(getattr(forms, name), forms.variance)[0])
        for name in ("norm", "prior", "diagonal", "proxy")
    }
    return {
        "off_diagonal": float(np.abs(off).mean() / forms.variance.mean()),
        "cancels": float((off < 0).mean()),
        "proxy_term_larger": float((np.abs(proxy) > np.abs(identity)).mean()),
        "proxy_worse": float((np.abs(off + proxy) > np.abs(off + identity)).mean()),
        **ranks,
    }


def _best(estimate: Values, variance: Values) -> float:
    """The multiple of an estimate that fits the variance best, by least squares."""
    return float(estimate @ variance / (estimate @ estimate))


def _fixed(run: Run, network: nn.Sequential) -> tuple[Values, Values, Values]:
    """‖g‖², the prior-weighted norm and the proxy's form: none of them needs Σ."""
    points = run.grid.points
    ones = {name: 1.0 for name, _ in network.named_parameters()}
    forms = [prior_norm(network, points, v) for v in (ones, run.prior.variances(network))]
    proxy = _form(network, points, proxy_diagonal(run, network))
    return by_class(forms[0]), by_class(forms[1]), by_class(proxy)


def _form(network: nn.Module, points: Tensor, diagonal: Tensor) -> Tensor:
    parts = [gradient_factors(network, part, lambda f: f.softmax(1)) for part in points.split(500)]
    return torch.cat([diagonal_form(part, diagonal) for part in parts])


def proxy_diagonal(run: Run, network: nn.Module) -> Float[Tensor, " parameters"]:
    """d̂_i = 1 / (λ_i + F_ii), F the empirical Fisher of the data in the upper half plane."""
    problem = run.problem
    upper = problem.inputs[:, 1] > 0
    total = run.prior.precisions_of(network)
    inputs, targets = problem.inputs[upper], problem.targets[upper]
    for x, y in zip(inputs.split(20), targets.split(20), strict=True):
        scores = gradient_factors(
            network,
            x,
            lambda f, y=y: -F.cross_entropy(f, y, reduction="none"),  # type: ignore[misc]
        )
        total = total + scores.jacobian().square().sum(0)
    return 1 / total


def _laplace(run: Run, network: nn.Sequential) -> tuple[Values, Values]:
    """gᵀΣg and Σ_i g_i² Σ_ii with the full Laplace covariance."""
    problem, points = run.problem, run.grid.points
    curved = laplace.full_laplace(_fit(network), problem, run.prior)
    variance = curved.variance(points, lambda f: f.softmax(1), batch_size=500)
    free = 1 / run.prior.precisions_of(network)
    rows = torch.linalg.solve_triangular(
        curved.cholesky, curved.training.jacobian() * free, upper=False
    )
    diagonal = free - rows.square().sum(0)
    return by_class(variance), by_class(_form(network, points, diagonal))
