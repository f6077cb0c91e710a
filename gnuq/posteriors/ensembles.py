"""Draws of whole networks: deep ensembles of MAP fits, and Monte Carlo dropout."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from gnuq.networks import Architecture, MapFit, Prior, fit_map, negative_log_likelihood
from gnuq.problems import Problem

LEARNING_RATE = 0.03


def deep_ensemble(
    architecture: Architecture, problem: Problem, prior: Prior, *, members: int = 10, seed: int = 0
) -> list[MapFit]:
    """Networks trained to a mode each, from independent starts.

    The starts' seeds are spawned from `seed`, so ensembles of different seeds share no member
    and a smaller ensemble is the beginning of a larger one.

    Raises:
        ValueError: fewer than two members, or as `fit_map` raises.
        RuntimeError: a member did not reach a mode.

    Source:
        Lakshminarayanan et al. (2017), without adversarial training; the members are MAP fits,
        so they differ by the mode they reach only.
    """
    if members < 2:
        raise ValueError(f"members: {members}; an ensemble has two at least.")
    starts = np.random.SeedSequence(seed).generate_state(members)
    return [fit_map(architecture, problem, prior, seed=int(start)) for start in starts]


def ensemble_outputs(
    members: Sequence[MapFit], inputs: Float[Tensor, "batch d"]
) -> Float[Tensor, "members batch outputs"]:
    """The outputs of every member."""
    return torch.stack([member.network(inputs) for member in members])


@torch.enable_grad()
def dropout_network(
    architecture: Architecture,
    problem: Problem,
    prior: Prior,
    *,
    rate: float = 0.1,
    steps: int = 1500,
    seed: int = 0,
) -> nn.Sequential:
    """A network trained with dropout on its hidden units, by Adam on all data, in float64.

    The objective is that of `fit_map`, the summed negative log-likelihood plus ½ Σᵢ λᵢ θᵢ², at a
    fresh mask per point and step; the learning rate falls from 0.03 to zero along a cosine.

    Args:
        architecture: one hidden layer at least.
        problem: the data.
        prior: λ, as weight decay.
        rate: probability that a hidden unit is dropped.
        steps: steps of Adam.
        seed: of the start and of the masks. The global random state is neither read nor moved.

    Returns:
        The network in eval mode (no unit is dropped), weights frozen.

    Raises:
        ValueError: no hidden layer, a rate outside (0, 1), no step, or the architecture does not
            suit the problem.

    Source:
        Gal & Ghahramani (2016). Their weight decay follows from the rate and a length scale; ours
        is the prior's, so that all methods train on the same objective.
    """
    architecture.must_suit(problem)
    if not architecture.hidden:
        raise ValueError("architecture: a linear model has no hidden unit that could be dropped.")
    if not 0 < rate < 1:
        raise ValueError(f"rate: {rate} is not between 0 and 1.")
    if steps < 1:
        raise ValueError(f"steps: {steps} is too few; give at least 1.")
    network = _with_dropout(architecture.build(seed), rate)
    _train(network, problem, prior.precisions_of(network), steps, seed)
    return network.requires_grad_(False)


def dropout_outputs(
    network: nn.Sequential,
    inputs: Float[Tensor, "batch d"],
    *,
    samples: int = 100,
    seed: int = 0,
    batch_size: int = 1000,
) -> Float[Tensor, "samples batch outputs"]:
    """Outputs under random masks, one mask a sample, shared by all inputs: draws of functions.

    A unit is zero with the network's dropout rate p, and else multiplied by 1/(1 − p).

    Args:
        network: as `dropout_network` returns it.
        inputs: shape (batch, d).
        samples: number of masks.
        seed: their seed.
        batch_size: inputs that go through the networks at once.

    Raises:
        ValueError: the network has no dropout layer.
    """
    masks = _draw_masks(network, (samples, 1), torch.Generator().manual_seed(seed))
    if not masks:
        raise ValueError("network: it has no dropout layer; train it with `dropout_network`.")
    return torch.cat([_masked(network, part, masks) for part in inputs.split(batch_size)], 1)


def _with_dropout(network: nn.Sequential, rate: float) -> nn.Sequential:
    """The same layers with dropout behind every activation, in eval mode: it carries the rate."""
    modules: list[nn.Module] = []
    for module in network:
        modules += [module, nn.Dropout(rate)] if isinstance(module, nn.Tanh) else [module]
    return nn.Sequential(*modules).eval()


def _train(
    network: nn.Sequential, problem: Problem, precisions: Tensor, steps: int, seed: int
) -> None:
    """Adam on all points, a mask per point and step; masks have a generator of their own."""
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        optimiser.zero_grad()
        masks = _draw_masks(network, (len(problem.inputs),), generator)
        loss = negative_log_likelihood(_masked(network, problem.inputs, masks), problem)
        weights = nn.utils.parameters_to_vector(network.parameters())
        (loss + (precisions * weights.square()).sum() / 2).backward()
        optimiser.step()
        schedule.step()


def _draw_masks(
    network: nn.Sequential, shape: tuple[int, ...], generator: torch.Generator
) -> dict[nn.Module, Tensor]:
    """For every dropout layer, masks of its units: `shape` of them, each 0 or 1/(1 − p)."""
    masks: dict[nn.Module, Tensor] = {}
    units = 0
    for module in network:
        if isinstance(module, nn.Linear):
            units = module.out_features
        elif isinstance(module, nn.Dropout):
            draws = torch.rand(*shape, units, generator=generator, dtype=torch.float64)
            masks[module] = (draws >= module.p) / (1 - module.p)
    return masks


def _masked(network: nn.Sequential, hidden: Tensor, masks: dict[nn.Module, Tensor]) -> Tensor:
    """The forward pass with the given masks, which may add leading dimensions."""
    for module in network:
        hidden = hidden * masks[module] if module in masks else module(hidden)
    return hidden
