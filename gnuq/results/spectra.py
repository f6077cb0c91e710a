"""How anisotropic a posterior is: eigenvalues of the Hessian at the mode (Table 9)."""

from __future__ import annotations

import itertools

import pandas as pd
import torch
from jaxtyping import Float
from scipy.stats import gmean
from torch import Tensor

from gnuq.networks import MapFit, Prior, fit_map, negative_log_likelihood
from gnuq.posteriors import laplace
from gnuq.problems import Problem
from gnuq.protocol import Experiment


def hessian(fit: MapFit, problem: Problem, prior: Prior) -> Float[Tensor, "parameters parameters"]:
    """The Hessian of the negative log-posterior at the mode, P × P; for small networks.

    Args:
        fit: the network at the mode.
        problem: the data.
        prior: its precision is the Hessian's constant part.
    """
    network = fit.network
    shapes = {name: p.shape for name, p in network.named_parameters()}

    def loss(flat: Tensor) -> Tensor:
        pieces = flat.split([shape.numel() for shape in shapes.values()])
        weights = {k: v.reshape(shapes[k]) for k, v in zip(shapes, pieces, strict=True)}
        outputs = torch.func.functional_call(network, weights, problem.inputs)
        return negative_log_likelihood(outputs, problem)

    mode = torch.nn.utils.parameters_to_vector(network.parameters())
    curvature: Tensor = torch.func.hessian(loss)(mode)  # type: ignore[no-untyped-call]
    return curvature + torch.diag(prior.precisions_of(network))


def gauss_newton_eigenvalues(experiment: Experiment) -> Float[Tensor, " parameters"]:
    """Eigenvalues, ascending, of the Gauss–Newton matrix with the prior at the mode.

    Args:
        experiment: problem and prior; a network of some thousand parameters at most.
    """
    fit = fit_map(experiment.architecture, experiment.problem, experiment.prior)
    covariance = laplace.dense_covariance(fit, experiment.problem, experiment.prior)
    return 1 / torch.linalg.eigvalsh(covariance).flip(0)


def hessian_eigenvalues(experiment: Experiment) -> Float[Tensor, " parameters"]:
    """The same of the Hessian itself."""
    fit = fit_map(experiment.architecture, experiment.problem, experiment.prior)
    return torch.linalg.eigvalsh(hessian(fit, experiment.problem, experiment.prior))


def eigenvalue_ranges(experiments: list[Experiment]) -> pd.DataFrame:
    """Table 9's last columns: range and ratio of the Hessian's eigenvalues.

    Args:
        experiments: problems under one prior; data seeds of one problem are averaged.

    Returns:
        One row per problem and matrix: parameters, the smallest and the largest eigenvalue,
        and their ratio (geometric means over data seeds).
    """
    matrices = {"Hessian": hessian_eigenvalues, "Gauss–Newton": gauss_newton_eigenvalues}
    rows = []
    for experiment, (matrix, eigenvalues) in itertools.product(experiments, matrices.items()):
        low, high = (float(value) for value in eigenvalues(experiment)[[0, -1]])
        named = (experiment.problem_name, matrix, experiment.architecture.parameters)
        rows.append((*named, low, high, high / low))
    columns = ["problem", "matrix", "P", "smallest", "largest", "ratio"]
    grouped = pd.DataFrame(rows, columns=columns).groupby(columns[:3], sort=False)
    return grouped.agg(gmean)
