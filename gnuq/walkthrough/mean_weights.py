"""What the chapter on §3.3 shows about Appendix C: how far E[θ] is from θ*."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor, nn

from gnuq.gradnorm import gradient_factors
from gnuq.networks import Architecture, Prior, fit_map
from gnuq.posteriors.settings import HMC
from gnuq.problems import Problem, make_grid
from gnuq.walkthrough.gradients import probability

#: Singular values below this share of the largest count as zero.
RANK_TOLERANCE = 1e-6


@dataclass(frozen=True)
class MeanWeights:
    """A sampled posterior beside its mode: E[θ] against θ*, in weights and in predictions.

    Attributes:
        grid: per grid point x, y, p* (`point`), E[p] (`mean`), d = E[p] − p* with its Monte
            Carlo standard error (`error`), `first_order` = gᵀ(E[θ] − θ*), and `at_mean` =
            p(x; E[θ]), the prediction of the network whose weights are the mean.
        weights: per parameter the mode, the mean, the standard deviation, the effective sample
            size, r̂, and z, the mean in units of its Monte Carlo standard error.
        jacobian: g(x), one row a grid point.
        moments: E[(θ − θ*)(θ − θ*)ᵀ].
        chain_means: E[θ] of each chain.
        r_hat: the worst over the predictions.
        effective_samples: the smallest over the predictions.
    """

    grid: pd.DataFrame
    weights: pd.DataFrame
    jacobian: Float[Tensor, "grid parameters"]
    moments: Float[np.ndarray, "parameters parameters"]
    chain_means: Float[np.ndarray, "chains parameters"]
    r_hat: float
    effective_samples: float

    @property
    def summary(self) -> dict[str, float]:
        """The numbers of the chapter's table: lengths of weights, sizes on the grid."""
        grid, weights = self.grid, self.weights
        length = (weights["mean"] ** 2 + weights["standard deviation"] ** 2).sum() ** 0.5
        return {
            "P": len(weights),
            "length of θ*": float(np.linalg.norm(weights["mode"])),
            "length of E[θ]": float(np.linalg.norm(weights["mean"])),
            "r.m.s. length of a draw": float(length),
            "mean size of d": float(grid["d"].abs().mean()),
            "mean size of gᵀ(E[θ] − θ*)": float(grid["first_order"].abs().mean()),
            "their correlation": float(grid["d"].corr(grid["first_order"])),
            "mean |p(x; E[θ]) − p*|": float((grid["at_mean"] - grid["point"]).abs().mean()),
            "worst r̂ of a prediction": self.r_hat,
            "smallest ESS of a prediction": self.effective_samples,
        }


def compare(
    problem: Problem, architecture: Architecture, settings: HMC, *, resolution: int = 24
) -> MeanWeights:
    """Sample a posterior under the prior N(0, 1) and compare E[θ] with θ*.

    Args:
        problem: a binary problem.
        architecture: the network.
        settings: the sampler's.
        resolution: grid points per side.
    """
    from gnuq.posteriors import diagnostics, hmc  # PyMC and JAX: seconds to import

    fit = fit_map(architecture, problem, Prior())
    points = make_grid(problem, resolution=resolution).points
    draws = hmc.sample_posterior(architecture, problem, Prior(), settings)
    drawn = hmc.posterior_predictions(draws, architecture, problem, points)[..., 0]
    told = diagnostics.convergence(drawn)
    weights = summarise(draws.weights, fit.network)
    mode, mean = (weights[name].to_numpy(copy=True) for name in ("mode", "mean"))
    jacobian = gradient_factors(fit.network, points, probability).jacobian()
    p, point = drawn.astype(np.float64), probability(fit.network(points)).numpy()
    grid = pd.DataFrame(points.numpy(), columns=["x", "y"]).assign(
        point=point,
        mean=p.mean((0, 1)),
        d=p.mean((0, 1)) - point,
        error=p.std((0, 1)) / told.effective_samples**0.5,
        first_order=jacobian.numpy() @ (mean - mode),
        at_mean=at_weights(architecture, mean, points),
    )
    centred = draws.weights.reshape(-1, len(mode)).astype(np.float64) - mode
    return MeanWeights(
        grid=grid,
        weights=weights,
        jacobian=jacobian,
        moments=centred.T @ centred / len(centred),
        chain_means=draws.weights.mean(1, dtype=np.float64),
        r_hat=float(told.r_hat.max()),
        effective_samples=float(told.effective_samples.min()),
    )


def summarise(
    draws: Float[np.ndarray, "chains draws parameters"], network: nn.Module
) -> pd.DataFrame:
    """Mode, posterior moments and convergence of each parameter.

    Args:
        draws: weights, in the order of `network.parameters()`.
        network: the network at the mode.
    """
    from gnuq.posteriors import diagnostics  # ArviZ: seconds to import

    told = diagnostics.convergence(draws)
    drawn = draws.astype(np.float64)
    mean, deviation = drawn.mean((0, 1)), drawn.std((0, 1))
    columns = {
        "mode": nn.utils.parameters_to_vector(network.parameters()).numpy(),
        "mean": mean,
        "standard deviation": deviation,
        "ESS": told.effective_samples,
        "r̂": told.r_hat,
        "z": mean / (deviation / told.effective_samples**0.5),
    }
    names = [f"{name}[{i}]" for name, p in network.named_parameters() for i in range(p.numel())]
    return pd.DataFrame(columns, index=names)


def at_weights(
    architecture: Architecture,
    weights: Float[np.ndarray, " parameters"],
    points: Float[Tensor, "grid d"],
) -> Float[np.ndarray, " grid"]:
    """p(x; θ) of a binary network at given weights."""
    network = architecture.build().requires_grad_(False)
    nn.utils.vector_to_parameters(torch.from_numpy(weights), network.parameters())
    return probability(network(points)).numpy()


def logistic_second_order(model: MeanWeights) -> Float[np.ndarray, " grid"]:
    """½ E[(θ − θ*)ᵀ ∇²p (θ − θ*)], the next term of Eq. (12), for logistic regression.

    With φ = (x, 1) and M = E[(θ − θ*)(θ − θ*)ᵀ] it is ½ p*(1 − p*)(1 − 2p*) φᵀMφ: of the same
    order in the number of points as the first term.
    """
    points = model.grid[["x", "y"]].to_numpy()
    features = np.column_stack([points, np.ones(len(points))])
    p = model.grid["point"].to_numpy()
    return p * (1 - p) * (1 - 2 * p) * ((features @ model.moments) * features).sum(1) / 2


def rank_growth(
    jacobian: Float[Tensor, "grid parameters"], counts: Sequence[int], *, seed: int = 0
) -> pd.Series:
    """Rank of the gradients at n inputs: how many directions of θ the conditions gᵀv = 0 fix.

    Args:
        jacobian: g(x), one row an input.
        counts: numbers of inputs to take, in random order.
        seed: of that order.

    Raises:
        ValueError: a count that is not between 1 and the number of rows.
    """
    if min(counts) < 1 or max(counts) > len(jacobian):
        raise ValueError(f"counts: {list(counts)}; each must lie in 1 … {len(jacobian)}.")
    order = torch.randperm(len(jacobian), generator=torch.Generator().manual_seed(seed))
    ranks = [
        int(torch.linalg.matrix_rank(jacobian[order[:n]], rtol=RANK_TOLERANCE)) for n in counts
    ]
    return pd.Series(ranks, index=list(counts))
