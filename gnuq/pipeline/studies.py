"""Small tables that a chapter computes from scratch, kept as results: seconds each."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from gnuq import results
from gnuq.networks import Architecture
from gnuq.posteriors.settings import HMC
from gnuq.problems import make_problem
from gnuq.results import spectra
from gnuq.walkthrough import mean_weights


def appendix_c() -> pd.DataFrame:
    """E[θ] against θ*, for logistic regression and for a network on XOR.

    Returns:
        Tidy: model, quantity (those of `MeanWeights.summary`, and the rank of the gradients of
        400 inputs), value.
    """
    logistic = mean_weights.compare(
        make_problem("linear"), Architecture(2, (), 1), HMC(draws=4000), resolution=20
    )
    network = mean_weights.compare(
        make_problem("xor"), Architecture(2, (8, 8), 1), HMC(draws=2000), resolution=20
    )
    rows = []
    for name, model in {"logistic regression": logistic, "2–8–8–1": network}.items():
        rank = mean_weights.rank_growth(model.jacobian, (400,)).iloc[-1]
        told = model.summary | {"rank of the gradients of 400 inputs": float(rank)}
        rows += [(name, quantity, float(f"{value:.6g}")) for quantity, value in told.items()]
    return pd.DataFrame(rows, columns=["model", "quantity", "value"])


def eigenvalues() -> pd.DataFrame:
    """Table 9's last columns, one row per problem and matrix, mean over data seeds."""
    experiments = results.primary_experiments("regression")
    return spectra.eigenvalue_ranges(experiments).reset_index()


STUDIES: dict[str, Callable[[], pd.DataFrame]] = {
    "appendix-c": appendix_c,
    "eigenvalues": eigenvalues,
}
