"""Eq. (5) to (7), §3.1: what a diagonal proxy and the identity each get wrong.

    gᵀΣg − gᵀD̂g  =  Σ_{i≠j} Σ_ij g_i g_j  [i]  +  Σ_i g_i² (d_i − d̂_i)  [ii]       (5)
    gᵀΣg − c‖g‖²  =  Σ_{i≠j} Σ_ij g_i g_j  [i]  +  Σ_i g_i² (d_i − c)   [iii]      (6)
    |[ii]|  versus  |[iii]|                                                         (7)

with d = diag Σ. The paper writes c = 1, "without loss of generality". But [iii] grows without
bound with the unit of θ, so (7) means something only for a stated c: the best one by least
squares (`best_multiple`), or the one with Σ's trace (`matching_trace`). And (7) drops [i], which
may cancel the other term: `ErrorTerms` therefore holds the total errors as well.

All functions take gradients as rows (queries, P). Σ enters by what it does: gᵀΣg and d, which
`dense_moments` reads off a matrix and `drawn_moments` off posterior draws, Σ never formed.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from gnuq.estimators import delta_variance


@dataclass(frozen=True)
class Moments:
    """What a covariance Σ says about some queries.

    Attributes:
        variance: gᵀΣg at each query.
        diagonal: d, the diagonal of Σ.
    """

    variance: Float[Tensor, " queries"]
    diagonal: Float[Tensor, " parameters"]


@dataclass(frozen=True)
class ErrorTerms:
    """The terms of Eq. (5) and (6) at each query.

    Attributes:
        variance: gᵀΣg, which both estimate.
        off_diagonal: [i].
        proxy: [ii].
        identity: [iii].
        scale: c, the multiple of the identity in [iii].
    """

    variance: Float[Tensor, " queries"]
    off_diagonal: Float[Tensor, " queries"]
    proxy: Float[Tensor, " queries"]
    identity: Float[Tensor, " queries"]
    scale: float

    @property
    def proxy_total(self) -> Float[Tensor, " queries"]:
        """[i] + [ii], the left side of Eq. (5)."""
        return self.off_diagonal + self.proxy

    @property
    def identity_total(self) -> Float[Tensor, " queries"]:
        """[i] + [iii], the left side of Eq. (6)."""
        return self.off_diagonal + self.identity


def dense_moments(
    gradients: Float[Tensor, "queries parameters"],
    covariance: Float[Tensor, "parameters parameters"],
) -> Moments:
    """gᵀΣg and diag Σ from Σ as a matrix.

    Raises:
        ValueError: Σ is of another size, or not a covariance.
    """
    return Moments(delta_variance(gradients, covariance), covariance.diagonal())


def drawn_moments(
    gradients: Float[Tensor, "queries parameters"], draws: Float[Tensor, "draws parameters"]
) -> Moments:
    """gᵀΣg and diag Σ with Σ the sample covariance of draws θ_s: gᵀΣg = Var_s[g·θ_s].

    Args:
        gradients: g, one row a query.
        draws: posterior draws, all chains together; they need not be centred.

    Raises:
        ValueError: fewer than two draws, or draws of another number of parameters.
    """
    if len(draws) < 2 or draws.shape[1] != gradients.shape[1]:
        raise ValueError(
            f"draws: shape {tuple(draws.shape)}; give at least two rows of "
            f"{gradients.shape[1]} parameters."
        )
    centred = draws - draws.mean(0)
    spread = (gradients @ centred.mT).square().sum(1) / (len(draws) - 1)
    return Moments(spread, centred.square().sum(0) / (len(draws) - 1))


def error_terms(
    gradients: Float[Tensor, "queries parameters"],
    moments: Moments,
    proxy_diagonal: Float[Tensor, " parameters"],
    *,
    scale: float | None = None,
) -> ErrorTerms:
    """All three terms of Eq. (5) and (6) at each query.

    Args:
        gradients: g, one row a query.
        moments: of the true Σ, at the same queries.
        proxy_diagonal: d̂, what the proxy data say about d.
        scale: c; the least-squares multiple of the identity if omitted.
    """
    if scale is None:
        scale = best_multiple(gradients.square().sum(1), moments.variance)
    return ErrorTerms(
        variance=moments.variance,
        off_diagonal=off_diagonal(gradients, moments),
        proxy=proxy_error(gradients, moments.diagonal, proxy_diagonal),
        identity=identity_error(gradients, moments.diagonal, scale),
        scale=scale,
    )


def off_diagonal(
    gradients: Float[Tensor, "queries parameters"], moments: Moments
) -> Float[Tensor, " queries"]:
    """Term [i], Σ_{i≠j} Σ_ij g_i g_j = gᵀΣg − Σ_i g_i² d_i: what any diagonal leaves out."""
    return moments.variance - gradients.square() @ moments.diagonal


def proxy_error(
    gradients: Float[Tensor, "queries parameters"],
    diagonal: Float[Tensor, " parameters"],
    proxy_diagonal: Float[Tensor, " parameters"],
) -> Float[Tensor, " queries"]:
    """Term [ii] of Eq. (5), Σ_i g_i² (d_i − d̂_i).

    Raises:
        ValueError: d̂ has another number of entries than d.
    """
    if proxy_diagonal.shape != diagonal.shape:
        raise ValueError(
            f"proxy_diagonal: shape {tuple(proxy_diagonal.shape)}; the covariance's diagonal has "
            f"{tuple(diagonal.shape)}."
        )
    return gradients.square() @ (diagonal - proxy_diagonal)


def identity_error(
    gradients: Float[Tensor, "queries parameters"],
    diagonal: Float[Tensor, " parameters"],
    scale: float,
) -> Float[Tensor, " queries"]:
    """Term [iii] of Eq. (6), Σ_i g_i² (d_i − c), for the identity's multiple c = `scale`."""
    return gradients.square() @ (diagonal - scale)


def best_multiple(
    estimate: Float[Tensor, " queries"], variance: Float[Tensor, " queries"]
) -> float:
    """The c that minimises Σ_q (variance_q − c·estimate_q)², over all queries together.

    With estimate = ‖g‖² it is the identity's c; with Σ_i g_i² d̂_i the proxy's, which deserves a
    multiple of its own wherever the identity is given one.

    Raises:
        ValueError: the estimate is zero everywhere.
    """
    square = float(estimate.square().sum())
    if not square > 0:
        raise ValueError("estimate: it is zero at every query; no multiple of it fits anything.")
    return float(estimate @ variance) / square


def matching_trace(diagonal: Float[Tensor, " parameters"]) -> float:
    """The c with tr(cI) = tr Σ: the mean of d, whatever the queries."""
    return float(diagonal.mean())
