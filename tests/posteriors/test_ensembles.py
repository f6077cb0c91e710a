"""Ensembles and dropout: where their spread is known, it is that."""

from __future__ import annotations

import math

import pytest
import torch

from gnuq.networks import Architecture, Prior, fit_map, negative_log_likelihood
from gnuq.posteriors.ensembles import (
    deep_ensemble,
    dropout_network,
    dropout_outputs,
    ensemble_outputs,
)
from gnuq.posteriors.predictive import sample_decomposition
from gnuq.problems import make_problem

XOR = make_problem("xor", points=40)


@pytest.mark.parametrize("name", ["linear", "clusters-3", "line"])
def test_members_of_a_convex_problem_coincide(name: str) -> None:
    """One mode, so no disagreement. Strong convexity (λ) bounds ‖θ − θ*‖ by ‖gradient‖ / λ."""
    problem = make_problem(name, points=60)
    architecture = Architecture(problem.inputs.shape[1], (), problem.outputs)
    members = deep_ensemble(architecture, problem, Prior(1.0), members=3)
    outputs = ensemble_outputs(members, problem.inputs)
    assert outputs.shape == (3, 60, problem.outputs)
    lengths = (1 + problem.inputs.square().sum(1)).sqrt()
    radius = 2 * max(member.gradient_norm for member in members)
    assert ((outputs - outputs[0]).abs().amax((0, 2)) <= radius * lengths + 1e-12).all()
    assert sample_decomposition(outputs, problem).epistemic.max() < 1e-9


def test_members_of_a_network_disagree_and_each_is_a_map_fit() -> None:
    architecture = Architecture(2, (4,), 1)
    members = deep_ensemble(architecture, XOR, Prior(0.1), members=3)
    outputs = ensemble_outputs(members, XOR.inputs)
    assert outputs.std(0).max() > 1e-3
    for member, expected in zip(members, outputs, strict=True):
        assert member.gradient_norm < 1e-4
        assert torch.equal(member.network(XOR.inputs), expected)


def test_seeds_fix_the_members_and_ensembles_of_other_seeds_share_none() -> None:
    def ensemble(members: int, seed: int) -> torch.Tensor:
        fits = deep_ensemble(Architecture(2, (3,), 1), XOR, Prior(), members=members, seed=seed)
        return torch.stack(
            [torch.nn.utils.parameters_to_vector(f.network.parameters()) for f in fits]
        )

    three = ensemble(3, 0)
    torch.manual_seed(1234)
    assert torch.equal(three[:2], ensemble(2, 0))
    distances = torch.cdist(three, ensemble(3, 1))
    assert distances.min() > 1e-6


def test_dropout_of_a_linear_readout_has_the_mean_and_variance_of_its_masks() -> None:
    """f = Σ_j w_j m_j h_j / (1 − p) + b has mean f and variance p/(1 − p) Σ_j w_j² h_j²."""
    network = dropout_network(Architecture(2, (8,), 1), XOR, Prior(), rate=0.3, steps=100)
    samples = 20_000
    drawn = dropout_outputs(network, XOR.inputs, samples=samples)[..., 0]
    hidden = network[1](network[0](XOR.inputs))
    variance = 0.3 / 0.7 * (hidden * network[-1].weight).square().sum(1)
    error = 4 * (variance / samples).sqrt()
    assert ((drawn.mean(0) - network(XOR.inputs)[:, 0]).abs() < error).all()
    assert ((drawn.var(0) / variance - 1).abs() < 5 * (2 / samples) ** 0.5).all()


def test_a_sample_is_one_function() -> None:
    """One mask for all inputs: equal inputs get equal outputs, and the batch does not matter."""
    network = dropout_network(Architecture(2, (8, 8), 1), XOR, Prior(), rate=0.5, steps=20)
    twice = torch.cat([XOR.inputs, XOR.inputs])
    drawn = dropout_outputs(network, twice, samples=6)
    torch.testing.assert_close(drawn[:, :40], drawn[:, 40:])
    parts = dropout_outputs(network, twice, samples=6, batch_size=17)
    torch.testing.assert_close(drawn, parts)
    assert drawn.std(0).min() > 0


def test_as_the_rate_vanishes_so_does_the_variance_and_training_is_map_training() -> None:
    architecture, line = Architecture(1, (4,), 1), make_problem("line", points=40)
    network = dropout_network(architecture, line, Prior(), rate=1e-9)
    drawn = dropout_outputs(network, line.inputs)
    assert drawn.var(0).max() < 1e-15
    weights = torch.nn.utils.parameters_to_vector(network.parameters())
    loss = negative_log_likelihood(network(line.inputs), line) + weights.square().sum() / 2
    fit = fit_map(architecture, line, Prior())
    assert loss < fit.negative_log_posterior + 0.5  # nats, summed over the data
    assert loss > fit.negative_log_posterior - 20  # another mode at most


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_seeds_reproduce_and_the_global_state_is_neither_read_nor_moved(rate: float) -> None:
    def run(seed: int = 0) -> torch.Tensor:
        network = dropout_network(
            Architecture(2, (8,), 1), XOR, Prior(), rate=rate, steps=30, seed=seed
        )
        assert not network.training
        assert not any(p.requires_grad for p in network.parameters())
        return dropout_outputs(network, XOR.inputs, samples=5, seed=seed)

    state = torch.get_rng_state()
    first = run()
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(1234)
    assert torch.equal(first, run())
    assert not torch.equal(first, run(seed=1))


def test_it_learns_xor() -> None:
    """Well below the entropy of a coin, log 2 a point, and nearly all points on the right side."""
    problem = make_problem("xor", points=100)
    network = dropout_network(Architecture(2, (32, 32), 1), problem, Prior(), steps=300)
    logits = network(problem.inputs)
    right = ((logits[:, 0] > 0) == (problem.targets == 1)).double().mean()
    assert right > 0.95
    assert negative_log_likelihood(logits, problem) / 100 < 0.3 * math.log(2)


@pytest.mark.bad_input
def test_bad_arguments_are_named() -> None:
    architecture = Architecture(2, (4,), 1)
    with pytest.raises(ValueError, match="members"):
        deep_ensemble(architecture, XOR, Prior(), members=1)
    with pytest.raises(ValueError, match="architecture: a linear model"):
        dropout_network(Architecture(2, (), 1), XOR, Prior())
    with pytest.raises(ValueError, match="architecture: 3 outputs"):
        dropout_network(Architecture(2, (4,), 3), XOR, Prior())
    for rate in (0.0, 1.0, -0.1, math.nan):
        with pytest.raises(ValueError, match="rate"):
            dropout_network(architecture, XOR, Prior(), rate=rate)
    with pytest.raises(ValueError, match="steps"):
        dropout_network(architecture, XOR, Prior(), steps=0)
    with pytest.raises(ValueError, match="network: it has no dropout"):
        dropout_outputs(architecture.build(), XOR.inputs)
