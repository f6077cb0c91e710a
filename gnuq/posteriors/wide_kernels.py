"""The kernels of networks with many hidden units: of their outputs, and of their gradients.

With independent Gaussian weights the outputs of a wide network are Gaussian, with the covariance

    K⁰ = s_b² + s_w² d · xᵀx'/d,   K^{l+1} = s_b² + s_w² n · E[φ(u) φ(u')],   (u, u') ~ N(0, K^l),

where s_w² and s_b² are the variances of weights and biases and n is the fan-in. Under the prior
that is scaled by fan-in s_w² n does not depend on the width: this is the limit of infinite width.
Under a unit prior it grows with n, and the kernel is that of one width. A unit's squared gradient
norm follows a recursion of the same kind: its own layer's part, and s_w² n E[φ'(u)²] of that of the
layer below.

The expectations come from Hermite series. With normalised polynomials h_k and
a_k(σ) = E[φ(σx) h_k(x)],

    E[φ(u) φ(u')] = Σ_k a_k(σ) a_k(σ') ρ^k,

so that every truncation is positive semidefinite; what is left out goes to the diagonal.

Source:
    Neal (1996), Lee et al. (2018), the limit; Jacot et al. (2018), the tangent kernel;
    Daniely et al. (2016), the series.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.special import erf

from gnuq.networks import Architecture, Prior

Function = Callable[[np.ndarray], np.ndarray]


def _normal(x: np.ndarray) -> np.ndarray:
    density: np.ndarray = np.exp(-np.square(x) / 2) / np.sqrt(2 * np.pi)
    return density


#: Hidden units with their derivatives.
UNITS: dict[str, tuple[Function, Function]] = {
    "tanh": (np.tanh, lambda x: 1 - np.tanh(x) ** 2),
    "erf": (erf, lambda x: 2 / np.sqrt(np.pi) * np.exp(-np.square(x))),
    "gelu": (
        lambda x: x * (1 + erf(x / np.sqrt(2))) / 2,
        lambda x: (1 + erf(x / np.sqrt(2))) / 2 + x * _normal(x),
    ),
}
#: Terms of the series at most, the share of E[φ²] that may be left out, and nodes of the quadrature
#: that finds the coefficients.
TERMS, ENOUGH, NODES = 400, 1e-8, 1200


@dataclass(frozen=True)
class WideKernels:
    """Kernels of one output of a network, at some points.

    Attributes:
        outputs: K, the covariance of the outputs, shape (n, n).
        tangent: Θ(x, x) = Σ_i s_i² (∂f/∂w_i)², each gradient weighted by its prior variance, (n,).
        gradient: Σ_i (∂f/∂w_i)² in the network's own coordinates, (n,); it grows with the width.
    """

    outputs: Float[np.ndarray, "n n"]
    tangent: Float[np.ndarray, " n"]
    gradient: Float[np.ndarray, " n"]


def wide_kernels(
    architecture: Architecture, prior: Prior, points: Float[np.ndarray, "n inputs"]
) -> WideKernels:
    """The kernels of a network whose hidden layers are wide.

    Args:
        architecture: the network; its widths matter under a unit prior, and to `gradient`.
        prior: over the weights.
        points: where.

    Raises:
        ValueError: hidden units without a series here.
    """
    name = getattr(architecture, "activation", "tanh")
    if name not in UNITS:
        raise ValueError(f"architecture: {name!r} units have no series; {', '.join(UNITS)} have.")
    unit, slope = UNITS[name]
    features = points @ points.T  # Σ_j φ(u_j) φ(u'_j) of the layer below
    own, weighted, passed = np.zeros((3, len(points)))
    kernel = features
    for depth, (fan_in, _) in enumerate(architecture.layers):
        variance = 1 / (prior.precision * (fan_in if prior.scaling == "fan_in" else 1))
        if depth:
            _, squared_slopes = _coefficients(slope, np.sqrt(kernel.diagonal()), 0)
            passed = fan_in * variance * squared_slopes
            features = fan_in * hermite_expectation(unit, kernel)
        kernel = variance * features + 1 / prior.precision
        own = features.diagonal() + 1 + passed * own
        weighted = kernel.diagonal() + passed * weighted
    return WideKernels(kernel, weighted, own)


def hermite_expectation(
    function: Function, covariance: Float[np.ndarray, "n n"]
) -> Float[np.ndarray, "n n"]:
    """E[φ(u) φ(u')] for Gaussian (u, u') with each pair's covariance.

    Args:
        function: φ.
        covariance: of all u.
    """
    deviations = np.sqrt(covariance.diagonal())
    correlations = np.clip(covariance / np.outer(deviations, deviations), -1, 1)
    coefficients, squares = _coefficients(function, deviations, TERMS)
    left = squares - np.cumsum(np.square(coefficients), 1).T  # after every term
    found, power = np.zeros_like(covariance), np.ones_like(covariance)
    for column, rest in zip(coefficients.T, left, strict=True):
        if abs(column).max() > 1e-12:  # an odd function has no even terms
            found += np.outer(column, column) * power
        if rest.max() < ENOUGH * squares.max():
            break
        power *= correlations
    found[np.diag_indices_from(found)] = squares
    return found


def _coefficients(
    function: Function, deviations: np.ndarray, terms: int
) -> tuple[np.ndarray, np.ndarray]:
    """The first a_k(σ), shape (n, terms), and E[φ(σx)²], shape (n,)."""
    nodes = (np.arange(NODES) + 0.5) / NODES * 24 - 12  # the trapezoid rule: exponentially exact
    weights = _normal(nodes) * 24 / NODES
    values = function(deviations[:, None] * nodes)
    found = np.empty((len(deviations), terms))
    before, polynomial = np.zeros(NODES), np.ones(NODES)
    for k in range(terms):
        found[:, k] = values @ (weights * polynomial)
        before, polynomial = (
            polynomial,
            (nodes * polynomial - np.sqrt(k) * before) / np.sqrt(k + 1),
        )
    return found, np.square(values) @ weights


def squared_norms(
    probabilities: Float[np.ndarray, "*draws n classes"], gradient: Float[np.ndarray, " n"]
) -> Any:
    """‖∇p_k‖² of a wide network at a draw: Σ_c (∂p_k/∂f_c)² times the outputs' common squared norm.

    Gradients of different outputs are orthogonal in the limit, so that it is
    p_k² [(1 − p_k)² + Σ_{c≠k} p_c²] Θ; with two classes 2 [p(1 − p)]² Θ.

    Args:
        probabilities: of all classes.
        gradient: Θ, of an output, `WideKernels.tangent` or `.gradient`.
    """
    p = probabilities
    total = np.square(p).sum(-1, keepdims=True)
    return np.square(p) * (np.square(1 - p) + total - np.square(p)) * gradient[:, None]
