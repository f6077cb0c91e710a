"""What the chapter on §2 shows: which axioms Eq. (1) and Eq. (2) satisfy, by example.

The axioms are those of Wimmer et al. (2023) as Sale et al. (2024), §2.2, restate them. A posterior
is seen through one input only: a distribution of the probability p, or of a vector of K of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from gnuq.estimators import entropy_decomposition, label_wise_decomposition

PARTS = ("total", "aleatoric", "epistemic")


def measures(posteriors: Mapping[str, Sequence[float] | Tensor]) -> pd.DataFrame:
    """Eq. (1) and (2) for distributions of one probability p, each a list of equal masses.

    Args:
        posteriors: name → the values that p takes, all equally likely.

    Returns:
        One row per name: the mean of p, then total, aleatoric and epistemic part by Eq. (1), in
        nats, and by Eq. (2), in squared probability.
    """
    rows = {}
    for name, values in posteriors.items():
        p = torch.as_tensor(values, dtype=torch.float64)
        rows[name] = {"mean of p": float(p.mean())} | _parts(torch.stack([1 - p, p], 1), p)
    return pd.DataFrame(rows).T


def _parts(probabilities: Float[Tensor, "draws classes"], labels: Tensor) -> dict[str, float]:
    """All parts of Eq. (1), and of Eq. (2) summed over the labels."""
    found = (entropy_decomposition(probabilities), label_wise_decomposition(labels))
    return {
        f"{part} ({number})": float(getattr(decomposition, part).sum())
        for number, decomposition in enumerate(found, start=1)
        for part in PARTS
    }


def complete_ignorance(classes: Sequence[int] = (2, 3, 4, 10)) -> pd.DataFrame:
    """Both epistemic parts at the uniform distribution on the simplex, in closed form.

    With K classes: I = log K − Σ_{j=2}^{K} 1/j, at most log K; and, summed over the classes,
    Σ_k Var[p_k] = (K − 1) / (K (K + 1)), at most (K − 1) / K. Both maxima belong to a posterior
    that holds each class for certain with probability 1/K.
    """
    rows = {}
    for k in classes:
        information = math.log(k) - sum(1 / j for j in range(2, k + 1))
        rows[k] = {
            "I": information,
            "greatest I": math.log(k),
            "share of I": information / math.log(k),
            "Σ Var": (k - 1) / (k * (k + 1)),
            "greatest Σ Var": (k - 1) / k,
            "share of Σ Var": 1 / (k + 1),
        }
    return pd.DataFrame(rows).T.rename_axis("classes")


def random_spreads(classes: int, *, pairs: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Random mean-preserving spreads: what they change in every part of Eq. (1) and (2).

    A posterior is one to five equally likely points of the simplex; the spread splits each into
    two, at the same distance on either side along a random direction.

    Args:
        classes: number of classes, K.
        pairs: number of posteriors.
        seed: their seed.

    Returns:
        One row per pair: after minus before of each part, by Eq. (1), and summed over the classes
        by Eq. (2).
    """
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(pairs):
        before = rng.dirichlet(np.ones(classes), size=rng.integers(1, 6))
        way = rng.normal(size=before.shape)
        way -= way.mean(1, keepdims=True)  # stay in the plane Σ p = 1
        room = (before / abs(way)).min(1, keepdims=True)  # and inside the simplex
        step = rng.uniform(0.1, 1, size=room.shape) * room * way
        after = np.clip(np.concatenate([before - step, before + step]), 0, 1)
        doubled = np.repeat(before, 2, axis=0)
        old, new = (_parts(p, p) for p in map(torch.from_numpy, (doubled, after)))
        rows.append({part: new[part] - old[part] for part in new})
    return pd.DataFrame(rows)


def verdicts(
    *, ignorance: pd.DataFrame, spreads: pd.DataFrame, shift: pd.DataFrame, centre: pd.DataFrame
) -> pd.DataFrame:
    """Which axioms hold in the examples, beside what the paper's §2.2 says.

    Args:
        ignorance: `measures` of the uniform distribution, then of its rival.
        spreads: `random_spreads`.
        shift: `measures` before and after a shift.
        centre: `measures` before and after a shift towards ½.

    Returns:
        One row per axiom; a counterexample is a proof, "holds" says that none was found here.
    """

    def rise(frame: pd.DataFrame, part: str, number: int) -> float:
        return float(frame[f"{part} ({number})"].diff().iloc[-1])

    rows = {}
    for number in (1, 2):
        change = abs(rise(shift, "epistemic", number))
        rows[f"Eq. ({number}), here"] = {
            "A2: greatest at the uniform": rise(ignorance, "epistemic", number) <= 0,
            "A3: grows under a mean-preserving spread": spreads[f"epistemic ({number})"].min() > 0,
            "A5: unchanged by a shift": change < 1e-12,
            "A4: aleatoric part grows towards ½": rise(centre, "aleatoric", number) > 0,
        }
    table = pd.DataFrame(rows).replace({True: "holds", False: "violated"})
    table["Eq. (1), the paper"] = ["violated", "violated", "violated", "–"]
    table["Eq. (2), the paper"] = ["holds", "holds", "holds", "–"]
    return table.rename_axis("axiom")
