"""K-FAC Laplace, with the Kronecker factors of curvlinops (the optional extra `oracle`).

Layer by layer, the generalised Gauss–Newton matrix of the weights and bias of a linear layer,
Σ_n ã_n ã_nᵀ ⊗ B_n, is replaced by a product of sums,

    (1/N Σ_n ã_n ã_nᵀ) ⊗ (Σ_n B_n),

with ã_n = (a_n, 1) the layer's inputs and B_n the Gauss–Newton matrix of its outputs; blocks
between layers are dropped. It is exact where ã_nã_nᵀ or B_n does not depend on n.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gnuq.networks import MapFit, Prior
from gnuq.posteriors.laplace import DenseLaplace
from gnuq.problems import Problem


def kfac_laplace(fit: MapFit, problem: Problem, prior: Prior) -> DenseLaplace:
    """Laplace with Σ = (K + Λ)⁻¹, K the K-FAC approximation of the GGN, inverted exactly.

    The prior's precisions are added to the matrix multiplied out, not to its factors, so no
    second approximation enters. P × P: small networks only.

    Raises:
        ImportError: curvlinops is not installed.

    Source:
        Martens & Grosse (2015); as a Laplace approximation: Ritter et al. (2018).
    """
    precision = kfac_curvature(fit.network, problem)
    precision = precision + torch.diag(prior.precisions_of(fit.network))
    return DenseLaplace(fit.network, torch.cholesky_inverse(torch.linalg.cholesky(precision)))


def kfac_curvature(network: nn.Module, problem: Problem) -> Float[Tensor, "parameters parameters"]:
    """K-FAC of the summed negative log-likelihood's GGN, in the order of `module.parameters()`.

    The type-2 Fisher, that is the exact Hessian in the outputs; weights and bias of a layer are
    one block. curvlinops sums over the data if the loss does.

    Raises:
        ImportError: curvlinops is not installed.
    """
    operator, type2 = _curvlinops()
    network = copy.deepcopy(network).requires_grad_(True)
    loss, targets, scale = _loss(problem)
    parameters = list(network.parameters())
    with torch.enable_grad():
        factored = operator(
            network,
            loss,
            parameters,
            [(problem.inputs, targets)],
            fisher_type=type2,
            separate_weight_and_bias=False,
            check_deterministic=False,  # one fixed batch
        )
        columns = factored @ torch.eye(sum(p.numel() for p in parameters), dtype=torch.float64)
    return scale * (columns + columns.mT).detach() / 2


def _loss(problem: Problem) -> tuple[nn.Module, Tensor, float]:
    """A loss that curvlinops knows, its targets, and the factor that makes it the likelihood's.

    Gaussian: the squared error has curvature 2, the negative log-likelihood 1/σ².
    """
    if problem.task == "multiclass":
        return nn.CrossEntropyLoss(reduction="sum"), problem.targets, 1.0
    targets = problem.targets[:, None].to(torch.float64)
    if problem.task == "binary":
        return nn.BCEWithLogitsLoss(reduction="sum"), targets, 1.0
    return nn.MSELoss(reduction="sum"), targets, 1 / (2 * problem.noise**2)


def _curvlinops() -> tuple[Any, Any]:
    """The K-FAC operator and the name of the type-2 Fisher."""
    try:
        from curvlinops import (
            FisherType,
            KFACLinearOperator,
        )
    except ImportError as error:
        raise ImportError(
            "K-FAC needs curvlinops: pip install 'gnuq[oracle]' (or curvlinops-for-pytorch)."
        ) from error
    return KFACLinearOperator, FisherType.TYPE2
