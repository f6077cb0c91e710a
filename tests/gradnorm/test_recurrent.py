"""Recurrent layers equal the plain loop, by their rule and by the fallback."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import parametrizations, rnn

from gnuq.gradnorm import UnsupportedModuleError, squared_gradient_norms
from gnuq.gradnorm.rules import find_rule
from tests import oracle

KINDS = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}


class Reader(nn.Module):
    """A recurrent layer between two linear ones, which see all that it returns."""

    def __init__(self, layer: nn.RNNBase, *, given: bool = False, in_time: bool = False) -> None:
        super().__init__()
        self.first, self.layer = nn.Linear(4, layer.input_size), layer
        self.given, self.in_time = given, in_time
        width = layer.proj_size or layer.hidden_size
        self.last = nn.Linear(width * (1 + layer.bidirectional), 3)
        self.end = nn.Linear(width, 2)
        self.cell = nn.Linear(layer.hidden_size, 2) if layer.mode == "LSTM" else None

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        h = h if self.layer.batch_first else h.transpose(0, 1)
        out, state = self.layer(h, self.states(x)) if self.given else self.layer(h)
        end, cell = state if isinstance(state, tuple) else (state, state)
        out = out if self.layer.batch_first else out.transpose(0, 1)
        parts = [self.last(out).tanh().mean(1), self.end(end.transpose(0, 1)).mean(1)]
        if self.cell is not None:
            parts.append(self.cell(cell.transpose(0, 1)).sum(1))
        return torch.cat(parts, 1)

    def states(self, x: Tensor):
        count = self.layer.num_layers * (1 + self.layer.bidirectional)
        start = x[:, 0, :3].sin().expand(count, -1, -1)  # any that depend on the example
        found = [start[..., : self.layer.proj_size or 3].contiguous(), start.contiguous()]
        return tuple(found) if isinstance(self.layer, nn.LSTM) else found[0]


def truth(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """In float64, of a copy."""
    kept = {name: p.detach().clone() for name, p in model.named_parameters()}
    found = oracle.squared_norms(model.double(), x.double(), objective)
    model.to(x.dtype)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter.detach(), kept[name])
    return found


def objective(outputs: Tensor) -> Tensor:
    weights = torch.linspace(-1, 1, outputs.shape[1], dtype=outputs.dtype)
    return torch.stack([(outputs * (1 + weights)).tanh().sum(1), outputs.square().sum(1)], 1)


def agree(model: nn.Module, x: Tensor) -> None:
    model = model.to(x.dtype).eval()
    expected = truth(model, x)
    found = squared_gradient_norms(model, x, objective)
    rtol = 1e-9 if x.dtype == torch.float64 else 1e-4
    for name, norm in expected.items():
        scale = float(sum(v.sum() for v in expected.values()))
        torch.testing.assert_close(
            found.by_parameter[name].double(), norm, rtol=rtol, atol=rtol * 1e-2 * scale
        )
    torch.testing.assert_close(
        found.total.double(), sum(expected.values()), rtol=min(rtol, 1e-5), atol=0
    )


@st.composite
def layers(draw: st.DrawFn) -> nn.Module:
    """Any options of any kind."""
    kind = draw(st.sampled_from(sorted(KINDS)))
    options = {
        "num_layers": draw(st.integers(1, 3)),
        "bidirectional": draw(st.booleans()),
        "bias": draw(st.booleans()),
        "batch_first": draw(st.booleans()),
    }
    if kind == "lstm":
        options["proj_size"] = draw(st.sampled_from([0, 2]))
    if kind == "rnn":
        options["nonlinearity"] = draw(st.sampled_from(["tanh", "relu"]))
    layer = KINDS[kind](draw(st.integers(1, 4)), 3, **options)
    return Reader(layer, given=draw(st.booleans()))


@settings(max_examples=60, deadline=None)
@given(layers(), st.integers(1, 4), st.integers(1, 4), st.sampled_from([32, 64]))
@pytest.mark.filterwarnings("ignore:LSTM with projections")
def test_any_recurrent_layer(model: Reader, batch: int, length: int, bits: int) -> None:
    assert find_rule(model.layer) is not None
    dtype = torch.float32 if bits == 32 else torch.float64
    agree(model, torch.randn(batch, length, 4, dtype=dtype))


class Scaled(nn.LSTM):
    """No rule: a subclass may compute something else."""

    def forward(self, x: Tensor, states=None):
        out, rest = super().forward(x, states)
        return 2 * out, rest


class Last(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer, self.head = layer, nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x)[0][:, -1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", ["subclass", "weight norm", "GRU of a subclass"])
def test_a_recurrent_layer_without_a_rule(name: str, dtype: torch.dtype) -> None:
    """On a CPU, float32 goes through a kernel that has no backward pass for its weights."""
    layer: nn.Module = Scaled(4, 3, 2, batch_first=True, bidirectional=False)
    if name == "weight norm":
        layer = parametrizations.weight_norm(nn.LSTM(4, 3, batch_first=True), "weight_hh_l0")
    if name == "GRU of a subclass":
        layer = type("Mine", (nn.GRU,), {})(4, 3, batch_first=True)
    assert find_rule(layer) is None
    agree(Last(layer), torch.randn(5, 6, 4, dtype=dtype))


def test_a_layer_that_reads_twice_owes_the_cross_term() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.GRU(4, 4, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(self.layer(x)[0])[0].mean(1)

    agree(Twice(), torch.randn(4, 5, 4, dtype=torch.float64))


def test_packed_sequences_are_refused_with_the_remedy() -> None:
    class Packed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.LSTM(4, 3, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            packed = rnn.pack_padded_sequence(x, torch.tensor([5, 4, 2]), batch_first=True)
            return self.layer(packed)[1][0][-1]

    with pytest.raises(UnsupportedModuleError, match="packed.*padded"):
        squared_gradient_norms(Packed().eval(), torch.randn(3, 5, 4), objective)


def test_a_layer_that_takes_time_for_the_batch_is_refused() -> None:
    model = Reader(nn.GRU(4, 3, batch_first=False))
    model.layer.batch_first = True  # what it says, and what it gets
    model.forward = lambda x: model.last(  # type: ignore[method-assign]
        model.layer(model.first(x).transpose(0, 1))[0].transpose(0, 1)
    ).mean(1)
    with pytest.raises(
        UnsupportedModuleError, match="rows where there are 3 examples|not in its row"
    ):
        squared_gradient_norms(model.eval(), torch.randn(3, 5, 4), objective)
