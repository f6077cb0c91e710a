"""What `verify` sees: unseen uses, hooks and patches, moved rows, weights that change meanwhile."""

from __future__ import annotations

import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, parametrize

from gnuq.estimators import epistemic
from gnuq.gradnorm import UnsupportedModuleError, gradient_factors, squared_gradient_norms
from gnuq.gradnorm.separation import Probe
from tests import oracle

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*", "ignore:There is a performance")


def probabilities(outputs: torch.Tensor) -> torch.Tensor:
    return outputs.softmax(-1)


def right(model: nn.Module, x: torch.Tensor, objective=probabilities, **options) -> None:
    """The norms are those of the slow loop."""
    truth = sum(oracle.squared_norms(model, x, objective).values())
    found = squared_gradient_norms(model, x, objective, **options).total
    torch.testing.assert_close(found.reshape(truth.shape), truth, rtol=1e-9, atol=1e-14)


def refused(model: nn.Module, x: torch.Tensor, match: str, objective=probabilities) -> None:
    for run in (squared_gradient_norms, gradient_factors):
        with pytest.raises(UnsupportedModuleError, match=match):
            run(model, x, objective)


@torch.jit.script
def bias_gelu(x: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.gelu(x + b)


@torch.compile(backend="eager")
def gate(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    return (x * w).tanh()


class Own(nn.Module):
    """Parameters, and a function of the module and its input."""

    def __init__(self, forward, **parts: torch.Tensor | nn.Module) -> None:
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part if isinstance(part, nn.Module) else nn.Parameter(part))
        self.run = forward

    def forward(self, x: torch.Tensor):
        return self.run(self, x)


def before(module: nn.Module) -> nn.Module:
    """Between two linear layers, so that δ has to pass through it."""
    return nn.Sequential(nn.Linear(6, 6), module, nn.Linear(6, 3)).eval()


UNSEEN = {
    "a scripted function": lambda: Own(
        lambda m, x: bias_gelu(x @ m.w, m.b), w=torch.randn(6, 6), b=torch.randn(6)
    ),
    "vmap over a parameter": lambda: Own(
        lambda m, x: torch.vmap(lambda w: x @ w)(m.w).mean(0) + m.b,
        w=torch.randn(5, 6, 6),
        b=torch.randn(6),
    ),
    "only a scripted function": lambda: Own(lambda m, x: bias_gelu(x, m.b), b=torch.randn(6)),
    "a compiled function": lambda: Own(lambda m, x: gate(x, m.w), w=torch.randn(6)),
}


@pytest.mark.parametrize("name", UNSEEN)
@pytest.mark.parametrize("verify", [True, False])
def test_a_use_that_no_hook_sees_is_accounted_for_parameter_by_parameter(name, verify) -> None:
    right(before(UNSEEN[name]()), torch.randn(4, 6), verify=verify)


class Elsewhere(nn.Module):
    """A tensor derived from a parameter leaves its module by a way that is no output."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way, self.w, self.first = way, nn.Parameter(torch.randn(6)), nn.Linear(6, 6)
        self.kept: dict[str, torch.Tensor] = {}

    def forward(self, x: torch.Tensor):
        h = self.first(x)
        scale = self.w.exp()
        match self.way:
            case "attribute":
                self.scale = scale
            case "cache":
                self.kept["scale"] = scale
            case "dataclass":
                return dataclasses.make_dataclass("Out", ["h", "scale"])(h, scale)
        return h


class Reader(nn.Module):
    def __init__(self, way: str) -> None:
        super().__init__()
        self.source, self.last = Elsewhere(way), nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.source(x)
        match self.source.way:
            case "attribute":
                h = h * self.source.scale
            case "cache":
                h = h * self.source.kept["scale"]
            case "dataclass":
                h = h.h * h.scale
        return self.last(h.tanh())


@pytest.mark.parametrize("way", ["attribute", "cache", "dataclass"])
def test_a_derived_tensor_that_leaves_its_module_is_refused(way: str) -> None:
    refused(Reader(way).eval(), torch.randn(4, 6), "source.w|can be seen")


def test_a_parameter_used_in_another_thread_is_refused() -> None:
    def forward(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
        found = []
        worker = threading.Thread(target=lambda: found.append(module.inner(x)))
        worker.start()
        worker.join()
        return x + found[0]

    model = before(Own(forward, inner=nn.Linear(6, 6)))
    refused(model, torch.randn(4, 6), "1.inner.weight|in-place|outside")


def test_a_cached_parametrisation_is_right_or_refused() -> None:
    shared = parametrizations.weight_norm(nn.Linear(6, 6))
    model = nn.Sequential(shared, nn.Tanh(), shared, nn.Linear(6, 3)).eval()
    x = torch.randn(4, 6)
    right(model, x)
    with parametrize.cached(), pytest.raises(UnsupportedModuleError):
        squared_gradient_norms(model, x, probabilities)


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 3)).eval()


@pytest.mark.parametrize("verify", [True, False])
def test_what_a_hook_or_a_patch_makes_of_a_layer_counts(verify: bool, monkeypatch) -> None:
    x = torch.randn(3, 6)
    double = lambda m, i, o: o * 2 if isinstance(m, nn.Linear) else None  # noqa: E731
    handle = nn.modules.module.register_module_forward_hook(double)
    try:
        right(mlp(), x, verify=verify)
    finally:
        handle.remove()
    model = mlp()
    model[0].register_forward_hook(lambda m, i, o: o * 3)
    right(model, x, verify=verify)
    model = mlp()
    layer = model[0]
    layer.forward = lambda x: F.linear(x, layer.weight * 2, layer.bias)
    layer._hf_hook = object()  # as accelerate leaves it, around the patched method
    right(model, x, verify=verify)
    monkeypatch.setattr(nn.Linear, "forward", lambda m, x: F.linear(x, m.weight.square(), m.bias))
    right(mlp(), x, verify=verify)


class SortedInside(nn.Module):
    """Embeds, sorts by length, runs, unsorts: what packed sequences used to need."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.mix = nn.Embedding(20, 8, padding_idx=0), nn.Linear(8, 6)
        self.head = nn.Linear(6, 3)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        lengths = (ids != 0).sum(1)
        order = lengths.argsort(descending=True, stable=True)
        h = self.mix(self.embed(ids)[order]).tanh().sum(1)
        return self.head(h[order.argsort()])


def test_rows_that_are_permuted_and_put_back_are_never_wrong() -> None:
    torch.manual_seed(0)
    model, seen = SortedInside().eval(), {"right": 0, "refused": 0}
    for size in (2, 3, 5):
        for _ in range(20):
            keep = torch.arange(7) < torch.randint(1, 8, (size, 1))
            ids = torch.randint(1, 20, (size, 7)) * keep
            lengths = keep.sum(1)
            moved = not torch.equal(lengths, lengths.sort(descending=True).values)
            try:
                right(model, ids)
                seen["right"] += 1
                assert not moved
            except UnsupportedModuleError:
                seen["refused"] += 1
                assert moved
    assert seen["right"] > 3
    assert seen["refused"] > 20


@pytest.mark.parametrize("size", [2, 5, 34])
def test_every_swap_of_two_rows_is_seen(size: int) -> None:
    """Signed powers of two without repetition: no two rows have the same factor."""
    import random

    for seed in range(20):
        factors = Probe(size, random.Random(seed)).factors
        assert len(set(factors.tolist())) == size


def test_mixing_in_a_later_batch_is_seen() -> None:
    def forward(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
        h = module.first(x)
        if bool((x[:, 0] > 0).any()):
            h = h + 0.1 * h.mean(0)
        return h

    model = before(Own(forward, first=nn.Linear(6, 6)))
    x = torch.randn(8, 6).abs()
    x[:4] = -x[:4]
    for start in (x[:4], x[:4, [0, 1, 2, 3, 4, 5]]):
        right(model, start)
    with pytest.raises(UnsupportedModuleError, match="row|on its own"):
        squared_gradient_norms(model, x, probabilities, batch_size=4)


def test_behaviour_that_depends_on_the_batch_is_seen() -> None:
    """The scale switches with the largest entry of the batch, without a gradient."""

    def forward(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
        return module.first(x) * (2.0 if float(x.max()) > 5 else 1.0)

    model, x = Own(forward, first=nn.Linear(6, 3)).eval(), torch.randn(6, 6)
    right(model, x)
    x[0, 0] = 6.0
    with pytest.raises(UnsupportedModuleError, match="on its own"):
        # All rows but the first are wrong, and one of each part is drawn at random.
        squared_gradient_norms(model, x.repeat(20, 1), probabilities, batch_size=6)


def test_first_and_never() -> None:
    def forward(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
        return module.first(x) * (1 + (x.mean() - 5).clamp_min(0))

    model, x = Own(forward, first=nn.Linear(6, 3)).eval(), torch.rand(8, 6)
    x[4:] += 6
    squared_gradient_norms(model, x, probabilities, batch_size=4, verify="first")
    squared_gradient_norms(model, x.flip(0), probabilities, batch_size=4, verify=False)
    with pytest.raises(UnsupportedModuleError):
        squared_gradient_norms(model, x.flip(0), probabilities, batch_size=4, verify="first")


@pytest.mark.bad_input
def test_an_unknown_verification_is_named() -> None:
    with pytest.raises(ValueError, match="verify"):
        squared_gradient_norms(mlp(), torch.randn(2, 6), probabilities, verify="last")


def test_weights_that_share_memory_are_refused() -> None:
    model = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6)).eval()
    model[2].weight = nn.Parameter(model[0].weight.data)
    refused(model, torch.randn(4, 6), "share memory")
    model[2].weight = model[0].weight
    right(model, torch.randn(4, 6))


def test_weights_that_lie_side_by_side_in_one_storage_are_not() -> None:
    flat, model = torch.randn(72), nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6)).eval()
    for layer, part in zip(model, flat.split(36), strict=True):
        layer.weight = nn.Parameter(part.view(6, 6))
    right(model, torch.randn(4, 6))


@pytest.mark.parametrize("verify", [True, False])
def test_weights_streamed_in_before_each_call_are_refused(verify: bool) -> None:
    """A layer that is used twice, with weights that are written into it before each use."""
    layer, store = nn.Linear(6, 6), [torch.randn(6, 6), torch.randn(6, 6)]
    home = layer.weight.data

    def forward(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
        for weight in store:
            home.copy_(weight)
            x = module.layer(x).tanh()
        return x

    model = before(Own(forward, layer=layer))
    with pytest.raises(UnsupportedModuleError, match="weights changed"):
        squared_gradient_norms(model, torch.randn(4, 6), probabilities, verify=verify)


def test_the_judge_leaves_no_gradient_and_no_hook_behind() -> None:
    model = mlp()
    model[0].weight.requires_grad_(False)
    model[2].weight.grad = torch.ones_like(model[2].weight)
    called = []
    model[2].bias.register_post_accumulate_grad_hook(lambda p: called.append(p))
    squared_gradient_norms(model, torch.randn(3, 6), probabilities)
    assert not called  # an optimiser that steps in the backward pass must not
    assert torch.equal(model[2].weight.grad, torch.ones_like(model[2].weight))
    assert [p.requires_grad for p in model.parameters()] == [False, True, True, True]
    assert all(not p._backward_hooks for p in model.parameters())
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in model.modules())


@pytest.mark.parametrize("build", [nn.LayerNorm, nn.RMSNorm])
def test_a_gradient_that_is_all_rounding_is_no_fault(build) -> None:
    """Over one feature a norm layer's output is 0 or ±1 but for rounding, which it multiplies."""
    for seed in range(40):
        torch.manual_seed(seed)
        model = build(1).double()
        found = squared_gradient_norms(
            model, 3 * torch.randn(2, 1, 1, dtype=torch.float64), lambda y: 3 * y.flatten(1).sum(1)
        )
        assert torch.isfinite(found.total).all()


def test_a_norm_that_is_no_normal_number_is_named_as_such() -> None:
    """p of a class 49 nats behind: the squares of its gradient's entries have lost their digits."""
    model = nn.Linear(7, 3).float()
    nn.init.zeros_(model.weight)
    x = torch.linspace(0.3, 2.3, 7).float()[None]
    refused = 0
    for behind in torch.linspace(47.0, 51.0, 40):
        model.bias.data = torch.tensor([0.0, -5.0, -float(behind)]).float()
        try:
            gradient_factors(model, x, lambda y: y.softmax(1))
        except UnsupportedModuleError as error:
            assert "too small for the type" in str(error)  # noqa: PT017
            refused += 1
    assert refused
    found = epistemic(model, x, link="softmax")
    exact = epistemic(model.double(), x.double(), link="softmax")
    torch.testing.assert_close(found.total.double(), exact.total, rtol=1e-5, atol=0.0)


def test_a_thread_that_serves_the_model_meanwhile_sees_it_untouched() -> None:
    model, x = mlp(), torch.randn(3, 6)
    expected, wrong, stop = model(x).detach(), [], threading.Event()

    def serve() -> None:
        while not stop.is_set():
            with torch.no_grad():
                if not torch.equal(model(x), expected):
                    wrong.append("other outputs")

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        for _ in range(30):
            right(model, x)
    finally:
        stop.set()
        thread.join()
    assert not wrong


def test_two_threads_on_one_model_take_turns() -> None:
    model, x = mlp(), torch.randn(8, 6)
    expected = squared_gradient_norms(model, x, probabilities).total
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(squared_gradient_norms, model, x, probabilities) for _ in range(12)]
        for job in jobs:
            torch.testing.assert_close(job.result().total, expected)


def test_the_attention_fast_path_is_left_alone() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    enabled = torch.backends.mha.get_fastpath_enabled()
    right(layer, torch.randn(3, 5, 8), lambda y: y.tanh().flatten(1).sum(1))
    assert torch.backends.mha.get_fastpath_enabled() == enabled


REFUSED = {
    "a lazy layer": (lambda: nn.LazyLinear(3), torch.randn(4, 6), "no shape yet"),
    "no width": (
        lambda: nn.Sequential(nn.Linear(6, 0), nn.Linear(0, 3)), torch.randn(4, 6), "no entries"),
    "nested": (
        mlp, torch.nested.nested_tensor([torch.randn(3, 6), torch.randn(5, 6)],
                                        layout=torch.jagged), "inputs.*nested"),
    "sparse": (mlp, torch.randn(4, 6).to_sparse(), "inputs.*sparse"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*nested tensor")
@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.bad_input
def test_unclear_input_is_refused_in_one_sentence(name: str) -> None:
    build, x, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        squared_gradient_norms(build(), x, probabilities)


def test_a_surrounding_block_that_changes_the_pass_is_refused() -> None:
    x = torch.randn(4, 6)
    with torch.inference_mode(), pytest.raises(ValueError, match="inference_mode.*outside"):
        squared_gradient_norms(mlp(), x, probabilities)
    with torch.autocast("cpu"), pytest.raises(ValueError, match="autocast.*outside"):
        squared_gradient_norms(mlp(), x, probabilities)
    model = mlp()
    expected = squared_gradient_norms(model, x, probabilities).total
    with torch.no_grad():
        torch.testing.assert_close(squared_gradient_norms(model, x, probabilities).total, expected)


def test_a_graph_whose_nodes_are_the_batch_is_refused() -> None:
    class Graph(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(6, 3)

        def forward(self, x: torch.Tensor, adjacency: torch.Tensor) -> torch.Tensor:
            return adjacency @ self.layer(x)

    inputs = (torch.randn(4, 6), torch.ones(4, 4) / 4)
    with pytest.raises(UnsupportedModuleError, match="depends on others"):
        squared_gradient_norms(Graph().eval(), inputs, probabilities)


class Inner(nn.Module):
    """Has no rule, and is given a table beside the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(6))

    def forward(self, h: torch.Tensor, table: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return (h * self.w * mask) @ table.T


class Tables(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.inner, self.table = nn.Linear(6, 6), Inner(), torch.randn(4, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(self.layer(x), self.table, (x > 0).double())


@pytest.mark.parametrize("batch", [3, 4, 5])
def test_a_table_with_as_many_rows_as_examples_is_no_batch(batch: int) -> None:
    right(Tables().eval(), torch.randn(batch, 6))


def test_an_input_with_as_many_rows_as_examples_by_accident_is_refused_by_name() -> None:
    class Prototypes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(6, 6)

        def forward(self, x: torch.Tensor, prototypes: torch.Tensor) -> torch.Tensor:
            return self.layer(x) @ prototypes.T

    model, x, table = Prototypes().eval(), torch.randn(4, 6), torch.randn(4, 6)
    with pytest.raises(UnsupportedModuleError, match=r"inputs.*by accident.*partial"):
        squared_gradient_norms(model, (x, table), probabilities)
    found = squared_gradient_norms(model, (x[:3], table), probabilities).total
    bound = Own(lambda m, x: m.inner(x, table), inner=model)
    torch.testing.assert_close(squared_gradient_norms(bound, x, probabilities).total[:3], found)
