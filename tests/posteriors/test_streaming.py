"""Streamed HMC: what is kept equals what the draws say, and a chain that was cut off goes on."""

import numpy as np
import pytest
import torch
from torch import nn

from gnuq.artefacts import Checkpoints, Origin
from gnuq.artefacts import files as artefact_files
from gnuq.gradnorm import gradient_factors
from gnuq.networks import Activated, Prior, fit_map
from gnuq.posteriors import hmc, streaming, transitions
from gnuq.posteriors.chains import Chain
from gnuq.posteriors.diagonals import diagonal_form
from gnuq.posteriors.moments import Moments, pooled
from gnuq.posteriors.settings import HMC
from gnuq.problems import make_grid, make_problem
from tests.posteriors.memory import Memory

PROBLEM = make_problem("rings-4", points=40)
GRID = make_grid(PROBLEM, resolution=4)
PRIOR = Prior(1.0)
SETTINGS = HMC(chains=2, tune=20, draws=20)


def network_of(architecture: Activated, seed: int = 0) -> nn.Sequential:
    return architecture.build(seed).requires_grad_(False)


def flat(network: nn.Module) -> np.ndarray:
    return nn.utils.parameters_to_vector(network.parameters()).numpy()


@pytest.fixture(scope="module")
def compiled() -> streaming.Sampler:
    architecture = Activated(2, (4, 4), 4)
    mode = flat(fit_map(architecture, PROBLEM, PRIOR).network)
    return streaming.sampler(architecture, PROBLEM, PRIOR, mode, GRID.points, SETTINGS)


def test_a_chain_that_was_cut_off_ends_as_one_that_was_not(compiled):
    whole = streaming.sample(compiled, batch=10, workers=1)
    kept = Memory(fails_after=3)
    with pytest.raises(KeyboardInterrupt):
        streaming.sample(compiled, batch=10, store=kept, workers=1)
    kept.left = None
    resumed = streaming.sample(compiled, batch=10, store=kept, workers=1)
    for a, b in zip(whole, resumed, strict=True):
        np.testing.assert_array_equal(a.position, b.position)
        np.testing.assert_array_equal(np.concatenate(a.log_odds), np.concatenate(b.log_odds))
        np.testing.assert_allclose(a.weights.squares, b.weights.squares, rtol=1e-6)


def test_chains_differ_and_start_dispersed(compiled):
    first, second = compiled.start(0).position, compiled.start(1).position
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.5
    assert 0.7 < first.std() < 1.3


@pytest.mark.parametrize("activation", ["tanh", "relu", "gelu"])
def test_predictions_and_linear_parts_are_those_of_torch(activation):
    architecture = Activated(2, (5, 3), 4, activation)
    mode, draw = network_of(architecture, 1), network_of(architecture, 2)
    compiled = streaming.sampler(architecture, PROBLEM, PRIOR, flat(mode), GRID.points, SETTINGS)
    assert compiled.scale.shape == (architecture.parameters,)
    predict = transitions.predictor(architecture, flat(mode).astype(np.float32), GRID.points)
    with hmc._single_precision():
        log_odds, linear = (np.asarray(x) for x in predict(flat(draw).astype(np.float32)))
    p = draw(GRID.points).softmax(1).numpy()
    np.testing.assert_allclose(1 / (1 + np.exp(-log_odds)), p, rtol=1e-4)
    gradients = gradient_factors(mode, GRID.points, lambda f: f.softmax(1)).jacobian()
    expected = (gradients @ torch.from_numpy(flat(draw))).reshape(-1, 4)
    np.testing.assert_allclose(linear, expected, rtol=2e-4, atol=1e-5)


def test_log_odds_keep_the_digits_of_a_vanishing_probability():
    architecture = Activated(2, (), 4)
    weights = np.zeros(12, np.float32)
    weights[8] = 30.0  # the first bias: three classes of probability e⁻³⁰
    predict = transitions.predictor(architecture, weights, GRID.points)
    with hmc._single_precision():
        log_odds, _ = predict(weights)
    assert float(log_odds[0, 1]) == pytest.approx(-30, abs=1e-3)
    assert float(log_odds[0, 0]) == pytest.approx(30 - np.log(3), abs=1e-3)


def test_the_model_is_that_of_the_validation():
    """Both log-densities of one weight vector agree: same prior, same likelihood."""
    architecture = Activated(2, (4, 4), 4)
    theirs = hmc.bayesian_network(architecture, PROBLEM, PRIOR).compile_logp()
    ours = transitions.bayesian_network(architecture, PROBLEM, PRIOR).compile_logp()
    weights = {"w": flat(network_of(architecture))}
    assert float(ours(weights)) == pytest.approx(float(theirs(weights)), rel=1e-6)


def test_moments_of_batches_are_those_of_the_whole():
    values = np.random.default_rng(0).normal(1e3, 1.0, size=(37, 5))
    parts = [Moments(), Moments()]
    parts[0].add(values[:10])
    parts[0].add(values[10:21])
    parts[1].add(values[21:])
    total = pooled(parts)
    np.testing.assert_allclose(total.mean, values.mean(0), rtol=1e-14)
    np.testing.assert_allclose(total.variance, values.var(0), rtol=1e-10)
    again = Moments.unpacked({f"x.{k}": v for k, v in total.packed().items()}, "x.")
    np.testing.assert_array_equal(again.variance, total.variance)


def test_diagonal_form_equals_the_gradients_multiplied_out():
    network = network_of(Activated(2, (5, 3), 4))
    gradients = gradient_factors(network, GRID.points, lambda f: f.softmax(1))
    rows = gradients.jacobian()
    diagonal = torch.rand(rows.shape[1], generator=torch.Generator().manual_seed(0)).double()
    expected = (rows.square() @ diagonal).reshape(-1, 4)
    torch.testing.assert_close(diagonal_form(gradients, diagonal), expected)
    with pytest.raises(ValueError, match="diagonal: 3 entries"):
        diagonal_form(gradients, diagonal[:3])


def test_bad_settings_are_refused(compiled):
    with pytest.raises(ValueError, match="batch: 15"):
        streaming.sample(compiled, batch=15)
    binary, one = make_problem("xor", points=40), Activated(2, (4,), 1)
    with pytest.raises(ValueError, match="several classes"):
        streaming.sampler(one, binary, PRIOR, np.zeros(17), GRID.points, SETTINGS)
    with pytest.raises(ValueError, match="activation: 'sine'"):
        Activated(2, (4,), 4, "sine")


def test_checkpoints_keep_a_chain_whole(tmp_path, monkeypatch, compiled):
    monkeypatch.setattr(artefact_files, "DATA", tmp_path)
    store = Checkpoints("scaling/x", Origin(code="c"))
    assert store.load("chain-0") is None
    done = streaming.sample(compiled, batch=20, store=store)
    kept = Chain.unpacked(store.load("chain-1"))
    np.testing.assert_array_equal(kept.position, done[1].position)
    assert streaming.report([kept, kept], compiled) == streaming.report([done[1]] * 2, compiled)
    (store.folder / "chain-0.npz").write_bytes(b"torn")
    with pytest.raises(artefact_files.ArtefactError, match="torn"):
        store.load("chain-0")
    store.discard()
    assert not list(tmp_path.iterdir())
