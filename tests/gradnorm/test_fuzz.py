"""Random networks of all layer kinds, reuse, ties, side channels, hooks: right, or refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from gnuq.gradnorm import UnsupportedModuleError, squared_gradient_norms
from tests import oracle

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*", "ignore:There is a performance")

WIDTH = 4
Step = Callable[["Network", torch.Tensor], torch.Tensor]


@torch.jit.script
def scripted(x: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return torch.tanh(x * b)


class Scaled(nn.Linear):
    """A subclass that computes something else."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 1.5 * super().forward(x)


class Shift(nn.Module):
    """A parameter used by a plain operation, a scripted function or vmap."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way, self.b, self.spare = way, parameter(WIDTH), parameter(WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.way == "scripted":
            return scripted(x, self.b)
        if self.way == "vmap":
            return torch.vmap(lambda b: x + b)(self.b[None])[0]
        return x + self.b


class Positions(nn.Module):
    """Learned positions, added without a batch dimension or with one."""

    def __init__(self, *, batched: bool) -> None:
        super().__init__()
        self.batched, self.table = batched, nn.Embedding(8, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        at = torch.arange(x.shape[1])
        return x + self.table(at.expand(len(x), -1) if self.batched else at)


class Through(nn.Module):
    """A layer whose examples or features are turned before and after it."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x.mT).mT


class Keeps(nn.Module):
    """Hands a tensor derived from its weight to whoever comes later."""

    def __init__(self, *, used: bool) -> None:
        super().__init__()
        self.used, self.layer, self.w = used, nn.Linear(WIDTH, WIDTH), parameter(WIDTH)
        self.kept: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.kept[:] = [self.w.exp()]
        return self.layer(x)


class First(nn.Module):
    """The first of a layer's outputs."""

    def __init__(self, layer: nn.Module, copies: int = 1) -> None:
        super().__init__()
        self.layer, self.copies = layer, copies

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(*[x] * self.copies)[0]


class Temperature(nn.Module):
    """A parameter without dimensions."""

    def __init__(self) -> None:
        super().__init__()
        self.log = nn.Parameter(torch.randn(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.log.exp()


def parameter(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(*shape))


def batch_norm() -> nn.Module:
    layer = nn.BatchNorm1d(WIDTH)
    layer.running_mean = torch.randn(WIDTH)
    return Through(layer)


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Linear(WIDTH, WIDTH),
    "linear without bias": lambda: nn.Linear(WIDTH, WIDTH, bias=False),
    "layer norm": lambda: nn.LayerNorm(WIDTH),
    "rms norm": lambda: nn.RMSNorm(WIDTH),
    "group norm": lambda: Through(nn.GroupNorm(2, WIDTH)),
    "batch norm": batch_norm,
    "convolution": lambda: Through(nn.Conv1d(WIDTH, WIDTH, 3, padding=1)),
    "grouped convolution": lambda: Through(nn.Conv1d(WIDTH, WIDTH, 1, groups=2)),
    "transposed convolution": lambda: Through(nn.ConvTranspose1d(WIDTH, WIDTH, 3, padding=1)),
    "attention": lambda: First(nn.MultiheadAttention(WIDTH, 2, batch_first=True), 3),
    "encoder layer": lambda: nn.TransformerEncoderLayer(WIDTH, 2, 8, batch_first=True),
    "gru": lambda: First(nn.GRU(WIDTH, WIDTH, batch_first=True)),
    "lstm": lambda: First(nn.LSTM(WIDTH, WIDTH, batch_first=True)),
    "prelu": lambda: nn.PReLU(),
    "scalar": Temperature,
    "subclass": lambda: Scaled(WIDTH, WIDTH),
    "weight norm": lambda: parametrizations.weight_norm(nn.Linear(WIDTH, WIDTH)),
    "shift": lambda: Shift("plain"),
    "scripted shift": lambda: Shift("scripted"),
    "shift under vmap": lambda: Shift("vmap"),
    "positions": lambda: Positions(batched=True),
    "positions without a batch": lambda: Positions(batched=False),
    "keeps": lambda: Keeps(used=False),
    "side channel": lambda: Keeps(used=True),
}


def by_length(net: Network, x: torch.Tensor) -> torch.Tensor:
    order = x[:, 0, 0].argsort()
    return net.call(x[order])[order.argsort()]


def tied_outside(net: Network, x: torch.Tensor) -> torch.Tensor:
    owner = next((m for m in net.layers if isinstance(m, nn.Linear)), None)
    return x if owner is None else F.linear(x, owner.weight)


def read(net: Network, x: torch.Tensor) -> torch.Tensor:
    kept = [m for m in net.layers if isinstance(m, Keeps) and m.used and m.kept]
    return x * kept[-1].kept[0] if kept else x


def in_place(net: Network, x: torch.Tensor) -> torch.Tensor:
    x = 0.5 * x
    x *= 0.5
    x[:, :1] += 1
    return x


#: What happens between layers. `net.call` runs the next layer.
BETWEEN: dict[str, Step] = {
    "tanh": lambda net, x: x.tanh(),
    "residual": lambda net, x: x + net.call(x),
    "in place": in_place,
    "sorted inside": by_length,
    "turned twice": lambda net, x: net.call(x.flip(0)).flip(0),
    "centred over the batch": lambda net, x: x - 0.1 * x.mean(0),
    "neighbours": lambda net, x: x + 0.1 * x.roll(1, 0),
    "time first": lambda net, x: net.call(x.transpose(0, 1)).transpose(0, 1),
    "a weight outside its module": tied_outside,
    "read what was kept": read,
    "again": lambda net, x: net.layers[0](x),
    "detached": lambda net, x: x + x.detach().sin(),
    "half of the features": lambda net, x: torch.cat([net.call(x)[..., :2], x[..., 2:]], -1),
    "mask": lambda net, x: x.masked_fill(x > 2, 0.0),
    "index of features": lambda net, x: x[..., [1, 0, 3, 2]],
    "index of tokens": lambda net, x: x[:, torch.arange(x.shape[1]).flip(0)],
}
#: What is done to layers when all are there.
CHANGES: dict[str, Callable[[Network], object]] = {
    "tie": lambda net: net.tie(),
    "double an output": lambda net: net.hook(lambda m, i, o: o * 2),
    "replace a method": lambda net: net.patch(),
    "freeze": lambda net: net.head.requires_grad_(False),
}


class Network(nn.Module):
    """Layers and what stands between them, drawn by hypothesis."""

    def __init__(self, layers: list[str], between: list[str], changes: list[str]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(LAYERS[name]() for name in ["linear", *layers])
        self.between, self.head, self.at = between, nn.Linear(WIDTH, 3), 0
        for name in changes:
            CHANGES[name](self)

    def call(self, x: torch.Tensor) -> torch.Tensor:
        """The next layer; the last one again if there is none."""
        self.at += 1
        return self.layers[min(self.at, len(self.layers) - 1)](x)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.at = 0
        x = self.layers[0](x)
        for name in self.between:
            x = BETWEEN[name](self, x)
        while self.at < len(self.layers) - 1:
            x = self.call(x)
        return self.head(x.mean(1))

    def plain(self) -> list[nn.Linear]:
        """The linear layers of the stock kind."""
        return [m for m in self.modules() if type(m) is nn.Linear and "weight" in m._parameters]

    def tie(self) -> None:
        """Two layers share a weight."""
        square = [m for m in self.plain() if m.weight.shape == (WIDTH, WIDTH)]
        square[-1].weight = square[0].weight

    def hook(self, change: Callable) -> None:
        """Something changes what a layer returns."""
        self.plain()[0].register_forward_hook(change)

    def patch(self) -> None:
        """One layer's method is replaced."""
        layer = self.plain()[0]
        layer.forward = lambda x: F.linear(x, layer.weight.sin(), layer.bias)  # type: ignore[method-assign]


def drawn() -> st.SearchStrategy[tuple]:
    return st.tuples(
        st.lists(st.sampled_from(sorted(LAYERS)), max_size=4),
        st.lists(st.sampled_from(sorted(BETWEEN)), max_size=4),
        st.lists(st.sampled_from(sorted(CHANGES)), max_size=1),
        st.integers(1, 5),
        st.integers(1, 5),
        st.integers(0, 2**31),
    )


def outcome(network: tuple) -> str:
    """Whether the norms of a drawn network are right, or refused."""
    *parts, batch, tokens, seed = network
    torch.manual_seed(seed)
    model, x = Network(*parts).eval(), torch.randn(batch, tokens, WIDTH)
    frozen = [p.requires_grad for p in model.parameters()]
    try:
        found = squared_gradient_norms(model, x, lambda z: z.softmax(1)).total
    except UnsupportedModuleError:
        return "refused"
    truth = sum(oracle.squared_norms(model, x, lambda z: z.softmax(1)).values())
    torch.testing.assert_close(found, truth, rtol=1e-5, atol=1e-12)
    assert [p.requires_grad for p in model.parameters()] == frozen
    return "right"


def fuzz(examples: int) -> Counter[str]:
    seen: Counter[str] = Counter()

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(drawn())
    def run(network: tuple) -> None:
        seen[outcome(network)] += 1

    run()
    return seen


def test_a_random_network_is_right_or_refused() -> None:
    seen = fuzz(150)
    assert seen["right"] > 30
    assert seen["refused"] > 15


@pytest.mark.weekly
def test_many_random_networks_are_right_or_refused() -> None:
    seen = fuzz(5_000)
    print(dict(seen))
    assert seen["right"] > 1_000
    assert seen["refused"] > 1_000


@pytest.mark.parametrize("name", sorted(LAYERS))
def test_each_layer_on_its_own(name: str) -> None:
    """No kind is refused by itself: a refusal is never the easy way out."""
    for seed in range(3):
        assert outcome(([name], ["tanh"], [], 3, 4, seed)) == "right"


def test_a_kept_tensor_that_is_read_is_refused() -> None:
    assert outcome((["side channel"], ["residual", "read what was kept"], [], 3, 4, 0)) == "refused"
