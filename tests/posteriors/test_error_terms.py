"""Eq. (5) to (7): identities that hold exactly, and draws against the matrix they come from."""

from __future__ import annotations

import pytest
import torch

from gnuq.posteriors import error_terms as terms

QUERIES, PARAMETERS = 12, 7


@pytest.fixture
def gradients() -> torch.Tensor:
    return torch.randn(QUERIES, PARAMETERS, dtype=torch.float64)


@pytest.fixture
def covariance() -> torch.Tensor:
    root = torch.randn(PARAMETERS, PARAMETERS, dtype=torch.float64)
    return root @ root.mT


def test_the_terms_add_up_to_both_errors(gradients, covariance) -> None:
    """Each of Eq. (5) and (6), its left side against its right side."""
    proxy = torch.rand(PARAMETERS, dtype=torch.float64)
    moments = terms.dense_moments(gradients, covariance)
    found = terms.error_terms(gradients, moments, proxy, scale=1.3)
    exact = torch.einsum("qi,ij,qj->q", gradients, covariance, gradients)
    by_proxy = torch.einsum("qi,i,qi->q", gradients, proxy, gradients)
    by_identity = 1.3 * gradients.norm(dim=1).square()
    torch.testing.assert_close(found.proxy_total, exact - by_proxy)
    torch.testing.assert_close(found.identity_total, exact - by_identity)


def test_the_first_term_is_the_double_sum_without_its_diagonal(gradients, covariance) -> None:
    found = terms.off_diagonal(gradients, terms.dense_moments(gradients, covariance))
    for q, g in enumerate(gradients):
        pairs = [
            covariance[i, j] * g[i] * g[j]
            for i in range(PARAMETERS)
            for j in range(PARAMETERS)
            if i != j
        ]
        torch.testing.assert_close(found[q], torch.stack(pairs).sum())


def test_draws_say_what_their_sample_covariance_says(gradients, covariance) -> None:
    draws = torch.randn(40, PARAMETERS, dtype=torch.float64) @ covariance + 5
    by_draws = terms.drawn_moments(gradients, draws)
    by_matrix = terms.dense_moments(gradients, torch.cov(draws.mT))
    torch.testing.assert_close(by_draws.variance, by_matrix.variance)
    torch.testing.assert_close(by_draws.diagonal, by_matrix.diagonal)


def test_a_diagonal_posterior_leaves_a_right_proxy_nothing_to_get_wrong(gradients) -> None:
    d = torch.rand(PARAMETERS, dtype=torch.float64)
    moments = terms.dense_moments(gradients, torch.diag(d))
    found = terms.error_terms(gradients, moments, d)
    for error in (found.off_diagonal, found.proxy, found.proxy_total):
        torch.testing.assert_close(error, torch.zeros_like(error))


def test_an_isotropic_posterior_leaves_the_identity_nothing_to_get_wrong(gradients) -> None:
    isotropic = 0.4 * torch.eye(PARAMETERS, dtype=torch.float64)
    moments = terms.dense_moments(gradients, isotropic)
    proxy = torch.rand(PARAMETERS, dtype=torch.float64)
    found = terms.error_terms(gradients, moments, proxy)
    assert found.scale == pytest.approx(0.4)
    torch.testing.assert_close(found.identity, torch.zeros_like(found.identity))
    assert terms.matching_trace(moments.diagonal) == pytest.approx(0.4)


def test_no_multiple_fits_better_than_the_best(gradients, covariance) -> None:
    moments = terms.dense_moments(gradients, covariance)
    estimate = gradients.square().sum(1)
    best = terms.best_multiple(estimate, moments.variance)
    losses = [
        float((moments.variance - c * estimate).square().sum())
        for c in (best, 0.99 * best, 1.01 * best)
    ]
    assert losses[0] < min(losses[1:])


def test_the_size_of_term_iii_is_a_matter_of_its_unit(gradients, covariance) -> None:
    """Without a stated c Eq. (7) can be made to say either: [iii] grows with c without bound."""
    d = covariance.diagonal()
    proxy = terms.proxy_error(gradients, d, torch.zeros_like(d)).abs()
    assert bool((terms.identity_error(gradients, d, 1e6).abs() > proxy).all())


@pytest.mark.bad_input
def test_bad_arguments_are_named(gradients, covariance) -> None:
    moments = terms.dense_moments(gradients, covariance)
    with pytest.raises(ValueError, match="proxy_diagonal"):
        terms.error_terms(gradients, moments, torch.ones(3))
    with pytest.raises(ValueError, match="draws"):
        terms.drawn_moments(gradients, torch.ones(1, PARAMETERS))
    with pytest.raises(ValueError, match="draws"):
        terms.drawn_moments(gradients, torch.ones(5, PARAMETERS + 1))
    with pytest.raises(ValueError, match="estimate"):
        terms.best_multiple(torch.zeros(3), torch.ones(3))
