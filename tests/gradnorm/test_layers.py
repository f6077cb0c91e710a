"""Convolutions, norm layers and layers of transformers equal the plain loop, by a rule each."""

from __future__ import annotations

import importlib
from types import SimpleNamespace

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from gnuq.gradnorm import UnsupportedModuleError, squared_gradient_norms, verified
from gnuq.gradnorm.factors import Dense, Outer, Routed, Tokens, cross, inner, shares, total_norm
from gnuq.gradnorm.rules import find_rule
from tests import oracle

size = st.integers(1, 4)
batch = st.integers(1, 4)
CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
BATCH_NORMS = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
INSTANCE_NORMS = {1: nn.InstanceNorm1d, 2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}


def randomised(model: nn.Module) -> nn.Module:
    """In eval mode, with random weights and running statistics."""
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_()
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 2)
    return model.eval()


def agree(model: nn.Module, inputs, rtol: float = 1e-10, atol: float = 1e-12, **options) -> None:
    """By rules alone, the norms of a random smooth objective equal the loop's."""
    for module in model.modules():
        if next(module.parameters(recurse=False), None) is not None:
            assert find_rule(module) is not None

    def objective(outputs: Tensor) -> Tensor:
        weights = torch.linspace(-1, 1, outputs[0].numel()).reshape(outputs.shape[1:])
        one = torch.tanh(outputs * (1 + weights)).flatten(1).sum(1)
        return torch.stack([one, outputs.square().flatten(1).sum(1)], 1)

    found = squared_gradient_norms(model, inputs, objective, **options).by_parameter
    for name, expected in oracle.squared_norms(model, inputs, objective).items():
        torch.testing.assert_close(found[name], expected, rtol=rtol, atol=atol)


# --- convolutions --------------------------------------------------------------------------------


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[nn.Module, Tensor]:
    """Any options, on an input large enough for them."""
    n, groups = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    each = st.tuples(*[st.integers(1, 2)] * n)
    kernel, dilation = draw(st.tuples(*[st.integers(1, 3)] * n)), draw(each)
    mode = draw(st.sampled_from(["zeros", "reflect", "replicate", "circular"]))
    padding = draw(st.one_of(st.sampled_from(["same", "valid"]), each))
    stride = (1,) * n if padding == "same" else draw(each)
    span = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    shape = [s + draw(st.integers(2, 3)) for s in span]
    channels, bias = groups * draw(st.integers(1, 2)), draw(st.booleans())
    outputs = groups * draw(st.integers(1, 2))
    model = CONVOLUTIONS[n](
        channels, outputs, kernel, stride, padding, dilation, groups, bias, padding_mode=mode
    )
    return model, torch.randn(draw(batch), channels, *shape)


@settings(max_examples=100, deadline=None)
@given(convolutions())
@pytest.mark.filterwarnings("ignore:Using padding='same'")
def test_convolution(case: tuple[nn.Module, Tensor]) -> None:
    agree(*case)


@st.composite
def transposed_convolutions(draw: st.DrawFn) -> tuple[nn.Module, Tensor]:
    n, groups = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    kernel = draw(st.tuples(*[st.integers(2, 3)] * n))
    stride, dilation = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    extra = draw(st.integers(0, max(stride, dilation) - 1))
    channels, outputs = groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 2))
    padding = draw(st.integers(0, 1))
    model = TRANSPOSED[n](
        channels, outputs, kernel, stride, padding, extra, groups, dilation=dilation
    )
    return model, torch.randn(draw(batch), channels, *[draw(st.integers(2, 4)) for _ in kernel])


@settings(max_examples=60, deadline=None)
@given(transposed_convolutions())
def test_transposed_convolution(case: tuple[nn.Module, Tensor]) -> None:
    agree(*case)


@pytest.mark.parametrize(
    ("channels", "outputs", "groups", "width", "kind"),
    [(8, 9, 1, 4, Outer), (16, 18, 2, 4, Routed), (1, 2, 1, 40, Dense), (6, 6, 6, 9, Dense)],
)
def test_a_convolutions_gradient_takes_the_smallest_shape(
    channels: int, outputs: int, groups: int, width: int, kind: type
) -> None:
    model, x = nn.Conv1d(channels, outputs, 3, groups=groups), torch.randn(5, channels, width)
    agree(model, x)
    rule = find_rule(model)
    assert rule is not None
    delta = torch.randn_like(model(x)).detach()
    gradient = rule.prepare(model, x)(delta)["weight"]
    assert isinstance(gradient, kind)
    expected = [torch.nn.grad.conv1d_weight(a[None], model.weight.shape, d[None], groups=groups)
                for a, d in zip(x, delta, strict=True)]  # fmt: skip
    torch.testing.assert_close(gradient.dense(), torch.stack(expected).flatten(1))


class TiedInOtherGroups(nn.Module):
    """One weight for an ungrouped and a grouped convolution, one of them used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv1d(8, 8, 3, bias=False), nn.Conv1d(16, 8, 3, groups=2)
        self.two.weight = self.one.weight

    def forward(self, x: Tensor) -> Tensor:
        h = self.two(x).tanh()
        return self.one(h) + self.one(self.two(x.cos()))


def test_convolutions_that_share_a_weight_owe_the_cross_terms() -> None:
    agree(TiedInOtherGroups(), torch.randn(3, 16, 6))


@pytest.mark.parametrize("kind", [nn.Conv1d, nn.ConvTranspose1d, nn.InstanceNorm1d])
def test_an_input_without_a_batch_is_refused(kind: type[nn.Module]) -> None:
    model = kind(4, affine=True) if kind is nn.InstanceNorm1d else kind(4, 4, 3)
    with pytest.raises(UnsupportedModuleError, match="no batch dimension"):
        squared_gradient_norms(model, torch.randn(4, 6), lambda y: y.square().sum(1))


# --- norm layers ---------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(batch, st.integers(0, 3), size, size)
def test_batch_norm(b: int, n: int, channels: int, width: int) -> None:
    assume(n != 1 or width != channels)
    model = randomised(BATCH_NORMS[max(n, 1)](channels))
    agree(model, torch.randn(b, channels, *[width] * n))


@settings(max_examples=30, deadline=None)
@given(batch, st.integers(0, 2), size, st.integers(2, 4), size)
def test_group_norm(b: int, n: int, groups: int, each: int, width: int) -> None:
    assume(n != 1 or width != groups * each)
    model = randomised(nn.GroupNorm(groups, groups * each))
    agree(model, torch.randn(b, groups * each, *[width] * n))


@settings(max_examples=30, deadline=None)
@given(batch, st.integers(1, 3), size, st.integers(2, 4), st.booleans())
def test_instance_norm(b: int, n: int, channels: int, width: int, running: bool) -> None:
    model = INSTANCE_NORMS[n](channels, affine=True, track_running_stats=running)
    agree(randomised(model), torch.randn(b, channels, *[width] * n))


def test_instance_norm_in_training_keeps_its_running_statistics() -> None:
    model = nn.InstanceNorm1d(3, affine=True, track_running_stats=True)
    x = torch.randn(2, 3, 5)
    squared_gradient_norms(model, x, lambda y: y.square().flatten(1).sum(1), verify=False)
    again = nn.InstanceNorm1d(3, affine=True, track_running_stats=True)
    again(x)
    torch.testing.assert_close(model.running_mean, again.running_mean)


class EachToken(nn.Module):
    """Puts the tokens of all examples into one dimension before a layer."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.flatten(0, 1)).unflatten(0, x.shape[:2])


FLATTENED = {
    "convolution": (lambda: nn.Conv2d(4, 2, 2, groups=2), (4, 5, 3)),
    "transposed convolution": (lambda: nn.ConvTranspose1d(4, 2, 2), (4, 5)),
    "batch norm of vectors": (lambda: nn.BatchNorm1d(5), (5,)),
    "batch norm of images": (lambda: nn.BatchNorm2d(5), (5, 5, 3)),
    "group norm of vectors": (lambda: nn.GroupNorm(2, 6), (6,)),
    "group norm of images": (lambda: nn.GroupNorm(2, 6), (6, 2, 3)),
    "instance norm": (lambda: nn.InstanceNorm1d(4, affine=True), (4, 3)),
}


@pytest.mark.parametrize("name", FLATTENED)
def test_layers_that_get_the_tokens_of_all_examples_in_a_row(name: str) -> None:
    build, shape = FLATTENED[name]
    agree(EachToken(randomised(build())), torch.randn(3, 4, *shape), flattened=True)


@pytest.mark.parametrize("flattened", [False, True])
@pytest.mark.parametrize("build", [lambda: nn.BatchNorm1d(4), lambda: nn.GroupNorm(2, 4)])
def test_as_many_positions_as_channels(build, flattened: bool) -> None:
    """Tokens in a row, or channels before positions: the shapes cannot tell, so they must not."""
    model = randomised(build())
    agree(EachToken(model) if flattened else model, torch.randn(3, 4, 4), flattened=flattened)


def test_half_precision_norms_accumulate_in_float32() -> None:
    model = randomised(nn.GroupNorm(2, 8)).to(torch.bfloat16)
    x = torch.randn(2, 8, 100, dtype=torch.bfloat16)
    delta = torch.randn(2, 8, 100).to(torch.bfloat16)
    rule = find_rule(model)
    assert rule is not None
    found = rule.prepare(model, x)(delta)["bias"].dense()
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), delta.double().sum(2), rtol=1e-6, atol=1e-6)


# --- norm layers of transformers -----------------------------------------------------------------


def imported(name: str) -> type[nn.Module]:
    module, _, kind = verified.full_name(name).rpartition(".")
    found: type[nn.Module] = getattr(importlib.import_module(module), kind)
    return found


RMS_NORMS = verified.ROUNDED_RMS_NORMS + verified.WIDE_RMS_NORMS + verified.SHIFTED_RMS_NORMS


@pytest.mark.parametrize("name", RMS_NORMS)
def test_rms_norms_of_transformers(name: str) -> None:
    model = randomised(imported(name)(6))
    agree(model, torch.randn(3, 4, 2, 6), rtol=1e-5)  # these classes compute in float32


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", RMS_NORMS)
def test_rms_norms_of_transformers_still_compute_what_is_assumed(
    name: str, dtype: torch.dtype
) -> None:
    model, x = randomised(imported(name)(64)).to(dtype), torch.randn(3, 64).to(dtype)
    eps = getattr(model, "variance_epsilon", None) or model.eps
    scaled = x.float() / (x.float().square().mean(-1, keepdim=True) + eps).sqrt()
    weight = model.weight.float() + (name in verified.SHIFTED_RMS_NORMS)
    if name in verified.ROUNDED_RMS_NORMS:
        scaled = scaled.to(dtype).float()
    torch.testing.assert_close(model(x).float(), (weight * scaled).to(dtype).float())


@pytest.mark.parametrize("name", RMS_NORMS)
def test_rms_norms_of_transformers_in_half_precision(name: str) -> None:
    """Our sum, in float32, is what autograd rounds to bfloat16."""
    model = randomised(imported(name)(64)).to(torch.bfloat16)
    x, delta = torch.randn(2, 1, 5, 64).to(torch.bfloat16)
    rule = find_rule(model)
    assert rule is not None
    found = rule.prepare(model, x)(delta)["weight"].dense()[0]
    assert found.dtype == torch.float32
    (expected,) = torch.autograd.grad(model(x), model.weight, delta)
    scale = float(expected.float().abs().max())
    torch.testing.assert_close(found, expected.float(), rtol=0.02, atol=0.02 * scale)


# --- layers of transformers ----------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(batch, st.lists(st.integers(1, 9), max_size=2), size, size)
def test_transposed_linear(b: int, t: list[int], fan_in: int, fan_out: int) -> None:
    from transformers.pytorch_utils import Conv1D

    agree(randomised(Conv1D(fan_out, fan_in)), torch.randn(b, *t, fan_in))


class Mixture(nn.Module):
    """Puts the tokens of all examples into one dimension, as the blocks around experts do."""

    def __init__(self, experts: nn.Module, times: int = 1) -> None:
        super().__init__()
        self.experts, self.times = experts, times

    def forward(self, hidden: Tensor, index: Tensor, weights: Tensor) -> Tensor:
        found = hidden.flatten(0, 1)
        for _ in range(self.times):
            found = self.experts(found, index.flatten(0, 1), weights.flatten(0, 1))
        return found.view_as(hidden)


def built(name: str, implementation: str = "eager", count: int = 5) -> nn.Module:
    config = SimpleNamespace(
        num_experts=count, num_local_experts=count, n_routed_experts=count, hidden_size=4,
        intermediate_size=8, moe_intermediate_size=8, hidden_act="silu", hidden_activation="gelu",
        swiglu_limit=0.7, _experts_implementation=implementation,
    )  # fmt: skip
    return randomised(imported(name)(config))


def routing(b: int, t: int, k: int, experts: int) -> tuple[Tensor, Tensor, Tensor]:
    """Hidden states, expert numbers, some of them much more often, and their weights."""
    index = (torch.rand(b, t, k).square() * experts).long()
    return torch.randn(b, t, 4), index, torch.rand(b, t, k)


def agree_on_experts(model: nn.Module, inputs: tuple[Tensor, Tensor, Tensor], **options) -> None:
    agree(model, inputs, atol=1e-9, flattened=True, **options)


@settings(max_examples=40, deadline=None)
@given(batch, st.integers(1, 40), st.integers(1, 3), st.integers(1, 6))
def test_experts(b: int, t: int, k: int, experts: int) -> None:
    agree_on_experts(Mixture(built("mixtral.MixtralExperts", count=experts)), routing(b, t, k, 1))
    model = Mixture(built("qwen3_moe.Qwen3MoeExperts", count=experts))
    agree_on_experts(model, routing(b, t, k, experts))


@pytest.mark.parametrize("tokens", [3, 30])
@pytest.mark.parametrize("name", verified.EXPERTS)
def test_experts_of_transformers(name: str, tokens: int) -> None:
    agree_on_experts(Mixture(built(name)), routing(3, tokens, 2, 4))  # one expert is never used


@pytest.mark.parametrize("implementation", ["eager", "batched_mm", "grouped_mm"])
def test_every_implementation_of_experts(implementation: str) -> None:
    hidden, index, weights = routing(3, 7, 2, 5)
    inputs = hidden.float(), index, weights.float()  # grouped_mm knows no float64
    expected = Mixture(built("olmoe.OlmoeExperts")).float()
    model = Mixture(built("olmoe.OlmoeExperts", implementation)).float()
    model.load_state_dict(expected.state_dict())

    def norms(model: nn.Module) -> dict[str, Tensor]:
        def objective(outputs: Tensor) -> Tensor:
            return outputs.tanh().flatten(1).sum(1)

        return squared_gradient_norms(model, inputs, objective, flattened=True).by_parameter

    for name, norm in norms(expected).items():
        torch.testing.assert_close(norms(model)[name], norm, rtol=1e-4, atol=0)


@pytest.mark.parametrize("tokens", [3, 30])
def test_experts_that_are_called_twice_owe_the_cross_terms(tokens: int) -> None:
    model = Mixture(built("mixtral.MixtralExperts"), times=2)
    agree_on_experts(model, routing(3, tokens, 2, 5))


def test_a_slot_without_an_expert() -> None:
    hidden, index, weights = routing(3, 6, 2, 5)
    index[:, ::2, 1] = 5
    index[0] = 5
    agree_on_experts(Mixture(built("mixtral.MixtralExperts")), (hidden, index, weights))


def test_experts_in_half_precision() -> None:
    model, inputs = Mixture(built("mixtral.MixtralExperts")), routing(3, 6, 2, 5)
    halved = [inputs[0].to(torch.bfloat16), inputs[1], inputs[2].float()]

    def norms(model: nn.Module, inputs) -> dict[str, Tensor]:
        def objective(outputs: Tensor) -> Tensor:
            return outputs.flatten(1).tanh().sum(1)

        return squared_gradient_norms(model, tuple(inputs), objective, flattened=True).by_parameter

    expected = norms(model, inputs)
    for name, norm in norms(model.to(torch.bfloat16), halved).items():
        assert norm.dtype == torch.float32
        torch.testing.assert_close(norm.double(), expected[name], rtol=0.1, atol=0)


def test_experts_called_otherwise_are_refused() -> None:
    model = Mixture(built("mixtral.MixtralExperts"))
    model.experts.forward = None  # a patched class has no rule
    assert find_rule(model.experts) is None
    experts = built("mixtral.MixtralExperts")
    rule = find_rule(experts)
    assert rule is not None
    hidden, index, weights = (x.flatten(0, 1) for x in routing(2, 3, 2, 5))
    with pytest.raises(NotImplementedError, match="expert numbers"):
        rule.prepare(experts, hidden, weights, index)
    experts.down_proj = nn.Parameter(torch.randn(5, 2, 8))
    with pytest.raises(NotImplementedError, match="other shapes"):
        rule.prepare(experts, hidden, index, weights)


# --- routed factors ------------------------------------------------------------------------------


@st.composite
def routed(draw: st.DrawFn) -> list[Routed]:
    """Three of the same shape, their vectors given for every slot or shared by a token's slots."""
    b, t, k, experts = draw(batch), draw(st.integers(1, 12)), draw(size), draw(size)
    widths = draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))

    def side(width: int) -> Tokens:
        return Tokens(torch.randn(b, t * draw(st.sampled_from([1, k])), width))

    return [
        Routed(torch.randint(0, experts + 1, (b, t, k)), side(widths[0]), side(widths[1]), experts)
        for _ in range(3)
    ]


def multiplied_out(f: Routed) -> Tensor:
    """The definition, pair by pair."""
    b, t, k = f.experts.shape
    a, delta = (x.values.reshape(b, t, -1, x.values.shape[-1]) for x in (f.inputs, f.outputs))
    table = torch.zeros(b, f.count + 1, delta.shape[-1], a.shape[-1])
    for i in range(b):
        for s in range(t):
            for j in range(k):
                one = torch.outer(delta[i, s, j % delta.shape[2]], a[i, s, j % a.shape[2]])
                table[i, f.experts[i, s, j]] += one
    return table[:, :-1].flatten(1)


@settings(max_examples=60, deadline=None)
@given(routed())
def test_routed_factors(factors: list[Routed]) -> None:
    dense = [multiplied_out(f) for f in factors]
    for f, truth in zip(factors, dense, strict=True):
        torch.testing.assert_close(f.dense(), truth)
        torch.testing.assert_close(f.flat().dense()[0], truth.sum(0))
        torch.testing.assert_close(inner(f, f), truth.square().sum(1))
        for g, other in zip(factors, dense, strict=True):
            torch.testing.assert_close(inner(f, g), (truth * other).sum(1))
            torch.testing.assert_close(cross(f, g), truth @ other.mT)
            torch.testing.assert_close(inner(f, Dense.of(other)), (truth * other).sum(1))


@settings(max_examples=60, deadline=None)
@given(routed())
def test_shares_of_routed_tokens_make_the_total(factors: list[Routed]) -> None:
    b, t, _ = factors[0].experts.shape
    whole = sum(multiplied_out(f) for f in factors)
    mixed = [*factors[1:], Dense.of(factors[0].dense())]
    for uses in (factors, mixed):
        found = shares(uses)
        total = sum(share.sum(1) for share in found)
        torch.testing.assert_close(total, whole.square().sum(1))
        torch.testing.assert_close(total, total_norm(uses))
        assert found[1].shape == (b, t)
    torch.testing.assert_close(found[0], shares(factors)[1])


# --- whole models --------------------------------------------------------------------------------


def causal(kind: str, **options) -> nn.Module:
    transformers = pytest.importorskip("transformers")
    config = transformers.AutoConfig.for_model(
        kind, vocab_size=11, hidden_size=8, intermediate_size=6, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, head_dim=4, max_position_embeddings=32,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, **options,
    )  # fmt: skip
    config._experts_implementation = "eager"  # the others know no float64
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    return randomised(model.double())


MODELS = {
    "llama": {},
    "gemma2": {},
    "olmo2": {},
    "gpt2": {"n_embd": 8, "n_head": 2, "n_layer": 2},
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "qwen3_moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 3},
}


@pytest.mark.parametrize("kind", MODELS)
def test_whole_language_models(kind: str) -> None:
    model = causal(kind, **MODELS[kind])
    owners = [m for m in model.modules() if next(m.parameters(recurse=False), None) is not None]
    unruled = {type(m).__name__ for m in owners if find_rule(m) is None}
    assert unruled <= {"MixtralTopKRouter", "Qwen3MoeTopKRouter", "Gemma2TextScaledWordEmbedding"}
    ids = torch.randint(3, 11, (3, 5))
    inputs = {"input_ids": ids, "position_ids": torch.arange(5).expand(3, 5)}

    def objective(output) -> Tensor:
        return output.logits.log_softmax(-1)[..., 1].mean(1)

    found = squared_gradient_norms(model, inputs, objective, flattened=True).total
    truth = oracle.squared_norms(model, inputs, objective)
    torch.testing.assert_close(found, sum(v[:, 0] for v in truth.values()), rtol=1e-4, atol=0)
