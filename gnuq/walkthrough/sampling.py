"""What the explorer shows on demand: the posterior, sampled briefly, beside the estimates."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float

from gnuq.estimators import label_wise_decomposition
from gnuq.posteriors.settings import HMC
from gnuq.results import ALEATORIC, EPISTEMIC, correlate
from gnuq.walkthrough.live import Settings, estimates, is_flat

SAMPLER = HMC(chains=4, tune=300, draws=300)
#: What is correlated with what: (estimate, reference).
PAIRS = {
    "gradient_norm": EPISTEMIC["gradient_norm"],
    "laplace": EPISTEMIC["laplace"],
    "linearised": ("linearised_epistemic", "hmc_epistemic"),
    "bernoulli": EPISTEMIC["bernoulli"],
    "point": ALEATORIC["point"],
}


@dataclass(frozen=True, eq=False)  # an identity, which a cache can hold
class Sampled:
    """A posterior, sampled briefly.

    Attributes:
        settings: network and problem.
        predictions: of every draw on the coarse grid, shape (chains, draws, grid, outputs).
        divergences: divergent transitions among the kept draws.
        seconds: wall time, with the import of PyMC the first time.
    """

    settings: Settings
    predictions: Float[np.ndarray, "chains draws grid outputs"]
    divergences: int
    seconds: float


@lru_cache(maxsize=4)
def sampled(settings: Settings, sampler: HMC) -> Sampled:
    """Sample the posterior; `gnuq.posteriors.hmc` says how and what it raises."""
    began = time.perf_counter()
    from gnuq.posteriors import hmc  # PyMC and JAX: seconds to import

    architecture, problem = settings.architecture, settings.problem
    draws = hmc.sample_posterior(architecture, problem, settings.prior, sampler)
    points = settings.grid(coarse=True).points
    predictions = hmc.posterior_predictions(draws, architecture, problem, points)
    return Sampled(settings, predictions, draws.divergences, time.perf_counter() - began)


@dataclass(frozen=True)
class Comparison:
    """The methods against the draws, for one output.

    Attributes:
        frame: `estimates` on the coarse grid with the reference: hmc_mean, hmc_epistemic and,
            in classification, hmc_aleatoric.
        correlations: over the grid, by method: estimate, reference, pearson, spearman; NaN
            for maps of the zero network, which are flat.
        r_hat: the largest r̂ on the grid; a point where all draws are equal has none.
        effective_samples: the smallest bulk ESS.
        ranked: draws at four points, from the worst r̂ to the best: (chains, draws, 4).
    """

    frame: pd.DataFrame
    correlations: pd.DataFrame
    r_hat: float
    effective_samples: float
    ranked: Float[np.ndarray, "chains draws points"]


@lru_cache(maxsize=16)
def compare(sample: Sampled, output: int = 0) -> Comparison:
    """Correlate every method with the sampled posterior, and judge the sampling itself."""
    from gnuq.posteriors import diagnostics  # ArviZ: seconds to import

    draws = sample.predictions[..., output]
    flat = torch.from_numpy(draws.reshape(-1, draws.shape[2]).astype(np.float64))
    frame = estimates(sample.settings, output, coarse=True).assign(
        hmc_mean=flat.mean(0).numpy(), hmc_epistemic=flat.var(0, correction=0).numpy()
    )
    if sample.settings.task != "regression":
        frame["hmc_aleatoric"] = label_wise_decomposition(flat).aleatoric.numpy()
    pairs = {k: v for k, v in PAIRS.items() if set(v) <= set(frame)}
    found = correlate(frame, pairs).drop(columns="comparison")
    if is_flat(frame):  # what is left of a slope is the optimiser's
        found[["pearson", "spearman"]] = np.nan
    names = pd.DataFrame(list(pairs.values()), columns=["estimate", "reference"])
    reached = diagnostics.convergence(draws)
    order = np.argsort(-reached.r_hat)  # NaN, where p is 1 in every draw, comes last
    return Comparison(
        frame=frame,
        correlations=names.join(found),
        r_hat=float(np.fmax.reduce(reached.r_hat)),
        effective_samples=float(np.fmin.reduce(reached.effective_samples)),
        ranked=draws[:, :, order[np.linspace(0, len(order) - 1, 4).astype(int)]],
    )
