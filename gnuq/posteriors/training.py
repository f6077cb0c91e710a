"""Point estimates beyond the plain mode: trained as practitioners do, and the mode near that.

Under a prior that is scaled by fan-in the zero network is a mode of its own, and for wide networks
the deepest: L-BFGS from a usual start falls into it. So the scaling study trains first, without
prior and with early stopping, and then looks for the mode near what it found.
"""

from __future__ import annotations

import copy

import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.nn import functional as F

from gnuq.networks import (
    Architecture,
    MapFit,
    Prior,
    _flat_objective,
    _minimise,
)
from gnuq.problems import Problem

#: L-BFGS stops at this norm of the gradient of the summed negative log-posterior.
TOLERANCE = 1e-2
#: Outputs that vary less over the training inputs (standard deviation, logits) are those of the
#: zero network.
FLAT = 1e-3


@torch.enable_grad()
def early_stopped(
    architecture: Architecture,
    problem: Problem,
    *,
    seed: int = 0,
    epochs: int = 300,
    patience: int = 30,
    learning_rate: float = 1e-3,
    batch: int = 32,
) -> nn.Sequential:
    """Train by Adam on four fifths of the data until the loss on the last fifth stops falling.

    No weight decay: what a practitioner's network is, whose prior nobody wrote down.

    Args:
        architecture: of the network.
        problem: one of several classes.
        seed: of the start, the split and the order.
        epochs: passes over the data, at most.
        patience: passes without a better held-out loss before it stops.
        learning_rate: Adam's.
        batch: examples a step.

    Returns:
        The network at its best held-out loss, in float64, weights frozen.
    """
    generator = torch.Generator().manual_seed(seed)
    network = architecture.build(seed)
    order = torch.randperm(len(problem.inputs), generator=generator)
    kept, held_out = order.tensor_split([len(order) * 4 // 5])
    adam = torch.optim.Adam(network.parameters(), lr=learning_rate)
    best, weights, waited = torch.inf, copy.deepcopy(network.state_dict()), 0
    for _ in range(epochs):
        shuffled = kept[torch.randperm(len(kept), generator=generator)]
        for part in shuffled.split(batch):
            adam.zero_grad()
            _loss(network, problem, part).backward()
            adam.step()
        with torch.no_grad():
            loss = _loss(network, problem, held_out).item()
        waited = 0 if loss < best else waited + 1
        if loss < best:
            best, weights = loss, copy.deepcopy(network.state_dict())
        if waited == patience:
            break
    network.load_state_dict(weights)
    return network.eval().requires_grad_(False)


def _loss(network: nn.Module, problem: Problem, chosen: Int[Tensor, " part"]) -> Tensor:
    return F.cross_entropy(network(problem.inputs[chosen]), problem.targets[chosen])


@torch.enable_grad()
def mode_near(
    network: nn.Sequential, problem: Problem, prior: Prior, *, max_iterations: int = 20_000
) -> MapFit:
    """The mode of the posterior that L-BFGS finds from a trained network, in float64.

    Args:
        network: where to begin; it is left alone.
        problem: the data.
        prior: over the weights.
        max_iterations: of L-BFGS.

    Raises:
        RuntimeError: L-BFGS stopped before the gradient's norm fell below `TOLERANCE`.
    """
    found_at = copy.deepcopy(network).requires_grad_(True)
    precisions = prior.precisions_of(found_at)
    start = nn.utils.parameters_to_vector(found_at.parameters()).detach().numpy()
    found = _minimise(
        _flat_objective(found_at, problem, precisions), start, TOLERANCE, max_iterations
    )
    norm = float(torch.linalg.vector_norm(torch.from_numpy(found.jac)))
    if norm > TOLERANCE:
        raise RuntimeError(
            f"mode_near: stopped after {found.nit} iterations at gradient norm {norm:.1e} > "
            f"{TOLERANCE:.0e} ({found.message}); raise max_iterations."
        )
    nn.utils.vector_to_parameters(torch.from_numpy(found.x), found_at.parameters())
    fitted = found_at.eval().requires_grad_(False)
    return MapFit(fitted, float(found.fun), norm, int(found.nit))


def is_flat(network: nn.Module, problem: Problem) -> bool:
    """Whether a network is the zero network: the same outputs for every training input."""
    return bool(network(problem.inputs).std(0).max() < FLAT)


def point_estimate(
    architecture: Architecture, problem: Problem, prior: Prior, *, seed: int = 0
) -> tuple[nn.Sequential, str]:
    """The mode near the early-stopped network, or that network where the mode is the zero network.

    Returns:
        The network, and which of the two it is: `"mode"` or `"early"`.
    """
    trained = early_stopped(architecture, problem, seed=seed)
    fit = mode_near(trained, problem, prior)
    return (trained, "early") if is_flat(fit.network, problem) else (fit.network, "mode")
