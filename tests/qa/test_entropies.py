"""The entropies of sampled answers against their definitions, loop by loop."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gnuq.qa import entropies

TOKENS = st.lists(st.floats(-8, 0), min_size=1, max_size=6)


@st.composite
def sampled(draw: st.DrawFn) -> tuple[list[list[float]], list[int]]:
    """Two to ten samples and the cluster of each."""
    log_p = draw(st.lists(TOKENS, min_size=2, max_size=10))
    return log_p, [draw(st.integers(0, 4)) for _ in log_p]


def weights(log_p: list[list[float]]) -> list[float]:
    """e^ℓ over their sum, in plain loops."""
    raw = [math.exp(sum(tokens) / len(tokens)) for tokens in log_p]
    return [one / sum(raw) for one in raw]


def entropy(shares: list[float]) -> float:
    return -sum(p * math.log(p) for p in shares if p > 0)


@given(sampled())
@settings(max_examples=60, deadline=None)
def test_the_definitions(case: tuple[list[list[float]], list[int]]) -> None:
    log_p, clusters = case
    naive = -sum(sum(tokens) / len(tokens) for tokens in log_p) / len(log_p)
    assert entropies.naive_entropy(log_p) == pytest.approx(naive, abs=1e-12)
    by_cluster = dict.fromkeys(sorted(set(clusters)), 0.0)
    for one, c in zip(weights(log_p), clusters, strict=True):
        by_cluster[c] += one
    found = entropies.cluster_probabilities(log_p, clusters)
    np.testing.assert_allclose(found, list(by_cluster.values()), atol=1e-12)
    assert entropies.semantic_entropy(log_p, clusters) == pytest.approx(
        entropy(list(by_cluster.values())), abs=1e-12
    )
    shares = [clusters.count(c) / len(clusters) for c in by_cluster]
    assert entropies.discrete_semantic_entropy(clusters) == pytest.approx(
        entropy(shares), abs=1e-12
    )


@given(sampled())
@settings(max_examples=60, deadline=None)
def test_clustering_never_raises_the_entropy(case: tuple[list[list[float]], list[int]]) -> None:
    """Probabilities sum to 1, and H(clusters) ≤ H(samples) ≤ log n."""
    log_p, clusters = case
    assert entropies.cluster_probabilities(log_p, clusters).sum() == pytest.approx(1, abs=1e-12)
    alone = entropies.semantic_entropy(log_p, list(range(len(log_p))))
    assert alone == pytest.approx(entropy(weights(log_p)), abs=1e-12)
    assert 0 <= entropies.semantic_entropy(log_p, clusters) <= alone + 1e-12
    assert alone <= math.log(len(log_p)) + 1e-12


@given(sampled(), st.randoms(use_true_random=False))
@settings(max_examples=30, deadline=None)
def test_order_and_names_of_clusters_do_not_matter(
    case: tuple[list[list[float]], list[int]], random: object
) -> None:
    log_p, clusters = case
    order = list(range(len(log_p)))
    random.shuffle(order)  # type: ignore[attr-defined]
    moved = [log_p[i] for i in order], [7 - 3 * clusters[i] for i in order]
    assert entropies.semantic_entropy(*moved) == pytest.approx(
        entropies.semantic_entropy(log_p, clusters), abs=1e-12
    )
    assert entropies.naive_entropy(moved[0]) == pytest.approx(
        entropies.naive_entropy(log_p), abs=1e-12
    )


def test_samples_that_mean_the_same_have_no_semantic_entropy() -> None:
    """Exactly nought, and never below it."""
    log_p = [[-0.3, -1.7], [-2.1], [-0.01, -4.0, -3.3]]
    assert entropies.semantic_entropy(log_p, [0, 0, 0]) == 0
    assert entropies.discrete_semantic_entropy([5, 5, 5]) == 0


@pytest.mark.parametrize("n", [2, 3, 10])
def test_equal_likelihoods_in_clusters_of_one_give_log_n(n: int) -> None:
    log_p = [[-0.5] * (1 + i) for i in range(n)]
    found = entropies.semantic_entropy(log_p, range(n))
    assert found == pytest.approx(math.log(n), abs=1e-12)
    assert entropies.discrete_semantic_entropy(range(n)) == pytest.approx(math.log(n), abs=1e-12)


def test_very_unlikely_samples_are_no_matter_of_rounding() -> None:
    """e^−2000 is nought in floating point; the ratio of two such is not."""
    found = entropies.cluster_probabilities([[-2000.0], [-2000.0 - math.log(3)]], [0, 1])
    np.testing.assert_allclose(found, [0.75, 0.25], atol=1e-12)


def test_samples_without_tokens_or_text_are_left_out() -> None:
    log_p = [[-1.0], [], [-0.5, -0.2], [-0.1]]
    assert entropies.usable(["Paris", "", "in Paris", " \t"], log_p) == [0, 2]
    with pytest.raises(ValueError, match="samples: 1 of 3 have a text; an entropy needs 2"):
        entropies.usable(["Paris", "", " "], [[-1.0], [], [-0.1]])


@pytest.mark.bad_input
def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="log_probabilities: 1 for 2 samples"):
        entropies.usable(["a", "b"], [[-1.0]])
    with pytest.raises(ValueError, match="log_probabilities: there are no samples, or one"):
        entropies.naive_entropy([])
    with pytest.raises(ValueError, match="keep what usable"):
        entropies.semantic_entropy([[-1.0], []], [0, 1])
    with pytest.raises(ValueError, match="one is not finite"):
        entropies.naive_entropy([[-1.0], [float("nan")]])
    with pytest.raises(ValueError, match="clusters: 1 for 2 samples"):
        entropies.semantic_entropy([[-1.0], [-2.0]], [0])
    with pytest.raises(ValueError, match="clusters: 0 for 0 samples"):
        entropies.discrete_semantic_entropy([])
