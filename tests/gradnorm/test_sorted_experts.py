"""Experts that get their tokens sorted by expert (Llama 4) equal the plain loop, by their rule."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from gnuq.gradnorm import UnsupportedModuleError, squared_gradient_norms
from gnuq.gradnorm.rules import find_rule
from tests import oracle

transformers = pytest.importorskip("transformers")
from transformers.models.llama4.modeling_llama4 import Llama4TextExperts, Llama4TextMoe  # noqa: E402

size = st.integers(1, 4)


class Routing(nn.Module):
    """A mixture of experts between two linear layers; it may go through it twice."""

    def __init__(self, config: object, times: int) -> None:
        super().__init__()
        self.first, self.moe, self.last = nn.Linear(3, 8), Llama4TextMoe(config), nn.Linear(8, 2)
        self.times = times

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x).tanh()
        for _ in range(self.times):
            h = h + self.moe(h)[0].view_as(h)
        return self.last(h).mean(1)


def routing(experts: int, slots: int, width: int, times: int) -> Routing:
    config = transformers.Llama4TextConfig(
        hidden_size=8, intermediate_size=width, intermediate_size_mlp=width,
        num_local_experts=experts, num_experts_per_tok=min(slots, experts),
        num_attention_heads=2, num_key_value_heads=1, num_hidden_layers=1, vocab_size=11,
    )  # fmt: skip
    model = Routing(config, times).double().eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    return model


@settings(max_examples=30, deadline=None)
@given(size, st.integers(2, 5), size, st.integers(1, 3), size, st.integers(1, 2))
def test_sorted_experts(
    batch: int, tokens: int, experts: int, slots: int, width: int, times: int
) -> None:
    model, x = routing(experts, slots, width, times), torch.randn(batch, tokens, 3).double()
    assert find_rule(model.moe.experts) is not None

    def objective(outputs: Tensor) -> Tensor:
        return outputs.softmax(-1)

    found = squared_gradient_norms(model, x, objective, flattened=True, verify=False).by_parameter
    for name, norm in oracle.squared_norms(model, x, objective).items():
        torch.testing.assert_close(found[name], norm, rtol=1e-5, atol=1e-9)  # a float32 router


def test_rows_that_are_no_multiple_of_examples_and_experts_are_refused() -> None:
    model = routing(4, 1, 3, 1).moe.experts
    assert isinstance(model, Llama4TextExperts)
    with pytest.raises(UnsupportedModuleError, match="other shapes"):
        squared_gradient_norms(
            model, torch.randn(3, 4, 8).double(),
            lambda y: y.reshape(3, -1).sum(1), verify=False,
        )  # fmt: skip
