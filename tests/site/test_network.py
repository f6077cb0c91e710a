"""The networks of the live figures are torch's, and their gradient norms gnuq's, in float64."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from playwright.sync_api import Page
from scipy.stats import spearmanr
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from gnuq.estimators import epistemic, predictions_from
from gnuq.networks import ACTIVATIONS, Activated

DECAY = 0.02
POINTS = 70  # more than one block of the script, and not a multiple of its tiles


@dataclass(frozen=True)
class Case:
    """One network, with parameters and inputs that both sides get."""

    widths: tuple[int, ...]
    outputs: int
    activation: str

    @property
    def network(self) -> nn.Sequential:
        network = Activated(2, self.widths, self.outputs, self.activation).build()
        torch.manual_seed(3)
        size = sum(p.numel() for p in network.parameters())
        vector_to_parameters(0.7 * torch.randn(size), network.parameters())
        return network

    @property
    def inputs(self) -> Tensor:
        return 2 * torch.randn(POINTS, 2, generator=torch.Generator().manual_seed(4))

    @property
    def labels(self) -> Tensor:
        return torch.arange(POINTS) % max(self.outputs, 2)

    @property
    def link(self) -> Any:
        return "sigmoid" if self.outputs == 1 else "softmax"

    def loss(self, network: nn.Sequential) -> Tensor:
        out = network(self.inputs)
        if self.outputs == 1:
            entropy = F.binary_cross_entropy_with_logits(out[:, 0], self.labels.to(out.dtype))
        else:
            entropy = F.cross_entropy(out, self.labels)
        return entropy + DECAY / 2 * parameters_to_vector(network.parameters()).square().sum()


CASES = [
    Case(widths, outputs, activation)
    for activation, outputs, widths in product(ACTIVATIONS, (1, 2, 3), ((5, 4),))
] + [Case((), 1, "tanh"), Case((), 3, "tanh"), Case((16,), 1, "gelu"), Case((4, 3, 5), 3, "tanh")]


def in_browser(page: Page, case: Case, expression: str) -> Any:
    """Evaluate an expression of `N` (the module), `s`, `theta`, `x` and `data`."""
    theta = parameters_to_vector(case.network.parameters()).tolist()
    shape = {"widths": case.widths, "outputs": case.outputs, "activation": case.activation}
    return page.evaluate(
        f"""async ([shape, theta, x, labels]) => {{
            const N = await import("/live/network.js");
            const plain = (v) => (ArrayBuffer.isView(v) ? [...v] : v);
            const s = N.spec(shape);
            theta = Float64Array.from(theta);
            x = Float64Array.from(x);
            const data = {{ x, labels: Uint8Array.from(labels) }};
            return [{expression}].map(plain);
        }}""",
        [shape, theta, case.inputs.flatten().tolist(), case.labels.tolist()],
    )


def close(found: list[float], expected: Tensor) -> None:
    """To nine digits; a number that cancels to nothing may keep a rounding error of its terms."""
    reference = expected.detach().flatten().numpy()
    np.testing.assert_allclose(found, reference, rtol=1e-9, atol=1e-15 * np.abs(reference).max())


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_network_in_the_browser_is_the_same_network_in_torch(live_page: Page, case: Case) -> None:
    network = case.network
    probabilities, norms, alongside, gradients, value, gradient, size = in_browser(
        live_page,
        case,
        """N.probabilities(s, theta, x),
        ...(() => { const p = new Float64Array(s.classes * x.length / 2);
                    return [N.squaredNorms(s, theta, x, undefined, p), p]; })(),
        N.gradients(s, theta, x), N.loss(s, theta, data, 0.02).value,
        N.loss(s, theta, data, 0.02).gradient, s.parameters""",
    )
    predicted = predictions_from(network(case.inputs), case.link)
    rows = [
        parameters_to_vector(torch.autograd.grad(p, list(network.parameters()), retain_graph=True))
        for p in predicted.flatten()
    ]
    assert size == sum(p.numel() for p in network.parameters())
    close(probabilities, predicted)
    close(alongside, predicted)
    close(norms, epistemic(network, case.inputs, link=case.link).total)
    close(gradients, torch.stack(rows))
    loss = case.loss(network)
    close([value], loss)
    close(gradient, parameters_to_vector(torch.autograd.grad(loss, list(network.parameters()))))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_hold_from_zero_to_saturation(live_page: Page, activation: str) -> None:
    """One unit of weight 1 shows its activation: the logit is the unit, with weight 1 again."""
    z = torch.cat([torch.linspace(-8, 8, 401), torch.tensor([1e-9, -1e-9, 1e-4, -1e-4, 30, -30])])
    found = live_page.evaluate(
        """async ([activation, z]) => {
            const N = await import("/live/network.js");
            const s = N.spec({ inputs: 1, widths: [1], outputs: 1, activation });
            const theta = Float64Array.of(1, 0, 1, 0);
            const p = N.probabilities(s, theta, Float64Array.from(z));
            return [...p].map((value) => Math.log(value / (1 - value)));
        }""",
        [activation, z.tolist()],
    )
    expected = ACTIVATIONS[activation]()(z).numpy()
    # the detour over the probability costs the digits that 1 − p has lost
    np.testing.assert_allclose(found[:401], expected[:401], rtol=1e-12, atol=2e-12)
    np.testing.assert_allclose(found[401:405], expected[401:405], atol=1e-15)
    np.testing.assert_allclose(found[405:], expected[405:], rtol=1e-3, atol=1e-15)


def test_far_from_the_boundary_norms_are_small_but_not_lost(live_page: Page) -> None:
    found = live_page.evaluate(
        """async () => {
            const N = await import("/live/network.js");
            const s = N.spec({ inputs: 1, widths: [], outputs: 1 });
            return [-300, -40, 40, 300].map((x) =>
                N.squaredNorms(s, Float64Array.of(1, 0), Float64Array.of(x))[0]);
        }"""
    )
    x = np.array([-300.0, -40, 40, 300])
    np.testing.assert_allclose(found, np.exp(-2 * np.abs(x)) * (x**2 + 1), rtol=1e-9)


@pytest.mark.parametrize("outputs", [1, 3])
def test_training_ends_where_torch_finds_no_slope(live_page: Page, outputs: int) -> None:
    case = Case((8,), outputs, "tanh")
    theta, told, norm, ended, again = in_browser(
        live_page,
        case,
        """...(() => {
            const trainer = new N.Trainer(s, theta);
            trainer.advance(data, { decay: 0.02, steps: 5000 });
            const first = [trainer.theta, trainer.loss, trainer.gradientNorm, trainer.converged];
            const kept = Float64Array.from(trainer.theta);
            trainer.advance(data, { decay: 0.02, steps: 50 });
            return [...first, kept.every((value, at) => value === trainer.theta[at])];
        })()""",
    )
    network = case.network
    start = case.loss(network).item()
    vector_to_parameters(torch.tensor(theta), network.parameters())
    loss = case.loss(network)
    slope = parameters_to_vector(torch.autograd.grad(loss, list(network.parameters()))).norm()
    assert ended
    assert again, "a network that has converged must stay as it is"
    assert slope.item() == pytest.approx(norm, rel=1e-6)
    assert slope.item() < 3e-4
    assert loss.item() == pytest.approx(told, rel=1e-9)
    assert loss.item() < start


def test_starts_are_normal_with_variance_one_over_fan_in(live_page: Page) -> None:
    weights, biases, other = live_page.evaluate(
        """async () => {
            const N = await import("/live/network.js");
            const s = N.spec({ inputs: 50, widths: [400], outputs: 1 });
            const theta = N.initial(s, 1);
            return [[...theta.slice(0, 20000)], [...theta.slice(20000, 20400)],
                    [...N.initial(s, 2).slice(0, 20000)]];
        }"""
    )
    count = len(weights)
    scaled = np.array(weights) * 50**0.5
    assert not np.any(biases)
    assert abs(scaled.mean()) < 4 / count**0.5
    assert abs(scaled.var() - 1) < 4 * (2 / count) ** 0.5
    assert abs((scaled**4).mean() - 3) < 4 * (96 / count) ** 0.5
    assert abs(np.corrcoef(weights, other)[0, 1]) < 4 / count**0.5


def test_correlations_are_those_of_numpy_and_scipy(live_page: Page) -> None:
    rng = np.random.default_rng(0)
    a = rng.integers(0, 9, 60).astype(float)  # with ties
    b = a + 3 * rng.normal(size=60)
    pearson, spearman, flat = live_page.evaluate(
        """async ([a, b]) => {
            const N = await import("/live/network.js");
            return [N.correlation(a, b), N.rankCorrelation(a, b),
                    String(N.correlation(a, a.map(() => 1)))];
        }""",
        [a.tolist(), b.tolist()],
    )
    assert pearson == pytest.approx(np.corrcoef(a, b)[0, 1], rel=1e-12)
    assert spearman == pytest.approx(spearmanr(a, b).statistic, rel=1e-12)
    assert flat == "NaN"


@pytest.mark.parametrize(
    ("choice", "named"),
    [({"activation": "step"}, "tanh, relu, gelu"), ({"widths": [0]}, "positive whole numbers")],
)
def test_errors_name_the_remedy(live_page: Page, choice: dict[str, Any], named: str) -> None:
    message = live_page.evaluate(
        """async (choice) => {
            const N = await import("/live/network.js");
            try { N.spec(choice); } catch (error) { return error.message; }
        }""",
        choice,
    )
    assert named in message
