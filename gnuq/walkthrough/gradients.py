"""What the chapter on §3 shows: Eq. (3) and (4) on networks small enough to write out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor, nn

from gnuq.estimators import delta_variance, epistemic, predictions_from
from gnuq.gradnorm import gradient_factors
from gnuq.networks import Architecture, Prior, fit_map
from gnuq.posteriors.settings import HMC
from gnuq.problems import make_problem

LOGISTIC_NAMES = ("w₁", "w₂", "b")
NINE_NAMES = ("W₁₁", "W₁₂", "W₂₁", "W₂₂", "b₁", "b₂", "v₁", "v₂", "c")
#: Inputs that the slider visits: from the centre of one cluster across a boundary to the next.
VISITED = ((1.0, 1.0), (0.5, 1.0), (0.25, 1.0), (0.0, 1.0), (-0.5, 1.0), (-1.0, 1.0), (0.0, 0.0))


def probability(logits: Float[Tensor, "batch 1"]) -> Float[Tensor, " batch"]:
    """The probability of class 1."""
    return predictions_from(logits, "sigmoid")


@dataclass(frozen=True)
class LogisticLine:
    """Logistic regression along the first axis.

    Attributes:
        curves: `x`, then the posterior variance of p and its two approximations.
        posterior: mode, and posterior mean and standard deviation of each parameter.
        constant: the factor that turns ‖g‖² into the variance, by least squares along the line.
        delta_error: largest error of gᵀΣg, as a share of the largest variance.
        identity_error: the same for the rescaled ‖g‖².
    """

    curves: pd.DataFrame
    posterior: pd.DataFrame
    constant: float
    delta_error: float
    identity_error: float

    @property
    def standard_deviations(self) -> pd.Series:
        """Posterior standard deviation of each parameter."""
        return self.posterior["standard deviation"]


def logistic_line(*, points: int = 121, extent: float = 2.5, seed: int = 0) -> LogisticLine:
    """Sample logistic regression and compare Var[p] with Eq. (3) and (4) along the axis x₂ = 0.

    Args:
        points: positions along the axis.
        extent: half the length of the stretch.
        seed: seed of the data and of the sampler.
    """
    from gnuq.posteriors import hmc  # PyMC and JAX: seconds to import

    problem, architecture = make_problem("linear", seed=seed), Architecture(2, (), 1)
    fit = fit_map(architecture, problem, Prior())
    draws = hmc.sample_posterior(architecture, problem, Prior(), HMC(draws=2000, seed=seed))
    x = torch.linspace(-extent, extent, points, dtype=torch.float64)
    line = torch.stack([x, torch.zeros_like(x)], 1)
    predictions = hmc.posterior_predictions(draws, architecture, problem, line)
    variance = predictions.astype(np.float64).var((0, 1))[:, 0]
    weights = draws.weights.reshape(-1, architecture.parameters).astype(np.float64)
    covariance = torch.from_numpy(np.cov(weights, rowvar=False))
    jacobian = gradient_factors(fit.network, line, probability).jacobian()
    delta = delta_variance(jacobian, covariance).numpy()
    norm = epistemic(fit.network, line, link="sigmoid").total.numpy()
    constant = float(norm @ variance / (norm @ norm))
    mode = nn.utils.parameters_to_vector(fit.network.parameters()).numpy()
    moments = {"mode": mode, "mean": weights.mean(0), "standard deviation": weights.std(0)}
    return LogisticLine(
        curves=pd.DataFrame(
            {
                "x": x.numpy(),
                "Var[p], HMC": variance,
                "gᵀΣg, Eq. (3)": delta,
                "c ‖g‖², Eq. (4)": constant * norm,
            }
        ),
        posterior=pd.DataFrame(moments, index=list(LOGISTIC_NAMES)),
        constant=constant,
        delta_error=float(abs(delta - variance).max() / variance.max()),
        identity_error=float(abs(constant * norm - variance).max() / variance.max()),
    )


@dataclass(frozen=True)
class NineParameters:
    """A 2–2–1 network on XOR, whole.

    Attributes:
        gradients: one row per visited input, one column per parameter.
        comparison: ‖∂p/∂θ_j‖² per parameter tensor, summed over the training points: by
            `gnuq`, by a loop of backward passes, and the largest relative difference.
    """

    gradients: pd.DataFrame
    comparison: pd.DataFrame


def nine_parameters(*, seed: int = 0) -> NineParameters:
    """Train the network and lay its gradients open."""
    problem = make_problem("xor", seed=seed)
    network = fit_map(Architecture(2, (2,), 1), problem, Prior(0.1), seed=seed).network
    visited = torch.tensor(VISITED, dtype=torch.float64)
    jacobian = gradient_factors(network, visited, probability).jacobian()
    labels = [f"({a:g}, {b:g})" for a, b in VISITED]
    gradients = pd.DataFrame(jacobian.numpy(), index=labels, columns=list(NINE_NAMES))
    ours = epistemic(network, problem.inputs, link="sigmoid").by_parameter
    loop = loop_squared_norms(network, problem.inputs)
    rows = {
        name: {
            "gnuq, one pass": float(ours[name].sum()),
            "loop of backward()": float(loop[name].sum()),
            "largest relative difference": float((ours[name] / loop[name] - 1).abs().max()),
        }
        for name in ours
    }
    return NineParameters(gradients, pd.DataFrame(rows).T)


def loop_squared_norms(
    network: nn.Module, inputs: Float[Tensor, "batch d"]
) -> dict[str, Float[Tensor, " batch"]]:
    """The slow and obvious way: one backward pass per example, every gradient stored."""
    names, parameters = zip(*network.named_parameters(), strict=True)
    network.requires_grad_(True)
    rows = []
    for x in inputs:
        value = probability(network(x[None]))[0]
        rows.append([g.square().sum() for g in torch.autograd.grad(value, parameters)])
    network.requires_grad_(False)
    columns = zip(*rows, strict=True)
    return {name: torch.stack(list(column)) for name, column in zip(names, columns, strict=True)}
