"""How an approximate posterior becomes an uncertainty.

Three ways: the linearised network, whose outputs are jointly Gaussian (then only the link is
left to integrate); weights drawn from the posterior and sent through the network itself; and
outputs that come as draws anyway, such as an ensemble's. All end in Eq. (2).
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from gnuq.estimators import Decomposition, label_wise_decomposition
from gnuq.gradnorm.passes import Objective
from gnuq.networks import probabilities
from gnuq.problems import Problem

SOBOL_POINTS = 1024
HERMITE_NODES = 32


@runtime_checkable
class Approximation(Protocol):
    """A Gaussian approximation N(θ*, Σ) of a network's posterior."""

    @property
    def network(self) -> nn.Module:
        """The network at θ*."""

    def variance(
        self, inputs: Float[Tensor, "batch d"], objective: Objective, *, batch_size: int = 2000
    ) -> Float[Tensor, " batch *objectives"]:
        """gᵀΣg, Eq. (3), for any objective of the outputs."""

    def covariance_matrix(self) -> Float[Tensor, "parameters parameters"]:
        """Σ, in the order of `network.parameters()`; small networks only."""


def output_covariance(
    approximation: Approximation, inputs: Float[Tensor, "batch d"]
) -> Float[Tensor, "batch outputs outputs"]:
    """J Σ Jᵀ, the covariance of the linearised outputs at every input, by polarisation.

    Cov(f_i, f_j) = (Var[f_i + f_j] − Var[f_i] − Var[f_j]) / 2, so that only variances of scalars
    are asked for: K(K + 1)/2 backward passes for K outputs, in one call. Symmetric by
    construction; rounding may leave it with eigenvalues slightly below zero.
    """
    with torch.no_grad():
        count = approximation.network(inputs[:1]).shape[1]
    i, j = torch.triu_indices(count, count, 1)

    def outputs_and_sums(outputs: Tensor) -> Tensor:
        return torch.cat([outputs, outputs[:, i] + outputs[:, j]], 1)

    part = max(1, 2000 // (count + len(i)))  # as many gradients at once as by default
    found = approximation.variance(inputs, outputs_and_sums, batch_size=part)
    single, sums = found[:, :count], found[:, count:]
    covariance = torch.diag_embed(single)
    covariance[:, i, j] = (sums - single[:, i] - single[:, j]) / 2
    covariance[:, j, i] = covariance[:, i, j]
    return covariance


def linearised_predictive(
    outputs: Float[Tensor, "batch outputs"],
    covariance: Float[Tensor, "batch outputs outputs"],
    problem: Problem,
) -> Decomposition:
    """Eq. (2) for a network whose outputs are N(f*, C), as the linearised network's are.

    Binary: Gauss–Hermite quadrature of the sigmoid. Several classes: the softmax at 1024 points
    of a scrambled Sobol sequence, the same at every input; their error is common to neighbours,
    so maps stay smooth. Regression: epistemic = C, aleatoric = σ², exactly.

    Args:
        outputs: f*, the outputs at the mode.
        covariance: C, as `output_covariance` returns it; it may be singular.
        problem: its task decides the link; its noise is σ in regression.

    Returns:
        Per output, shape (batch, outputs): of class 1 in a binary problem, of every class in one
        of several classes, of the value (in its unit squared) in regression.

    Raises:
        ValueError: shapes that do not match, or a covariance with a negative variance or a NaN.
    """
    if covariance.shape != (*outputs.shape, problem.outputs):
        raise ValueError(
            f"covariance: shape {tuple(covariance.shape)} for outputs of shape "
            f"{tuple(outputs.shape)} and a problem of {problem.outputs} outputs."
        )
    variance = covariance.diagonal(dim1=1, dim2=2)
    if not bool((variance >= 0).all()) or not bool(torch.isfinite(covariance).all()):
        raise ValueError("covariance: a variance on its diagonal is negative, or not finite.")
    if problem.task == "binary":
        return _gauss_hermite(outputs, variance)
    if problem.task == "multiclass":
        return _sobol(outputs, covariance)
    return _with_noise(variance, problem)


def sampled_outputs(
    network: nn.Module,
    covariance: Float[Tensor, "parameters parameters"],
    inputs: Float[Tensor, "batch d"],
    *,
    samples: int = 200,
    seed: int = 0,
    batch_size: int = 2500,
) -> Float[Tensor, "samples batch outputs"]:
    """Outputs of the network itself (not linearised) at weights drawn from N(θ*, Σ).

    The mode's neighbourhood is far smaller than Σ suggests, so these differ wildly from the
    linearised predictive wherever the network is not linear (Table 6).

    Args:
        network: the network at the mode θ*.
        covariance: Σ, any approximation's `covariance_matrix()`; it may be singular, and a
            parameter whose row is zero stays at the mode.
        inputs: shape (batch, d).
        samples: number of weight vectors.
        seed: their seed.
        batch_size: inputs that go through the networks at once.

    Raises:
        ValueError: Σ has a negative eigenvalue.
    """
    mode = nn.utils.parameters_to_vector(network.parameters()).detach()
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(samples, mode.numel(), generator=generator, dtype=mode.dtype)
    drawn = mode + noise @ _root(covariance).mT
    shapes = {name: p.shape for name, p in network.named_parameters()}

    def outputs(flat: Tensor, part: Tensor) -> Tensor:
        pieces = flat.split([shape.numel() for shape in shapes.values()])
        weights = {k: v.reshape(shapes[k]) for k, v in zip(shapes, pieces, strict=True)}
        return torch.func.functional_call(network, weights, part)

    run = torch.func.vmap(outputs, in_dims=(0, None), chunk_size=20)
    return torch.cat([run(drawn, part) for part in inputs.split(batch_size)], 1)


def sample_decomposition(
    outputs: Float[Tensor, "samples batch outputs"], problem: Problem
) -> Decomposition:
    """Eq. (2) from draws of the outputs: weight samples, members of an ensemble, dropout masks.

    Returns:
        Per output, shape (batch, outputs), as `linearised_predictive` does; the epistemic part
        is the variance over the draws, divided by their number.

    Raises:
        ValueError: fewer than two draws, outputs of another shape than the problem's, or outputs
            that are not finite.
    """
    if outputs.ndim != 3 or outputs.shape[0] < 2 or outputs.shape[2] != problem.outputs:
        raise ValueError(
            f"outputs: shape {tuple(outputs.shape)}; expected (samples, batch, "
            f"{problem.outputs}) with two samples at least."
        )
    if not bool(torch.isfinite(outputs).all()):
        raise ValueError("outputs: they contain NaN or infinity.")
    if problem.task == "regression":
        return _with_noise(outputs.var(0, correction=0), problem)
    drawn = probabilities(outputs.flatten(0, 1), problem).unflatten(0, outputs.shape[:2])
    return label_wise_decomposition(drawn[..., -problem.outputs :])  # binary: class 1 alone


def _gauss_hermite(logits: Tensor, variance: Tensor) -> Decomposition:
    """E[p(1 − p)] and Var[p] of a sigmoid of N(f*, s²), for every entry."""
    x, w = np.polynomial.hermite_e.hermegauss(HERMITE_NODES)
    nodes, weights = (torch.from_numpy(a).to(logits)[:, None, None] for a in (x, w / w.sum()))
    p = torch.sigmoid(logits + variance.sqrt() * nodes)
    mean = (weights * p).sum(0)
    epistemic = (weights * (p - mean).square()).sum(0)
    total = mean * (1 - mean)
    return Decomposition(total, total - epistemic, epistemic)


def _sobol(outputs: Tensor, covariance: Tensor) -> Decomposition:
    """The decomposition over softmax(f* + C^½ z), z the quasi-random normal points.

    C^½ is the symmetric root, which is continuous in C (an eigenvector's sign is not).
    """
    engine = torch.quasirandom.SobolEngine(outputs.shape[1], scramble=True, seed=0)
    uniform = engine.draw(SOBOL_POINTS, dtype=torch.float64).clamp(1e-12, 1 - 1e-12)
    z = torch.special.ndtri(uniform).to(outputs)
    values, vectors = torch.linalg.eigh(covariance)
    root = (vectors * values.clamp_min(0).sqrt()[:, None, :]) @ vectors.mT
    parts = [
        label_wise_decomposition((f + torch.einsum("sk,bkl->sbl", z, r)).softmax(-1))
        for f, r in zip(outputs.split(1000), root.split(1000), strict=True)
    ]
    columns = ((part.total, part.aleatoric, part.epistemic) for part in parts)
    return Decomposition(*(torch.cat(column) for column in zip(*columns, strict=True)))


def _with_noise(variance: Tensor, problem: Problem) -> Decomposition:
    """Regression: the noise is known, and all that is aleatoric."""
    noise = torch.full_like(variance, problem.noise**2)
    return Decomposition(variance + noise, noise, variance)


def _root(covariance: Tensor) -> Tensor:
    """L with LLᵀ = Σ, rows of zeros kept: Cholesky's, or by eigenvalues if some of them vanish."""
    free = covariance.diagonal().nonzero()[:, 0]
    block = covariance[free[:, None], free]
    lower, failed = torch.linalg.cholesky_ex(block)
    if failed:
        values, vectors = torch.linalg.eigh(block)
        if values[0] < -1e-8 * values[-1]:
            raise ValueError(f"covariance: its eigenvalue {float(values[0]):.1e} is negative.")
        lower = vectors * values.clamp_min(0).sqrt()
    root = torch.zeros_like(covariance)
    root[free[:, None], free] = lower
    return root
