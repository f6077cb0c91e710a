"""A language-model head that no rule covers: scored at the answers' positions like any other."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import gnuq
from gnuq.gradnorm.rules import find_rule
from tests import tiny


class Scaled(nn.Linear):
    """A head with a scale for each logit."""

    def __init__(self, like: nn.Linear) -> None:
        super().__init__(like.in_features, like.out_features, bias=False, dtype=like.weight.dtype)
        self.weight = like.weight
        self.scale = nn.Parameter(
            torch.linspace(0.5, 2, like.out_features, dtype=self.weight.dtype)
        )

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.scale


class Gated(nn.Module):
    """A head of two layers and a parameter of its own."""

    def __init__(self, like: nn.Linear) -> None:
        super().__init__()
        self.inner, self.gate = like, nn.Linear(like.in_features, 1).to(like.weight)
        self.shift = nn.Parameter(torch.linspace(-1, 1, like.in_features).to(like.weight))

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x + self.shift) * self.gate(x)


HEADS = {"a subclass": Scaled, "weight norm": parametrizations.weight_norm, "two layers": Gated}


@pytest.mark.parametrize("name", HEADS)
def test_a_head_without_a_rule(name: str) -> None:
    model, examples = tiny.model("llama"), tiny.EXAMPLES
    model.lm_head = HEADS[name](model.lm_head)
    model.eval()
    assert find_rule(model.lm_head) is None
    scores = gnuq.score(
        model, tiny.tokenizer(), [e.prompt for e in examples], [e.answer for e in examples]
    )
    for i, example in enumerate(examples):
        expected = float(sum(tiny.squared_norms(model, example).values()))
        assert scores.epistemic[i] == pytest.approx(expected, rel=1e-6)
