"""What the chapter on §4.1's remark about distance shows: predictions along rays, far from data.

A ray is x(t) = c + t u: c the centre of the data, u a unit vector, t the distance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from scipy.special import expit
from scipy.stats import mannwhitneyu, norm
from torch import Tensor, nn

from gnuq.estimators import aleatoric, epistemic
from gnuq.networks import Architecture, MapFit, Prior, fit_map
from gnuq.posteriors import laplace
from gnuq.posteriors.settings import HMC
from gnuq.problems import Problem, make_problem
from gnuq.walkthrough.gradients import probability

if TYPE_CHECKING:
    from gnuq.posteriors.hmc import Draws

#: Columns of `estimates`, as figures and tables name them; the first is the reference.
ESTIMATES = {
    "hmc": "HMC: Var[p]",
    "linearised": "Laplace, linearised",
    "laplace": "Laplace gᵀΣg",
    "norm": "c ‖g‖²",
    "bernoulli": "p(1 − p) at the mode",
}
#: Distance at which a tanh network counts as saturated.
FAR = 1000.0
#: Added to the data's seed for fresh points from the same distribution.
FRESH = 1000


@dataclass(frozen=True)
class Model:
    """A problem, a network at its mode, and draws from its posterior under the prior N(0, 1).

    Attributes:
        problem: the data.
        architecture: the network's shape.
        fit: the mode.
        draws: what the sampler returned.
        constant: c, which turns ‖g‖² into a variance by least squares on fresh points from the
            data's distribution.
        r_hat: the worst over the predictions at those points and on a circle at t = `FAR`.
        effective_samples: the smallest there.
    """

    problem: Problem
    architecture: Architecture
    fit: MapFit
    draws: Draws
    constant: float
    r_hat: float
    effective_samples: float

    @property
    def weights(self) -> Float[np.ndarray, "draws parameters"]:
        """The draws of all chains in one row after another."""
        return self.draws.weights.reshape(-1, self.architecture.parameters).astype(np.float64)


def sample(problem: Problem, hidden: tuple[int, ...], settings: HMC) -> Model:
    """Fit the mode, sample the posterior, and find the constant of ‖g‖².

    Args:
        problem: a binary problem.
        hidden: widths of the hidden layers; none for logistic regression.
        settings: the sampler's.
    """
    from gnuq.posteriors import diagnostics, hmc  # PyMC and JAX: seconds to import

    architecture = Architecture(problem.inputs.shape[1], hidden, problem.outputs)
    fit = fit_map(architecture, problem, Prior())
    draws = hmc.sample_posterior(architecture, problem, Prior(), settings)
    near = fresh_points(problem)
    circle = ray(problem, np.arange(0, 360, 10), [FAR])
    drawn = hmc.posterior_predictions(draws, architecture, problem, torch.cat([near, circle]))
    # Far out a prediction can be a step, whose rank-normalised r̂ needs both values to occur.
    varied = drawn[..., 0][:, :, drawn[..., 0].std((0, 1)) > 1e-3]
    told = diagnostics.convergence(varied)
    variance = drawn[:, :, : len(near), 0].astype(np.float64).var((0, 1))
    size = epistemic(fit.network, near, link="sigmoid").total.numpy()
    return Model(
        problem=problem,
        architecture=architecture,
        fit=fit,
        draws=draws,
        constant=float(size @ variance / (size @ size)),
        r_hat=float(told.r_hat.max()),
        effective_samples=float(told.effective_samples.min()),
    )


def fresh_points(problem: Problem) -> Float[Tensor, "points dimensions"]:
    """Inputs drawn anew from the distribution of the training inputs."""
    return make_problem(problem.name, noise=problem.noise, seed=problem.seed + FRESH).inputs


def ray(
    problem: Problem, degrees: Sequence[float] | np.ndarray, distances: Sequence[float] | np.ndarray
) -> Float[Tensor, "points 2"]:
    """Points on rays from the centre of the data, direction by direction.

    Args:
        problem: a problem in the plane.
        degrees: directions, anticlockwise from the first axis.
        distances: t.
    """
    u = direction(np.asarray(degrees, dtype=np.float64))
    steps = np.asarray(distances, dtype=np.float64)
    return problem.inputs.mean(0) + torch.from_numpy((u[:, None] * steps[:, None]).reshape(-1, 2))


def direction(degrees: Float[np.ndarray, "*batch"]) -> Float[np.ndarray, "*batch 2"]:
    """The unit vector at an angle from the first axis."""
    angle = np.radians(degrees)
    return np.stack([np.cos(angle), np.sin(angle)], -1)


def estimates(model: Model, points: Float[Tensor, "points 2"]) -> pd.DataFrame:
    """The posterior variance of p and its stand-ins at given points; columns as `ESTIMATES`."""
    from gnuq.posteriors import hmc

    drawn = hmc.posterior_predictions(model.draws, model.architecture, model.problem, points)
    norms = epistemic(model.fit.network, points, link="sigmoid")
    curved = laplace.full_laplace(model.fit, model.problem, Prior())
    logits = model.fit.network(points)[:, 0].numpy()
    spread = curved.variance(points, lambda f: f[:, 0]).numpy()
    columns = {
        "hmc": drawn[..., 0].astype(np.float64).var((0, 1)),
        "linearised": gaussian_logit_variance(logits, spread),
        "laplace": curved.variance(points, probability).numpy(),
        "norm": model.constant * norms.total.numpy(),
        "bernoulli": aleatoric(norms).numpy(),
    }
    return pd.DataFrame(columns)


def profiles(
    model: Model, degrees: Sequence[float] | np.ndarray, distances: Sequence[float] | np.ndarray
) -> pd.DataFrame:
    """`estimates` along rays: one row a direction and distance, with columns angle and t."""
    found = estimates(model, ray(model.problem, degrees, distances))
    angle, t = np.repeat(degrees, len(distances)), np.tile(distances, len(degrees))
    return found.assign(angle=angle, t=t)


def limits(model: Model, degrees: Sequence[float] | np.ndarray) -> pd.DataFrame:
    """The far end of rays of a network with two hidden layers: one row a direction.

    All estimates at t = `FAR`, except ‖g‖², which is its limit in closed form.
    """
    found = profiles(model, degrees, [FAR])
    directions = torch.from_numpy(direction(np.asarray(degrees, dtype=np.float64)))
    norms = [saturated_squared_norm(model.fit.network, u) for u in directions]
    return found.assign(norm=model.constant * np.array(norms))


def gaussian_logit_variance(
    mean: Float[np.ndarray, " batch"], variance: Float[np.ndarray, " batch"], *, nodes: int = 2001
) -> Float[np.ndarray, " batch"]:
    """Var[σ(f)] for f ~ N(mean, variance), by the midpoint rule in the normal's quantiles.

    Gauss–Hermite nodes are too sparse here: far out σ(f) is a step, which falls between two of
    them. The midpoint rule misplaces a step by at most 1 / (2 · nodes) of probability.
    """
    quantiles = norm.ppf((np.arange(nodes) + 0.5) / nodes)
    p = expit(mean[:, None] + variance[:, None] ** 0.5 * quantiles)
    return p.var(1)


def saturated_squared_norm(network: nn.Sequential, u: Float[Tensor, " 2"]) -> float:
    """The limit of ‖g‖² along a ray, for a network with two hidden layers of tanh units.

    With a = sign(W₁u), h = tanh(W₂a + b₂) and p = σ(vᵀh + c) the first layer's gradient has
    vanished, and what is left is

        [p(1 − p)]² · {1 + ‖h‖² + ‖v ∘ (1 − h²)‖² (1 + ‖a‖²)}.

    It depends on u through signs only, so it is constant between the directions in which a unit
    of the first layer changes sign.
    """
    first, second, last = (layer for layer in network if isinstance(layer, nn.Linear))
    a = torch.sign(first.weight @ u)
    h = torch.tanh(second.weight @ a + second.bias)
    p = torch.sigmoid(last.weight[0] @ h + last.bias[0])
    back = last.weight[0] * (1 - h**2)
    inner = 1 + h @ h + (back @ back) * (1 + a @ a)
    return float((p * (1 - p)) ** 2 * inner)


def detection(models: Mapping[str, Model], distance: float) -> pd.DataFrame:
    """AUROC of every estimate as a detector of points on a circle around the data.

    Args:
        models: by the name that the table shows.
        distance: radius of the circle.

    Returns:
        One row a model, one column an estimate: the probability that a point on the circle has
        a larger value than a fresh point from the data's distribution (ties count half).
    """
    rows = {}
    for name, model in models.items():
        near = estimates(model, fresh_points(model.problem))
        far = estimates(model, ray(model.problem, np.arange(360), [distance]))
        pairs = len(near) * len(far)
        rows[name] = {
            label: mannwhitneyu(far[key], near[key]).statistic / pairs
            for key, label in ESTIMATES.items()
        }
    return pd.DataFrame(rows).T
