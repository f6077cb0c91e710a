"""Rank-normalised split-r̂, bulk effective sample size and nested r̂ of many quantities at once.

The definitions are ArviZ's, which a test holds equal; here all quantities go through one array
operation, where ArviZ takes one after the other. NumPy and SciPy are all that is needed.

Source:
    Vehtari et al. (2021), r̂ and bulk ESS; Margossian et al. (2024), nested r̂.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.special import ndtri

#: Quantities at a time: the Fourier transforms of 8 000 draws of so many fit into half a GiB.
AT_ONCE = 512


def convergence(
    values: Float[np.ndarray, " chains draws *points"],
) -> tuple[Float[np.ndarray, "*points"], Float[np.ndarray, "*points"]]:
    """r̂, the larger of that of ranks and of folded ranks, and the bulk effective sample size.

    Args:
        values: shape (chains, draws, …), at least 2 chains and 8 draws; any monotone function of a
            quantity gives the same, up to the folded ranks.

    Returns:
        Both of shape (…).

    Raises:
        ValueError: too few chains or draws, or values that are not finite.
    """
    chains, draws, *points = values.shape
    if chains < 2 or draws < 8:
        raise ValueError(f"values: {chains} chains × {draws} draws; give 2 × 8 at least.")
    flat = values.reshape(chains, draws, -1)
    found = [_of(flat[:, :, at : at + AT_ONCE]) for at in range(0, flat.shape[2], AT_ONCE)]
    r_hat, effective = (np.concatenate(column) for column in zip(*found, strict=True))
    return r_hat.reshape(points), effective.reshape(points)


def nested_r_hat(
    values: Float[np.ndarray, " chains draws *points"], groups: int
) -> Float[np.ndarray, "*points"]:
    """Nested r̂ of rank-normalised values: √(1 + B/W) of groups of chains.

    For many short chains: B is the variance of the groups' means, W the mean over groups of the
    variance between a group's chains plus the mean variance within them. Chains of one group are
    meant to start at one point; where they do not, it errs on the safe side.

    Args:
        values: shape (chains, draws, …), chains of a group one after the other.
        groups: how many; it divides the number of chains.

    Raises:
        ValueError: groups that do not divide, or fewer than two.
    """
    chains, draws, *points = values.shape
    if groups < 2 or chains % groups:
        raise ValueError(f"groups: {groups} does not divide {chains} chains, or is below 2.")
    flat = values.reshape(chains, draws, -1).astype(np.float64)
    z = rank_normalised(flat).reshape(groups, chains // groups, draws, -1)
    within = z.var(2, ddof=1).mean(1)
    means = z.mean(2)
    spread = means.var(1, ddof=1) if chains > groups else np.zeros_like(within)
    between = means.mean(1).var(0, ddof=1)
    found: np.ndarray = np.sqrt(1 + between / (within + spread).mean(0))
    return found.reshape(points)


def rank_normalised(
    values: Float[np.ndarray, " chains draws points"],
) -> Float[np.ndarray, " chains draws points"]:
    """Φ⁻¹((r − 3⁄8) / (S + ¼)) with r the rank among all S draws, ties at their mean rank."""
    flat = values.reshape(-1, values.shape[2])
    order = np.argsort(flat, axis=0)
    ordered = np.take_along_axis(flat, order, 0)
    places = np.arange(len(flat))[:, None]
    rises = ordered[1:] > ordered[:-1]
    edge = np.ones((1, flat.shape[1]), bool)
    first = np.maximum.accumulate(np.where(np.concatenate([edge, rises]), places, 0), axis=0)
    lasts = np.where(np.concatenate([rises, edge]), places, len(flat))
    last = np.minimum.accumulate(lasts[::-1], axis=0)[::-1]
    ranks = np.empty(flat.shape)
    np.put_along_axis(ranks, order, (first + last) / 2 + 1, 0)
    z: np.ndarray = ndtri((ranks - 0.375) / (len(flat) + 0.25))
    return z.reshape(values.shape)


def _of(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """r̂ and bulk ESS of some quantities, shape (chains, draws, points)."""
    if not np.isfinite(values).all():
        raise ValueError("values: they contain NaN or infinity; the sampler has diverged.")
    halves = _split(values.astype(np.float64))
    ranked = rank_normalised(halves)
    folded = rank_normalised(abs(halves - np.median(halves, axis=(0, 1))))
    return np.maximum(_r_hat(ranked), _r_hat(folded)), _effective(ranked)


def _split(values: np.ndarray) -> np.ndarray:
    """Every chain as two chains; an odd draw in the middle is left out."""
    half = values.shape[1] // 2
    return np.concatenate([values[:, :half], values[:, -half:]])


def _r_hat(values: np.ndarray) -> np.ndarray:
    draws = values.shape[1]
    within = values.var(1, ddof=1).mean(0)
    between = draws * values.mean(1).var(0, ddof=1)
    found: np.ndarray = np.sqrt((between / within + draws - 1) / draws)
    return found


def _effective(values: np.ndarray) -> np.ndarray:
    """Effective sample size of the mean, by Geyer's initial monotone sequence."""
    chains, draws, _ = values.shape
    covariances = _autocovariances(values)
    within = covariances[0] * draws / (draws - 1)
    total = covariances[0] + values.mean(1).var(0, ddof=1)
    rho = 1 - (within - covariances) / total
    rho[0] = 1.0
    pairs = (draws - 3) // 2  # as many as ArviZ looks at
    sums = rho[0 : 2 * pairs : 2] + rho[1 : 2 * pairs : 2]
    kept = np.cumprod(sums > 0, axis=0).astype(bool)
    kept[0] = True
    monotone = np.minimum.accumulate(np.where(kept, sums, np.inf), axis=0)
    count = kept.sum(0)
    # The first even term after the sequence lessens the antithetic case's bias, if it is positive.
    extra = np.maximum(np.take_along_axis(rho, np.minimum(2 * count, draws - 1)[None], 0)[0], 0)
    tau = -1 + 2 * np.where(kept, monotone, 0).sum(0) + extra
    size = chains * draws
    found: np.ndarray = size / np.maximum(tau, 1 / np.log10(size))
    return found


def _autocovariances(values: np.ndarray) -> np.ndarray:
    """Mean over chains of the autocovariances, divided by the number of draws; lags first."""
    draws = values.shape[1]
    centred = values - values.mean(1, keepdims=True)
    length = 1 << (2 * draws - 1).bit_length()
    power = np.zeros((length // 2 + 1, values.shape[2]))
    for chain in centred:
        power += abs(np.fft.rfft(chain, length, axis=0)) ** 2
    found: np.ndarray = np.fft.irfft(power / len(values), length, axis=0)[:draws] / draws
    return found
