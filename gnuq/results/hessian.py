"""Spectra of wide networks by curvlinops (the optional extra `oracle`): Hessian and GGN.

Both in the prior's coordinates, Λ^-½ H Λ^-½ with H of the summed negative log-likelihood: the
prior adds the identity.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor, nn

from gnuq.networks import MapFit, Prior
from gnuq.problems import Problem

#: Up to so many parameters the whole matrix is multiplied out.
DENSE = 5000
LARGEST, SMALLEST = 50, 10
#: ARPACK's tolerance is relative, and most eigenvalues are near 0: it sees them shifted.
SHIFT, TOLERANCE = 2.0, 1e-2
#: Lanczos vectors: equal units of a network make the smallest eigenvalues cluster.
BASIS = 150
COLUMNS_AT_ONCE = 256


def hessian_eigenvalues(fit: MapFit, problem: Problem, prior: Prior) -> pd.DataFrame:
    """Eigenvalues of the negative log-likelihood's Hessian, by curvlinops, as Λ^-½ H Λ^-½.

    Returns:
        rank, from the largest at 1 to the smallest at P, and eigenvalue; of more than `DENSE`
        parameters only the `LARGEST` largest and the `SMALLEST` smallest.

    Raises:
        ImportError: curvlinops is not installed.
    """
    operator, roots = _operator("Hessian", fit, problem), _roots(fit, prior)
    if len(roots) <= DENSE:
        values = torch.linalg.eigvalsh(multiplied_out(operator, roots)).flip(0).numpy()
        return pd.DataFrame({"rank": np.arange(1, len(values) + 1), "eigenvalue": values})
    ranks = np.r_[1 : LARGEST + 1, len(roots) - SMALLEST + 1 : len(roots) + 1]
    return pd.DataFrame({"rank": ranks, "eigenvalue": _ends(operator, roots)})


def _ends(operator: Any, roots: Tensor) -> np.ndarray:
    """The largest and the smallest eigenvalues, descending, by Lanczos iteration."""

    def shifted(v: np.ndarray) -> np.ndarray:
        vector = torch.from_numpy(v.ravel())
        return (roots * (operator @ (roots * vector)) + SHIFT * vector).detach().numpy()

    scaled = LinearOperator(operator.shape, matvec=shifted, dtype=np.float64)
    start = np.random.default_rng(0).standard_normal(len(roots))
    how = {"v0": start, "tol": TOLERANCE, "ncv": min(BASIS, len(roots))}
    found = [
        eigsh(scaled, n, which=end, return_eigenvectors=False, **how)
        for n, end in ((LARGEST, "LA"), (SMALLEST, "SA"))
    ]
    return np.sort(np.concatenate(found))[::-1] - SHIFT


def gauss_newton_by_curvlinops(
    fit: MapFit, problem: Problem, prior: Prior
) -> Float[Tensor, " parameters"]:
    """All P eigenvalues of the GGN, descending: the check on the Gram matrix, small networks."""
    operator = _operator("GGN", fit, problem)
    return torch.linalg.eigvalsh(multiplied_out(operator, _roots(fit, prior))).flip(0)


def multiplied_out(
    operator: Any, roots: Float[Tensor, " parameters"]
) -> Float[Tensor, "parameters parameters"]:
    """A curvature operator as a matrix, its rows and columns times `roots`."""
    columns = torch.diag(roots).split(COLUMNS_AT_ONCE, 1)
    matrix = roots[:, None] * torch.cat([operator @ part for part in columns], 1).detach()
    return (matrix + matrix.mT) / 2


def _roots(fit: MapFit, prior: Prior) -> Tensor:
    """The diagonal of Λ^-½."""
    return prior.precisions_of(fit.network).rsqrt()


def _operator(matrix: str, fit: MapFit, problem: Problem) -> Any:
    """The curvlinops operator of the summed negative log-likelihood."""
    try:
        import curvlinops
    except ImportError as error:
        raise ImportError(f"The {matrix} needs curvlinops: pip install 'gnuq[oracle]'.") from error
    network = copy.deepcopy(fit.network).requires_grad_(True)
    return getattr(curvlinops, f"{matrix}LinearOperator")(
        network,
        nn.CrossEntropyLoss(reduction="sum"),
        list(network.parameters()),
        [(problem.inputs, problem.targets)],
        check_deterministic=False,  # one fixed batch
    )
