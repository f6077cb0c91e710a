"""Laplace approximations with the generalised Gauss–Newton matrix (GGN).

The posterior is N(θ*, (Λ + Uᵀ U)⁻¹): Λ the prior's precision, and U one row per training output,
its gradient scaled by a square root of the likelihood's output Hessian. The full approximation
works in the dual form,

    gᵀ(Λ + UᵀU)⁻¹g = gᵀΛ⁻¹g − kᵀ(I + K)⁻¹k,   K = UΛ⁻¹Uᵀ,  k = UΛ⁻¹g,

which needs inner products of gradients only: exact at any width, no Jacobian stored. The
difference cancels digits, so everything runs in float64.

Every approximation has `network`, `variance` (gᵀΣg, by whatever form of Σ is cheapest) and
`covariance_matrix` (Σ itself, for small networks: to look at, and to sample weights from).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gnuq.estimators import delta_variance
from gnuq.gradnorm import GradientFactors, gradient_factors
from gnuq.gradnorm.passes import Objective
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

    def covariance_matrix(self) -> Float[Tensor, "parameters parameters"]:
        """Σ = (Λ + UᵀU)⁻¹ over the parameters that have a variance, zero for those at the mode."""
        rows = self.training.jacobian()
        sizes = self.training.sizes
        prior = torch.cat([rows.new_full((sizes[name],), self.variances[name]) for name in sizes])
        free = prior.nonzero()[:, 0]
        covariance = torch.diag(torch.zeros_like(prior))
        covariance[free[:, None], free] = _inverse_precision(rows[:, free], 1 / prior[free])
        return covariance


@dataclass(frozen=True)
class DiagonalLaplace:
    """A Gaussian with a diagonal covariance; a zero keeps a parameter at its mode.

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
        return _explicit_variance(self.network, self.covariance, inputs, objective, batch_size)

    def covariance_matrix(self) -> Float[Tensor, "parameters parameters"]:
        """Σ as a matrix."""
        return torch.diag(self.covariance)


@dataclass(frozen=True)
class DenseLaplace:
    """A Gaussian with any covariance, held as a matrix: small networks only.

    Attributes:
        network: the network at the mode.
        covariance: Σ, shape (P, P), in the order of `network.parameters()`; it may be singular.
    """

    network: nn.Module
    covariance: Float[Tensor, "parameters parameters"]

    def variance(
        self, inputs: Float[Tensor, "batch d"], objective: Objective, *, batch_size: int = 2000
    ) -> Float[Tensor, " batch *objectives"]:
        """gᵀΣg for any objective of the outputs; holds the P gradients of a part of the batch."""
        return _explicit_variance(self.network, self.covariance, inputs, objective, batch_size)

    def covariance_matrix(self) -> Float[Tensor, "parameters parameters"]:
        """Σ itself."""
        return self.covariance


def full_laplace(fit: MapFit, problem: Problem, prior: Prior) -> DualLaplace:
    """Laplace with the full GGN, in the dual form."""
    return _dual(fit.network, problem, prior.variances(fit.network))


def last_layer_laplace(fit: MapFit, problem: Problem, prior: Prior) -> DualLaplace:
    """Laplace over the last linear layer only; all other weights stay at the mode."""
    last = _last_layer(fit.network)
    variances = prior.variances(fit.network)
    kept = {name: v if name.startswith(last) else 0.0 for name, v in variances.items()}
    return _dual(fit.network, problem, kept)


def diagonal_laplace(fit: MapFit, problem: Problem, prior: Prior) -> DiagonalLaplace:
    """Laplace with the diagonal of the GGN."""
    rows = _scaled_outputs(fit.network, problem).jacobian()
    precision = prior.precisions_of(fit.network)
    return DiagonalLaplace(fit.network, 1 / (precision + rows.square().sum(0)))


def identity_curvature(fit: MapFit, prior: Prior) -> DiagonalLaplace:
    """Identity-curvature Laplace (ICLA): Σ = I/λ on the last linear layer, all else at the mode.

    The likelihood's curvature is dropped, so no training data enter. Σ is isotropic whatever
    `prior.scaling` says: gᵀΣg ranks exactly as the squared gradient norm of the last layer, and
    its scale is 1/λ by fiat, no posterior variance: it does not shrink as data come in.

    Source:
        Zhdanov et al. (2025), arXiv:2312.10464, after the authors' code (maxnygma/icla), which
        tunes λ by the marginal likelihood of a diagonal empirical Fisher and then sets the
        curvature to zero. Here λ is the prior's, as for every other method.
    """
    last = _last_layer(fit.network)
    covariance = [
        torch.full_like(p.detach().flatten(), 1 / prior.precision if n.startswith(last) else 0.0)
        for n, p in fit.network.named_parameters()
    ]
    return DiagonalLaplace(fit.network, torch.cat(covariance))


def dense_covariance(
    fit: MapFit, problem: Problem, prior: Prior
) -> Float[Tensor, "parameters parameters"]:
    """(Λ + UᵀU)⁻¹ as a matrix: small networks only, to look at and to sample weights from."""
    rows = _scaled_outputs(fit.network, problem).jacobian()
    return _inverse_precision(rows, prior.precisions_of(fit.network))


def _inverse_precision(rows: Tensor, precisions: Tensor) -> Tensor:
    """(Λ + UᵀU)⁻¹ from the rows of U and the diagonal of Λ."""
    precision = rows.mT @ rows + torch.diag(precisions)
    return torch.cholesky_inverse(torch.linalg.cholesky(precision))


def _explicit_variance(
    network: nn.Module, covariance: Tensor, inputs: Tensor, objective: Objective, batch_size: int
) -> Tensor:
    """gᵀΣg from gradients multiplied out, for Σ dense or its diagonal."""
    parts = []
    for part in inputs.split(batch_size):
        queries = gradient_factors(network, part, objective)
        variance = delta_variance(queries.jacobian(), covariance)
        parts.append(variance.reshape(queries.values.shape))
    return torch.cat(parts)


def _last_layer(network: nn.Sequential) -> str:
    """The prefix of the last layer's parameter names."""
    return f"{len(network) - 1}."


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
