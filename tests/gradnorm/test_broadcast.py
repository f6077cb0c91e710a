"""Calls whose result serves all examples at once equal the plain loop, or are refused."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from gnuq.gradnorm import UnsupportedModuleError, broadcast, squared_gradient_norms
from tests import oracle


class Positions(nn.Module):
    """Embeddings of tokens and of positions, put together in one of several ways."""

    def __init__(self, together: str) -> None:
        super().__init__()
        self.together = together
        self.tokens, self.positions = nn.Embedding(9, 4), nn.Embedding(6, 4)
        self.shift, self.temper = nn.Linear(4, 4), Temper()
        self.last = nn.Linear(4, 3)

    def forward(self, ids: Tensor) -> Tensor:
        h, places = self.tokens(ids), torch.arange(ids.shape[1])
        if self.together == "one row":  # BERT, GPT-2
            h = h + self.shift(self.positions(places[None])).tanh()
        if self.together == "no row":
            h = h + self.positions(places)
        if self.together == "in place":
            row = self.positions(places[None])
            row += 1
            h = h + row.relu_()
        if self.together == "expanded":
            h = h + self.positions(places[None]).expand(len(ids), -1, -1)
        if self.together == "pairs":  # T5: (time, time, features)
            bias = self.positions((places[:, None] - places).abs())
            h = h + torch.einsum("bsd,tsd->btd", h, bias)
        if self.together == "a scalar":
            h = h / self.temper()
        if self.together == "twice":
            h = h + self.positions(places[None]) + self.positions(places[None] * 0)
        if self.together == "squeezed":
            h = h + self.positions(places[None]).squeeze(0)[None]
        if self.together == "repeated":
            h = h + self.positions(places[None]).repeat(len(ids), 1, 1)
        if self.together == "only the first":
            h = h + self.positions(places[None])[0]
        return self.last(h.tanh().mean(1))


class Temper(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor([0.3]))

    def forward(self) -> Tensor:
        return self.value.exp()


def objective(outputs: Tensor) -> Tensor:
    return outputs.softmax(1)


@pytest.mark.parametrize("batch", [1, 2, 5])
@pytest.mark.parametrize(
    "together", ["one row", "no row", "in place", "expanded", "pairs", "a scalar", "twice"]
)
def test_what_all_examples_share(together: str, batch: int) -> None:
    model, ids = Positions(together).double().eval(), torch.randint(0, 9, (batch, 6))
    found = squared_gradient_norms(model, ids, objective).by_parameter
    for name, expected in oracle.squared_norms(model, ids, objective).items():
        mine = found.get(name, torch.zeros_like(expected))
        torch.testing.assert_close(mine, expected, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize(
    ("together", "message"),
    [
        ("squeezed", "positions.*one row.*one example at a time"),
        ("repeated", "positions.*one row.*one example at a time"),
        ("only the first", "on its own|in its row"),
    ],
)
def test_what_tells_one_row_from_many_is_refused_in_batches(together: str, message: str) -> None:
    model, ids = Positions(together).double().eval(), torch.randint(0, 9, (3, 6))
    with pytest.raises(UnsupportedModuleError, match=message):
        squared_gradient_norms(model, ids, objective)
    found = squared_gradient_norms(model, ids, objective, batch_size=1, verify=False).total
    expected = sum(oracle.squared_norms(model, ids, objective).values())
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-14)


def test_large_weights_are_not_handed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broadcast, "LARGEST", 23)
    model, ids = Positions("no row").double().eval(), torch.randint(0, 9, (3, 6))
    with pytest.raises(UnsupportedModuleError, match="positions.*dimension 0"):
        squared_gradient_norms(model, ids, objective)


def test_as_many_positions_as_examples_are_told_by_the_example_alone() -> None:
    model, ids = Positions("no row").double().eval(), torch.randint(0, 9, (6, 6))
    with pytest.raises(UnsupportedModuleError, match="on its own|in its row"):
        squared_gradient_norms(model, ids, objective)
