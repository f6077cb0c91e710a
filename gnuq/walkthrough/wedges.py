"""The wedge of directions in which a linear classifier's posterior stays divided (§4.1)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.stats import norm
from torch import nn

from gnuq.networks import Prior
from gnuq.posteriors import laplace
from gnuq.walkthrough.gradients import probability
from gnuq.walkthrough.rays import Model, direction, ray


def logistic_squared_norm(
    probability: Float[np.ndarray, " batch"], points: Float[np.ndarray, "batch dimensions"]
) -> Float[np.ndarray, " batch"]:
    """‖g‖² of logistic regression, [p(1 − p)]² (1 + ‖x‖²)."""
    return (probability * (1 - probability)) ** 2 * (1 + (points**2).sum(1))


def mode_slopes(model: Model) -> Float[np.ndarray, " 2"]:
    """w* of a linear model, without the bias."""
    return nn.utils.parameters_to_vector(model.fit.network.parameters())[:2].numpy()


def boundary_angle(model: Model) -> float:
    """Direction of a linear model's boundary at the mode, in degrees from the first axis."""
    w1, w2 = mode_slopes(model)
    return float(np.degrees(np.arctan2(w2, w1)) + 90)


def boundary_spread(model: Model) -> float:
    """Posterior standard deviation of a linear model's boundary direction, in degrees."""
    w = model.weights
    across = np.degrees(np.arctan2(w[:, 1], w[:, 0])) + 90 - boundary_angle(model)
    return float(((across + 180) % 360 - 180).std())


def sign_probability(
    slopes: Float[np.ndarray, "chains draws directions"],
) -> pd.DataFrame:
    """The side that a ray ends on, q = P(w·u > 0): far out p → 1[w·u > 0].

    Args:
        slopes: w·u of every draw, one column a direction.

    Returns:
        One row a direction: q; error, its binomial standard error √(q(1 − q)/ESS); limit =
        q(1 − q), the limit of Var[p]; and bound, the upper 95 % limit of min(q, 1 − q): where
        every draw agrees, 3/ESS (the rule of three), else two standard errors up. ESS is that of
        the slope, at most the number of draws.
    """
    from gnuq.posteriors import diagnostics  # ArviZ: seconds to import

    count = slopes.shape[0] * slopes.shape[1]
    size = np.minimum(diagnostics.convergence(slopes).effective_samples, count)
    q = (slopes > 0).mean((0, 1))
    error = (q * (1 - q) / size) ** 0.5
    rare = np.minimum(q, 1 - q)
    bound = np.where(rare == 0, 3 / size, rare + 2 * error)
    columns = {"q": q, "error": error, "limit": q * (1 - q), "bound": bound, "ESS": size}
    return pd.DataFrame(columns)


def wedge(
    model: Model, offsets: Sequence[float] | np.ndarray, *, distance: float = 100.0
) -> pd.DataFrame:
    """Limits along the rays of a linear model, by their angle to the boundary at the mode.

    Args:
        model: logistic regression.
        offsets: angles to the boundary, in degrees.
        distance: t at which c ‖g‖² is evaluated; its limit is zero, or infinite at offset 0.

    Returns:
        What `sign_probability` returns, with offset; gaussian = Φ(c), and linearised =
        Φ(c)(1 − Φ(c)), the limit of the linearised Laplace predictive, c = w*·u / √(uᵀΣu);
        and norm = c ‖g‖² at `distance`.
    """
    degrees = np.asarray(offsets, dtype=np.float64) + boundary_angle(model)
    u = direction(degrees)
    slopes = model.draws.weights[..., :2].astype(np.float64) @ u.T
    covariance = laplace.dense_covariance(model.fit, model.problem, Prior())[:2, :2].numpy()
    c = u @ mode_slopes(model) / ((u @ covariance) * u).sum(1) ** 0.5
    points = ray(model.problem, degrees, [distance])
    p = probability(model.fit.network(points)).numpy()
    found = sign_probability(slopes).assign(offset=offsets, gaussian=norm.cdf(c))
    size = model.constant * logistic_squared_norm(p, points.numpy())
    return found.assign(linearised=norm.cdf(c) * norm.cdf(-c), norm=size)
