r"""Entropies of sampled answers: the baselines of Appendix G.2, in nats.

A question's $n$ samples $y_i$ of $T_i$ tokens have the length-normalised log-probabilities
$\ell_i = \frac{1}{T_i} \sum_t \log p(y_{i,t} \mid y_{i,<t})$ (Malinin and Gales 2021), under the
model at temperature 1. All entropies grow with uncertainty. Samples without tokens have no
$\ell_i$: leave them out first (`usable`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from scipy.special import entr, softmax

#: An entropy of fewer samples than this says nothing.
FEWEST = 2


def usable(samples: Sequence[str], log_probabilities: Sequence[Sequence[float]]) -> list[int]:
    """Which samples the entropies can use: those with tokens and a text that is not blank.

    Args:
        samples: the sampled answers.
        log_probabilities: of each answer's tokens, in nats.

    Returns:
        Indices, in order.

    Raises:
        ValueError: fewer than two are left; the message is the reason that a table should give.
    """
    if len(samples) != len(log_probabilities):
        raise ValueError(
            f"log_probabilities: {len(log_probabilities)} for {len(samples)} samples; give one "
            "list for each."
        )
    pairs = zip(samples, log_probabilities, strict=True)
    kept = [i for i, (text, tokens) in enumerate(pairs) if len(tokens) and text.strip()]
    if len(kept) < FEWEST:
        raise ValueError(
            f"samples: {len(kept)} of {len(samples)} have a text; an entropy needs {FEWEST}."
        )
    return kept


def naive_entropy(log_probabilities: Sequence[Sequence[float]]) -> float:
    r"""$-\frac{1}{n} \sum_i \ell_i$: a Monte Carlo estimate of an answer's entropy per token.

    Answers that are worded differently count as different, whatever they mean.

    Args:
        log_probabilities: of each sample's tokens, in nats.

    Raises:
        ValueError: no samples, one without tokens, or a log-probability that is not finite.

    Source:
        Appendix G.2, "naïve entropy"; Malinin and Gales 2021 (length-normalised predictive
        entropy), as in the code of Farquhar et al. 2024.
    """
    return float(-_length_normalised(log_probabilities).mean())


def cluster_probabilities(
    log_probabilities: Sequence[Sequence[float]], clusters: Sequence[int]
) -> Float[np.ndarray, " clusters"]:
    r"""$P(c) = \sum_{i \in c} w_i$ with $w_i = e^{\ell_i} / \sum_j e^{\ell_j}$.

    Args:
        log_probabilities: of each sample's tokens, in nats.
        clusters: the cluster of each sample, numbered in any way.

    Returns:
        Probabilities in the order of the clusters' numbers; they sum to 1.

    Raises:
        ValueError: as `naive_entropy`, or clusters of another number.

    Source:
        Kuhn et al. 2023; the weights renormalised over the samples as by Farquhar et al. 2024.
    """
    weights = softmax(_length_normalised(log_probabilities))
    return _shares(np.bincount(_numbered(clusters, len(weights)), weights))


def semantic_entropy(
    log_probabilities: Sequence[Sequence[float]], clusters: Sequence[int]
) -> float:
    r"""$-\sum_c P(c) \log P(c)$, the entropy of meanings.

    Never above the entropy of the same weights before clustering; 0 if all samples mean the same.

    Args:
        log_probabilities: of each sample's tokens, in nats.
        clusters: the cluster of each sample (`gnuq.qa.equivalence.clusters`).

    Raises:
        ValueError: as `cluster_probabilities`.

    Source:
        Appendix G.2; Kuhn et al. 2023, as estimated by Farquhar et al. 2024.
    """
    return float(entr(cluster_probabilities(log_probabilities, clusters)).sum())


def discrete_semantic_entropy(clusters: Sequence[int]) -> float:
    r"""$-\sum_c \frac{n_c}{n} \log \frac{n_c}{n}$: no probabilities, only how samples fall.

    Args:
        clusters: the cluster of each sample.

    Raises:
        ValueError: no samples.

    Source:
        Farquhar et al. 2024, "discrete semantic entropy".
    """
    counts = np.bincount(_numbered(clusters, len(clusters)))
    return float(entr(_shares(counts)).sum())


def _length_normalised(
    log_probabilities: Sequence[Sequence[float]],
) -> Float[np.ndarray, " samples"]:
    if not len(log_probabilities) or any(not len(tokens) for tokens in log_probabilities):
        raise ValueError(
            "log_probabilities: there are no samples, or one has no tokens; keep what usable() "
            "returns."
        )
    means = np.array([np.mean(tokens) for tokens in log_probabilities], dtype=np.float64)
    if not np.isfinite(means).all():
        raise ValueError(
            "log_probabilities: one is not finite; the model's numbers overflowed, so score it in "
            "a wider dtype."
        )
    return means


def _numbered(clusters: Sequence[int], samples: int) -> Int[np.ndarray, " samples"]:
    if not len(clusters) or len(clusters) != samples:
        raise ValueError(f"clusters: {len(clusters)} for {samples} samples; give one for each.")
    found: np.ndarray = np.unique(np.asarray(clusters), return_inverse=True)[1]
    return found


def _shares(amounts: np.ndarray) -> Float[np.ndarray, " clusters"]:
    """Divided by their sum, so that a single cluster has exactly 1 and the entropy 0."""
    shares: np.ndarray = amounts / amounts.sum()
    return shares
