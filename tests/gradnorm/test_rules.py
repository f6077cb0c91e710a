"""Every rule equals the plain loop, over generated shapes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from gnuq.gradnorm import squared_gradient_norms
from gnuq.gradnorm.rules import RULES, find_rule
from tests import oracle

size = st.integers(1, 6)
batch = st.integers(1, 5)
positions = st.lists(st.integers(1, 9), max_size=2)


def agree(model: nn.Module, inputs: torch.Tensor) -> None:
    """The norms of a random smooth objective equal the loop's, parameter by parameter."""

    def objective(outputs: torch.Tensor) -> torch.Tensor:
        weights = torch.linspace(-1, 1, outputs[0].numel()).reshape(outputs.shape[1:])
        one = torch.tanh(outputs * (1 + weights)).flatten(1).sum(1)
        return torch.stack([one, outputs.square().flatten(1).sum(1)], 1)

    found = squared_gradient_norms(model, inputs, objective).by_parameter
    for name, expected in oracle.squared_norms(model, inputs, objective).items():
        torch.testing.assert_close(found[name], expected, rtol=1e-10, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(batch, positions, size, size, st.booleans())
def test_linear(b: int, t: list[int], fan_in: int, fan_out: int, bias: bool) -> None:
    agree(nn.Linear(fan_in, fan_out, bias=bias), torch.randn(b, *t, fan_in))


@settings(max_examples=40, deadline=None)
@given(batch, positions, size, size, st.one_of(st.none(), st.integers(0, 0)))
def test_embedding(b: int, t: list[int], rows: int, width: int, padding: int | None) -> None:
    agree(nn.Embedding(rows, width, padding_idx=padding), torch.randint(0, rows, (b, *t)))


@settings(max_examples=40, deadline=None)
@given(batch, positions, st.lists(size, min_size=1, max_size=2), st.booleans())
def test_layer_norm(b: int, t: list[int], shape: list[int], bias: bool) -> None:
    model = nn.LayerNorm(shape, bias=bias)
    nn.init.normal_(model.weight)
    agree(model, torch.randn(b, *t, *shape))


@settings(max_examples=40, deadline=None)
@given(batch, positions, st.lists(size, min_size=1, max_size=2))
def test_rms_norm(b: int, t: list[int], shape: list[int]) -> None:
    model = nn.RMSNorm(shape)
    nn.init.normal_(model.weight)
    agree(model, torch.randn(b, *t, *shape))


@settings(max_examples=20, deadline=None)
@given(batch, st.integers(1, 3), st.integers(1, 6))
def test_a_layer_without_a_rule_by_the_fallback(b: int, channels: int, width: int) -> None:
    model = nn.PReLU(channels)
    assert find_rule(model) is None
    agree(model, torch.randn(b, channels, width))


@pytest.mark.parametrize("kind", [nn.Linear, nn.Embedding, nn.LayerNorm, nn.RMSNorm])
def test_a_rule_covers_exactly_its_layers_parameters(kind: type[nn.Module]) -> None:
    built = {nn.Linear: (2, 2), nn.Embedding: (2, 2)}.get(kind, (2,))
    assert set(dict(kind(*built).named_parameters())) == RULES[kind].parameters


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_accumulates_in_float32(dtype: torch.dtype) -> None:
    model = nn.Linear(64, 1).to(dtype)
    inputs = (torch.randn(3, 64) * 1e-2).to(dtype)
    norms = squared_gradient_norms(model, inputs, lambda y: y[:, 0] * 1e-3)
    delta = torch.tensor(1e-3, dtype=dtype).double()
    expected = delta**2 * (inputs.double().square().sum(1) + 1)
    assert norms.total.dtype == torch.float32
    torch.testing.assert_close(norms.total.double(), expected, rtol=1e-5, atol=0)
