"""Ways in which a norm could come out silently wrong, found by adversarial review."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gnuq.gradnorm import UnsupportedModuleError, gradient_factors, squared_gradient_norms
from gnuq.gradnorm.factors import Dense
from gnuq.gradnorm.rules import RULES, rule
from tests import oracle

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*", "ignore:There is a performance")


class From(nn.Module):
    """A module from named children (and parameters) and a function of itself and the input."""

    def __init__(self, forward, **parts) -> None:
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
        self.run = forward

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        return self.run(self, *inputs)


def scalar(outputs: torch.Tensor) -> torch.Tensor:
    return outputs.flatten(1).tanh().sum(1)


def linear(fan_in: int = 3, fan_out: int = 3) -> nn.Linear:
    return nn.Linear(fan_in, fan_out)


def parameter(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(*shape))


def agree(model: nn.Module, inputs, objective=scalar) -> None:
    model.eval()
    truth = sum(v.sum(1) for v in oracle.squared_norms(model, inputs, objective).values())
    found = squared_gradient_norms(model, inputs, objective).total
    torch.testing.assert_close(found, truth, rtol=1e-9, atol=1e-14)


def add_one(m, x):
    h = m.a(torch.tanh(m.a(x)))
    h += 1
    return m.b(h)


def clear_slot(m, x):
    h = m.a(torch.tanh(m.b(x)))
    h[:, 0] = 0
    return m.b(h)


def through_view(m, x):
    h = m.a(torch.tanh(m.b(x)))
    h.view(-1).mul_(0.5)
    return h


def through_slice(m, x):
    h = m.a(torch.tanh(m.b(x)))
    h[..., :2].relu_()
    return h


IN_PLACE = [add_one, clear_slot, through_view, through_slice]


@pytest.mark.parametrize("shape", [(4, 3), (4, 6, 3), (4, 2, 6, 3)], ids=str)
@pytest.mark.parametrize("forward", IN_PLACE, ids=lambda f: f.__name__)
def test_a_layers_output_may_be_changed_in_place(forward, shape: tuple[int, ...]) -> None:
    agree(From(forward, a=linear(), b=linear()), torch.randn(*shape))


def test_relu_in_place_in_the_middle_of_a_sequence_model() -> None:
    model = nn.Sequential(
        linear(3, 4), nn.Tanh(), linear(4, 4), nn.ReLU(inplace=True), linear(4, 2)
    )
    agree(model, torch.randn(4, 5, 3))
    agree(model, torch.randn(4, 5, 3), lambda y: y.relu_().flatten(1).sum(1))


def test_inputs_that_require_grad_change_nothing() -> None:
    model, x = nn.Sequential(linear(), nn.Tanh(), linear()), torch.randn(4, 3)
    expected = squared_gradient_norms(model, x, scalar).total
    found = squared_gradient_norms(model, x.requires_grad_(), scalar).total
    torch.testing.assert_close(found, expected)


def test_one_parameter_under_two_names_of_a_module_owes_the_cross_term() -> None:
    norm = nn.LayerNorm(3)
    norm.bias = norm.weight
    agree(nn.Sequential(linear(), norm), torch.randn(4, 5, 3))


def test_a_parameter_that_only_some_parts_of_the_batch_use() -> None:
    def forward(m, x):
        h = m.a(x)
        return h + m.b(x) if bool((x.sum(1) > 0).any()) else h

    model, x = From(forward, a=linear(), b=linear()), torch.tensor([[-1.0] * 3, [1.0] * 3])
    for inputs in (x, x.flip(0)):
        found = squared_gradient_norms(model, inputs, scalar, batch_size=1)
        truth = oracle.squared_norms(model, inputs, scalar)
        assert set(found.by_parameter) == {"a.weight", "a.bias", "b.weight", "b.bias"}
        torch.testing.assert_close(found.total, sum(v.sum(1) for v in truth.values()))


def test_objectives_may_hold_one_target_per_example() -> None:
    model, x, target = linear(3, 5), torch.randn(6, 3), torch.randint(0, 5, (6, 1))
    found = squared_gradient_norms(model, x, lambda y: y.log_softmax(1).gather(1, target)[:, 0])
    everything = squared_gradient_norms(model, x, lambda y: y.log_softmax(1)).total
    torch.testing.assert_close(found.total, everything.gather(1, target)[:, 0])


def test_nothing_is_kept_alive_after_a_pass() -> None:
    kept: list[weakref.ref] = []

    def forward(m, x):
        h = m.a(x).tanh()
        kept.append(weakref.ref(h))
        return m.b(h)

    model, x = From(forward, a=linear(), b=linear()), torch.randn(4, 3)
    squared_gradient_norms(model, x, scalar)
    with pytest.raises(ValueError, match="objective"):
        squared_gradient_norms(model, x, lambda y: y.sum())
    gc.collect()
    assert len(kept) > 3
    assert all(reference() is None for reference in kept)


def tied_in_the_parent() -> nn.Module:
    return From(
        lambda m, i: F.linear((m.embed(i) + m.position).tanh().mean(1), m.embed.weight),
        embed=nn.Embedding(7, 4),
        position=parameter(5, 4),
    )


def stored_view() -> nn.Module:
    model = From(lambda m, x: m.a(x).tanh() @ m.view, a=linear())
    model.view = model.a.weight.T
    return model


class Branching(nn.Module):
    """A mixture of experts that routes exactly as many tokens as there are examples."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.expert = linear(), linear()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.embed(x).clone()
        routed = torch.zeros(h.shape[:2], dtype=torch.bool)
        routed[0, :2] = True
        routed[-1, :2] = True
        h[routed] = self.expert(h[routed])
        return h


class Opaque(torch.autograd.Function):
    """A kernel of one's own that reads the weight."""

    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(weight)
        return x @ weight.data

    @staticmethod
    def backward(ctx, delta):
        return delta @ ctx.saved_tensors[0].T, None


class Boxed(nn.Module):
    """Returns its output in an object that nobody can look into."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = parameter(3)

    def forward(self, x: torch.Tensor):
        return type("Box", (), {"value": x * self.scale})()


def swallowing(m, x):
    try:
        m.a(x[:, :1])
    except RuntimeError:
        return F.linear(m.b(x), m.a.weight)


def force(m, x):
    x = x.detach().requires_grad_()
    energy = m.b(m.a(x).tanh())
    return torch.autograd.grad(energy.sum(), x, create_graph=True)[0]


def reordered(m, x):
    order = x[:, 0].argsort(descending=True)
    return m.b(m.a(x[order]).tanh())


def in_time(m, x):
    return m.b(m.a(x.transpose(0, 1)).tanh()).transpose(0, 1)


torch.manual_seed(0)
x, square, ids = torch.randn(4, 3), torch.randn(5, 5, 3), torch.randint(0, 7, (4, 5))
x[:, 0] = torch.linspace(-1, 1, 4)  # sorting it in descending order moves every example
WRONG = {
    "a stored view of a weight": (stored_view(), x, "requires grad"),
    "a tensor that requires grad": (
        From(lambda m, x: m.a(x) * m.extra[0], a=linear(), extra=[x[0].clone().requires_grad_()]),
        x, "requires grad"),
    "as many routed tokens as examples": (Branching(), torch.randn(4, 5, 3), "dimension 0"),
    "time first, as long as the batch": (From(in_time, a=linear(), b=linear()), square,
                                         "dimension 0"),
    "examples in another order": (From(reordered, a=linear(), b=linear()), x, "on its own"),
    "the batch's mean": (From(lambda m, x: m.a(x - x.mean(0)), a=linear()), x, "on its own"),
    "positions without a batch": (
        From(lambda m, i: (m.e(i) + m.p(torch.arange(5))).tanh(), e=nn.Embedding(7, 4),
             p=nn.Embedding(5, 4)), torch.randint(0, 7, (5, 5)), "dimension 0"),
    "a layer norm over the batch": (nn.Sequential(linear(), nn.LayerNorm((4, 3))), x, "batch"),
    "a derivative in the forward pass": (From(force, a=linear(), b=linear()), x,
                                         "differentiates|requires grad"),
    "a scripted module": (nn.Sequential(torch.jit.script(linear()), linear()), x, "scripted"),
    "a kernel of one's own": (
        From(lambda m, x: Opaque.apply(x, m.w), w=parameter(3, 3), a=linear()), x,
        "no use of|one example"),
    "a swallowed error": (From(swallowing, a=linear(), b=linear()), x, "swallowed|another module"),
    "an object as output": (From(lambda m, x: m.box(x).value, box=Boxed()), x, "can be seen"),
    "complex outputs": (
        From(lambda m, x: m.c(x.to(torch.complex128)).real,
             c=nn.Linear(3, 3, dtype=torch.complex128)), x, "complex"),
}  # fmt: skip


def test_a_tied_weight_that_the_parent_uses_owes_the_cross_term() -> None:
    agree(tied_in_the_parent(), ids)


@pytest.mark.parametrize("name", WRONG)
def test_what_would_be_wrong_is_refused(name: str) -> None:
    model, inputs, message = WRONG[name]
    with pytest.raises(UnsupportedModuleError, match=message):
        squared_gradient_norms(model, inputs, scalar)


def test_assigning_a_parameter_to_a_slice_is_seen() -> None:
    def forward(m, x):
        h = m.a(x).clone()
        h[:, 0] = m.token
        return m.b(h.tanh())

    model = From(forward, a=linear(), b=linear(), token=parameter(3))
    agree(model, torch.randn(4, 5, 3))


def test_a_softmax_over_the_batch_is_refused() -> None:
    with pytest.raises(UnsupportedModuleError, match="depends on others"):
        squared_gradient_norms(linear(), x, lambda y: y.softmax(0)[:, 0])


def test_verification_can_be_switched_off() -> None:
    model = From(lambda m, x: m.a(x - x.mean(0)), a=linear())
    assert squared_gradient_norms(model, x, scalar, verify=False).total.shape == (4,)


def test_random_models_are_refused_in_any_form() -> None:
    noisy = From(lambda m, x: F.dropout(m.a(x), 0.5), a=linear())
    with pytest.raises(ValueError, match="model.*random numbers"):
        squared_gradient_norms(noisy, x, scalar)
    plain = nn.BatchNorm1d(3, track_running_stats=False).eval()
    with pytest.raises(ValueError, match="model.*running statistics"):
        squared_gradient_norms(nn.Sequential(linear(), plain), x, scalar)


def test_factors_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="squared gradient norm.*not finite"):
        gradient_factors(linear(), x, lambda y: (y - y.detach()).sum(1).abs().sqrt())


def test_a_rule_that_forgets_a_parameter_is_refused() -> None:
    class Affine(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale, self.shift = parameter(3), parameter(3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * self.scale + self.shift

    rule(Affine, "scale", "shift")(lambda module, x: lambda delta: {"shift": Dense.of(delta)})
    try:
        with pytest.raises(UnsupportedModuleError, match="no gradient of scale"):
            squared_gradient_norms(Affine(), x, scalar)
    finally:
        del RULES[Affine]


def test_kernels_of_disjoint_branches_are_zero() -> None:
    model = From(lambda m, x: (m.a(x), m.b(x)), a=linear(), b=linear())
    left = gradient_factors(model, x, lambda y: y[0].sum(1))
    right = gradient_factors(model, x, lambda y: y[1].sum(1))
    assert left.kernel(right).abs().max() == 0


def test_bad_kernels_name_the_argument() -> None:
    factors = gradient_factors(linear(), x, scalar)
    with pytest.raises(ValueError, match="other"):
        factors.kernel(gradient_factors(linear(3, 4), x, scalar))
    with pytest.raises(ValueError, match="scale.*bias"):
        factors.kernel(factors, {"weight": 1.0})


@pytest.mark.parametrize("size", [0, -1, 1.5])
@pytest.mark.bad_input
def test_a_bad_batch_size_is_named(size: float) -> None:
    with pytest.raises(ValueError, match="batch_size"):
        squared_gradient_norms(linear(), x, scalar, batch_size=size)  # type: ignore[arg-type]
