"""How much of the other half a proxy must hold before the distortion of Appendix A is gone."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pandas as pd
from jaxtyping import Bool
from torch import Tensor

from gnuq.results.proxy_bias import (
    PLAIN,
    PROBLEMS,
    SEEDS,
    distortion,
    proxy_maps,
    shuffled,
    trained,
)

#: Shares of the other half that a proxy may hold as well.
SHARES = (0.0, 0.05, 0.2, 0.5, 0.8, 1.0)


def coverage(
    problem_name: str, seed: int, *, precision: float = 1.0, shares: Sequence[float] = SHARES
) -> pd.DataFrame:
    """How the distortion falls as each proxy also holds a random share of the other half.

    Args:
        problem_name: one of `PROBLEMS`.
        seed: of data, start and the random share.
        precision: λ.
        shares: between 0 (one half alone) and 1 (all training data, for both proxies).

    Returns:
        One row per covariance and share: problem, seed, precision, covariance, share, then what
        `distortion` gives.

    Raises:
        ValueError: a share outside [0, 1].
    """
    if wrong := [share for share in shares if not 0 <= share <= 1]:
        raise ValueError(f"shares: {wrong[0]} is not between 0 and 1.")
    run = trained(problem_name, seed, precision)
    rows = []
    for variant, share in itertools.product(PLAIN, shares):
        proxies = tuple(_with_share(half, share, seed) for half in (run.upper, ~run.upper))
        found = distortion(proxy_maps(run, variant, proxies))
        named = {"problem": problem_name, "seed": seed, "precision": precision}
        rows.append({**named, "covariance": variant.covariance, "share": share, **found})
    return pd.DataFrame(rows)


def proxy_bias_coverage() -> pd.DataFrame:
    """`coverage` of all problems and seeds, λ = 1 (three minutes)."""
    runs = itertools.product(PROBLEMS, SEEDS)
    return pd.concat([coverage(*run) for run in runs], ignore_index=True)


def _with_share(half: Bool[Tensor, " points"], share: float, seed: int) -> Bool[Tensor, " points"]:
    """One half, and a random share of the other; the same points whatever the share's size."""
    other = shuffled(len(half), seed).masked_fill(half, len(half))
    wanted = round(share * int((~half).sum()))
    return half | (other.argsort().argsort() < wanted)
