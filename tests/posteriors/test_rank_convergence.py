"""r̂ and effective sample size of many quantities at once are ArviZ's."""

from __future__ import annotations

import numpy as np
import pytest

from gnuq.posteriors import diagnostics
from gnuq.posteriors.rank_convergence import convergence, nested_r_hat


def autoregressive(chains: int, draws: int, rho: np.ndarray, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).normal(size=(chains, draws, len(rho)))
    for i in range(1, draws):
        values[:, i] = rho * values[:, i - 1] + np.sqrt(1 - rho**2) * values[:, i]
    return values


@pytest.mark.parametrize("draws", [300, 301, 600])
def test_both_are_arvizs(draws):
    """From antithetic chains to such as have hardly moved, with ties as 16 bits make them."""
    values = autoregressive(4, draws, np.linspace(-0.6, 0.97, 20)).astype(np.float16)
    values[0] += np.linspace(0, 1, 20).astype(np.float16)
    r_hat, effective = convergence(values.reshape(4, draws, 5, 4))
    theirs = diagnostics.convergence(values.reshape(4, draws, 5, 4))
    np.testing.assert_allclose(r_hat, theirs.r_hat, rtol=1e-10)
    np.testing.assert_allclose(effective, theirs.effective_samples, rtol=1e-8)


def test_nested_r_hat_sees_groups_that_disagree():
    """Many short chains of one distribution pass; a group that is shifted by half does not."""
    values = autoregressive(64, 20, np.full(3, 0.2))
    assert nested_r_hat(values, 8).max() < 1.02
    values[:8, :, 1] += 0.5
    found = nested_r_hat(values, 8)
    assert found[1] > 1.01 > found[[0, 2]].max() - 0.01


def test_bad_values_are_refused():
    values = np.zeros((4, 20, 2))
    with pytest.raises(ValueError, match="2 × 8"):
        convergence(values[:1])
    with pytest.raises(ValueError, match="NaN"):
        convergence(np.where(np.arange(2) == 1, np.nan, values))
    with pytest.raises(ValueError, match="groups: 3"):
        nested_r_hat(values, 3)
