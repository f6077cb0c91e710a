"""Laplace approximations with the generalised Gauss–Newton matrix (GGN).

The posterior is N(θ*, (Λ + Uᵀ U)⁻¹): Λ the prior's precision, and U one row per training output,
its gradient scaled by a square root of the likelihood's output Hessian. The full approximation
works in the dual form,

    gᵀ(Λ + UᵀU)⁻¹g = gᵀΛ⁻¹g − kᵀ(I + K)⁻¹k,   K = UΛ⁻¹Uᵀ,  k = UΛ⁻¹g,

which needs inner products of gradients only: exact at any width, no Jacobian stored. The
difference cancels digits, so everything runs in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from gnuq.estimators import Decomposition
from gnuq.gradnorm import GradientFactors, gradient_factors
from gnuq.gradnorm.engine import Objective
from gnuq.networks import MapFit, Prior
from gnuq.problems import Problem


@dataclass(frozen=True)
class DualLaplace:
    """Full (or, with zero variances, partial) GGN Laplace in the dual form.

    Attributes:
        network: the network at the mode.
        variances: prior variance of each parameter tensor, by name; 0 keeps a tensor at its mode.
        training: factors of U.
        cholesky: lower factor of I + K.
    """

    network: nn.Module
    variances: Mapping[str, float]
    training: GradientFactors
    cholesky: Float[Tensor, "rows rows"]

    def variance(
        self, inputs: Float[Tensor, "batch d"], objective: Objective, *, batch_size: int = 2000
    ) -> Float[Tensor, " batch *objectives"]:
        """gᵀΣg, Eq. (3) with the Laplace covariance, for any objective of the outputs.

        With class probabilities as the objective this is the Laplace estimate of Table 5, with
        logits the variance of the linearised network's output.
        """
        return torch.cat([self._variance(part, objective) for part in inputs.split(batch_size)])

    def _variance(self, inputs: Tensor, objective: Objective) -> Tensor:
        queries = gradient_factors(self.network, inputs, objective)
        prior = queries.squared_norms(self.variances)
        k = self.training.kernel(queries, self.variances)
        solved = torch.linalg.solve_triangular(self.cholesky, k, upper=False)
        explained = solved.square().sum(0).reshape(prior.shape)
        return (prior - explained).clamp_min(0)


@dataclass(frozen=True)
class DiagonalLaplace:
    """Laplace with the diagonal of the GGN: Σ = diag(1 / (λ_i + h_i)).

    Attributes:
        network: the network at the mode.
        covariance: the diagonal of Σ, shape (P,).
    """

    network: nn.Module
    covariance: Float[Tensor, " parameters"]

    def variance(
        self, inputs: Float[Tensor, "batch d"], objective: Objective, *, batch_size: int = 2000
    ) -> Float[Tensor, " batch *objectives"]:
        """Σ_i σ_i² g_i² for any objective of the outputs."""
        parts = []
        for part in inputs.split(batch_size):
            queries = gradient_factors(self.network, part, objective)
            squares = queries.jacobian().square() @ self.covariance
            parts.append(squares.reshape(queries.values.shape))
        return torch.cat(parts)


def full_laplace(fit: MapFit, problem: Problem, prior: Prior) -> DualLaplace:
    """Laplace with the full GGN, in the dual form."""
    return _dual(fit.network, problem, prior.variances(fit.network))


def last_layer_laplace(fit: MapFit, problem: Problem, prior: Prior) -> DualLaplace:
    """Laplace over the last linear layer only; all other weights stay at the mode."""
    last = f"{len(fit.network) - 1}."
    variances = prior.variances(fit.network)
    kept = {name: v if name.startswith(last) else 0.0 for name, v in variances.items()}
    return _dual(fit.network, problem, kept)


def diagonal_laplace(fit: MapFit, problem: Problem, prior: Prior) -> DiagonalLaplace:
    """Laplace with the diagonal of the GGN."""
    rows = _scaled_outputs(fit.network, problem).jacobian()
    precision = prior.precisions_of(fit.network)
    return DiagonalLaplace(fit.network, 1 / (precision + rows.square().sum(0)))


def dense_covariance(
    fit: MapFit, problem: Problem, prior: Prior
) -> Float[Tensor, "parameters parameters"]:
    """(Λ + UᵀU)⁻¹ as a matrix: small networks only, to look at and to sample weights from."""
    rows = _scaled_outputs(fit.network, problem).jacobian()
    precision = rows.mT @ rows + torch.diag(prior.precisions_of(fit.network))
    return torch.cholesky_inverse(torch.linalg.cholesky(precision))


def sampled_predictions(
    fit: MapFit,
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
    """
    mode = nn.utils.parameters_to_vector(fit.network.parameters())
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(samples, mode.numel(), generator=generator, dtype=mode.dtype)
    drawn = mode + noise @ torch.linalg.cholesky(covariance).mT
    shapes = {name: p.shape for name, p in fit.network.named_parameters()}

    def outputs(flat: Tensor, part: Tensor) -> Tensor:
        pieces = flat.split([shape.numel() for shape in shapes.values()])
        weights = {k: v.reshape(shapes[k]) for k, v in zip(shapes, pieces, strict=True)}
        return torch.func.functional_call(fit.network, weights, part)

    run = torch.func.vmap(outputs, in_dims=(0, None), chunk_size=20)
    return torch.cat([run(drawn, part) for part in inputs.split(batch_size)], 1)


def linearised_predictive(
    logits: Float[Tensor, " batch"], variance: Float[Tensor, " batch"], *, nodes: int = 32
) -> Decomposition:
    """Eq. (2) for a binary classifier whose logit is N(f*, s²), by Gauss–Hermite quadrature.

    Args:
        logits: f*, the logit at the mode.
        variance: s², the Laplace variance of the linearised logit.
        nodes: quadrature nodes.

    Raises:
        ValueError: a negative variance, or shapes that differ.
    """
    if logits.shape != variance.shape:
        raise ValueError(f"variance: shape {tuple(variance.shape)} for {tuple(logits.shape)}.")
    if not bool((variance >= 0).all()):
        raise ValueError("variance: it is negative or NaN.")
    x, w = (torch.from_numpy(a).to(logits) for a in np.polynomial.hermite_e.hermegauss(nodes))
    weights = (w / w.sum())[:, None]
    p = torch.sigmoid(logits + variance.sqrt() * x[:, None])
    mean = (weights * p).sum(0)
    epistemic = (weights * (p - mean).square()).sum(0)
    total = mean * (1 - mean)
    return Decomposition(total, total - epistemic, epistemic)


def _dual(network: nn.Module, problem: Problem, variances: Mapping[str, float]) -> DualLaplace:
    training = _scaled_outputs(network, problem)
    kernel = training.kernel(training, variances)
    identity = torch.eye(len(kernel), dtype=kernel.dtype)
    cholesky = torch.linalg.cholesky(identity + (kernel + kernel.mT) / 2)
    return DualLaplace(network, variances, training, cholesky)


def _scaled_outputs(network: nn.Module, problem: Problem) -> GradientFactors:
    """U: gradients of the training outputs, scaled by a root of the output Hessian."""
    return gradient_factors(network, problem.inputs, _hessian_root(problem))


def _hessian_root(problem: Problem) -> Callable[[Tensor], Tensor]:
    """Outputs f to Aᵀf, with A Aᵀ the likelihood's Hessian in f, held constant.

    Binary: p(1 − p). Softmax: diag(p) − ppᵀ = AAᵀ with A = diag(√p) − p √pᵀ. Gaussian: 1/σ².
    """

    def scaled(outputs: Tensor) -> Tensor:
        with torch.no_grad():
            if problem.task == "binary":
                p = outputs.sigmoid()
                root = (p * (1 - p)).sqrt()
            elif problem.task == "regression":
                root = torch.full_like(outputs, 1 / problem.noise)
            else:
                p = outputs.softmax(1)
                half = p.sqrt()
                matrix = torch.diag_embed(half) - p[:, :, None] * half[:, None, :]
        if problem.task == "multiclass":
            return (outputs[:, None, :] @ matrix)[:, 0, :]
        return outputs * root

    return scaled
