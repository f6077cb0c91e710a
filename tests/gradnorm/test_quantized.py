"""Quantised layers: norms equal the plain loop over unpacked weights; bad kernels are named."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

bnb = pytest.importorskip("bitsandbytes")
transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")

from gnuq.gradnorm import (  # noqa: E402
    UnsupportedModuleError,
    quantized_checks,
    squared_gradient_norms,
)
from gnuq.gradnorm.quantized import dequantised_weight, squared_weight_norms  # noqa: E402
from gnuq.gradnorm.quantized_checks import (  # noqa: E402
    check,
    coupled_layers,
    prevent_repacking,
    untrustworthy_layers,
)
from tests import oracle  # noqa: E402

FOUR_BIT = {
    "nf4": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
    "fp4": {"load_in_4bit": True, "bnb_4bit_quant_type": "fp4"},
    "nf4, double": {
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": True,
    },
}
REPACK = bnb.functional._convert_weight_packed_for_cpu
PACKAGE = "gptqmodel.nn_modules.qlinear"


@pytest.fixture(autouse=True)
def _single_precision() -> Iterator[None]:
    """The kernels know no float64."""
    torch.set_default_dtype(torch.float32)
    yield
    torch.set_default_dtype(torch.float64)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Llama with biases, on disk."""
    path = tmp_path_factory.mktemp("llama")
    config = transformers.LlamaConfig(
        vocab_size=128,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        attention_bias=True,
        initializer_range=0.2,
        pad_token_id=0,
    )
    torch.manual_seed(1)
    model = transformers.LlamaForCausalLM(config).to(torch.float32)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(path)
    return path


def load(saved: Path, **options: object) -> nn.Module:
    model = transformers.AutoModelForCausalLM.from_pretrained(
        saved,
        quantization_config=transformers.BitsAndBytesConfig(**options),
        dtype=torch.float32,
        device_map="cpu",
    )
    check(model)
    return model.eval()


class StraightThrough(nn.Module):
    """The layer's own output; the gradient goes through W̃ and b, which are leaves here."""

    def __init__(self, layer: nn.Module, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        weight = dequantised_weight(layer)
        assert weight is not None
        self.weight, self.dtype, self.hidden = nn.Parameter(weight), dtype, [layer]
        bias = None if layer.bias is None else nn.Parameter(layer.bias.detach().float())
        self.register_parameter("bias", bias)

    def forward(self, x: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.to(self.dtype)
        y = F.linear(x.to(self.dtype), self.weight.to(self.dtype), bias).to(x.dtype)
        return y + (self.hidden[0](x) - y).detach()


def as_linear(layer: nn.Module) -> nn.Linear:
    """An ordinary layer with the unpacked weight."""
    weight = dequantised_weight(layer)
    assert weight is not None
    twin = nn.Linear(weight.shape[1], weight.shape[0], bias=layer.bias is not None)
    twin.weight = nn.Parameter(weight)
    if layer.bias is not None:
        twin.bias = nn.Parameter(layer.bias.detach().float())
    return twin


def unpacked(model: nn.Module, replace: Callable[[nn.Module], nn.Module] = as_linear) -> nn.Module:
    """A copy whose quantised layers are replaced by ones that autograd understands."""
    twin = copy.deepcopy(model)
    for name, module in list(twin.named_modules()):
        if dequantised_weight(module) is not None:
            twin.set_submodule(name, replace(module))
    return twin


TOKENS = {
    "input_ids": torch.tensor([[5, 9, 77, 3, 21, 40], [8, 120, 33, 64, 0, 0], [1, 2, 3, 4, 5, 6]]),
    "attention_mask": torch.tensor([[1] * 6, [1, 1, 1, 1, 0, 0], [1] * 6]),
}


def log_likelihood(rows: slice = slice(None)) -> Callable[[object], Tensor]:
    """Of the next tokens, without the padding: two objectives, the whole and its first part."""
    targets, mask = TOKENS["input_ids"][rows, 1:], TOKENS["attention_mask"][rows, 1:]

    def objective(output: object) -> Tensor:
        scores = output.logits[:, :-1].log_softmax(-1)  # type: ignore[attr-defined]
        each = scores.gather(2, targets[..., None])[..., 0] * mask
        return torch.stack([each.sum(1), each[:, :3].sum(1)], 1)

    return objective


def worst(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """The largest relative error of a parameter's squared norm."""
    assert found.keys() == expected.keys()
    scale = sum(expected.values())
    gaps = [
        (found[name] - norm).abs() / norm.maximum(1e-6 * scale) for name, norm in expected.items()
    ]
    return float(torch.stack(gaps).max())


def alone(twin: nn.Module) -> dict[str, Tensor]:
    """The plain loop, over examples that the model sees one at a time."""
    rows = [slice(b, b + 1) for b in range(len(TOKENS["input_ids"]))]
    norms = [
        oracle.squared_norms(twin, {k: v[row] for k, v in TOKENS.items()}, log_likelihood(row))
        for row in rows
    ]
    return {name: torch.cat([norm[name] for norm in norms]) for name in norms[0]}


def together(twin: nn.Module) -> dict[str, Tensor]:
    """The plain loop of backward passes through one forward pass of the whole batch."""
    twin.requires_grad_(True)
    names, parameters = zip(*twin.named_parameters(), strict=True)
    values = log_likelihood()(twin(**TOKENS))
    norms = [
        torch.stack([g.square().sum() for g in torch.autograd.grad(value, parameters, None, True)])
        for value in values.flatten()
    ]
    columns = torch.stack(norms).reshape(*values.shape, len(names))
    return {name: columns[..., j] for j, name in enumerate(names)}


@pytest.mark.parametrize("options", FOUR_BIT.values(), ids=FOUR_BIT)
def test_four_bits_equal_the_loop_over_unpacked_weights(saved: Path, options: dict) -> None:
    model = load(saved, bnb_4bit_compute_dtype=torch.float32, **options)
    found = squared_gradient_norms(model, TOKENS, log_likelihood())
    assert worst(found.by_parameter, alone(unpacked(model))) < 1e-5


def test_eight_bits_equal_the_straight_through_loop(saved: Path) -> None:
    model = load(saved, load_in_8bit=True, llm_int8_threshold=0.0)
    found = squared_gradient_norms(model, TOKENS, log_likelihood())
    assert worst(found.by_parameter, alone(unpacked(model, StraightThrough))) < 1e-5
    assert coupled_layers(model) == []


def test_eight_bits_with_outliers_are_exact_for_the_batch_as_it_is(saved: Path) -> None:
    model = load(saved, load_in_8bit=True, llm_int8_threshold=2.0)
    found = squared_gradient_norms(model, TOKENS, log_likelihood(), verify=False)
    assert worst(found.by_parameter, together(unpacked(model, StraightThrough))) < 1e-5
    assert len(coupled_layers(model)) == 14


def test_a_bfloat16_compute_type_is_exact_up_to_its_own_rounding(saved: Path) -> None:
    """The loop rounds every weight gradient to 8 bits and adds it up in another order."""
    model = load(saved, bnb_4bit_compute_dtype=torch.bfloat16, **FOUR_BIT["nf4"])
    found = squared_gradient_norms(model, TOKENS, log_likelihood())
    twin = unpacked(model, lambda layer: StraightThrough(layer, torch.bfloat16))
    assert worst(found.by_parameter, alone(twin)) < 0.02


def test_what_the_layer_multiplies_is_rounded_to_its_compute_type() -> None:
    layer = bnb.nn.LinearNF4(64, 32, compute_dtype=torch.bfloat16).to("cpu")
    check(layer)
    x, delta = torch.randn(3, 5, 64), torch.randn(3, 5, 32)
    found = squared_gradient_norms(layer, x, lambda y: (y * delta).sum((1, 2)), verify=False)
    rounded = delta.bfloat16().double(), x.bfloat16().double()
    expected = (rounded[0].mT @ rounded[1]).square().sum((1, 2))
    torch.testing.assert_close(found.by_parameter["weight"].double(), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("double", [False, True])
def test_the_unpacked_weight_is_the_one_that_the_output_shows(double: bool) -> None:
    """Even where the layer was quantised from half precision, and unpacks into it by default."""
    layer = bnb.nn.LinearNF4(64, 32, compute_dtype=torch.float32, compress_statistics=double)
    layer = layer.bfloat16().to("cpu")
    x = torch.randn(5, 64, requires_grad=True)
    expected = F.linear(x, dequantised_weight(layer), layer.bias.float())
    torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("options", FOUR_BIT.values(), ids=FOUR_BIT)
def test_weight_norms_are_those_of_the_unpacked_model(saved: Path, options: dict) -> None:
    model = load(saved, **options)
    found = squared_weight_norms(model)
    twin = dict(unpacked(model).named_parameters())
    assert found.keys() == twin.keys()
    for name, parameter in twin.items():
        norm, entries = found[name]
        assert entries == parameter.numel()
        assert norm == pytest.approx(float(parameter.detach().double().square().sum()), rel=1e-5)


def test_tied_weights_count_once() -> None:
    model = nn.Sequential(nn.Embedding(7, 3), nn.Linear(3, 7))
    model[1].weight = model[0].weight
    assert squared_weight_norms(model).keys() == {"0.weight", "1.bias"}


def repack(layer: nn.Module) -> None:
    """What bitsandbytes does on a CPU with AVX512-BF16, in a forward pass without gradients."""
    layer.weight.data, layer.weight.quant_state = REPACK(
        layer.weight.data, layer.weight.quant_state
    )


@pytest.mark.parametrize("options", FOUR_BIT.values(), ids=FOUR_BIT)
@pytest.mark.filterwarnings("ignore:bitsandbytes..gemv_4bit")
def test_a_repacked_layer_is_named_and_put_back(saved: Path, options: dict) -> None:
    model = load(saved, **options)
    layer = model.get_submodule("model.layers.1.mlp.down_proj")
    before = dequantised_weight(layer)
    repack(layer)
    assert untrustworthy_layers(model).keys() == {"model.layers.1.mlp.down_proj"}
    assert prevent_repacking(model) == 1
    assert untrustworthy_layers(model) == {}
    torch.testing.assert_close(dequantised_weight(layer), before, rtol=2**-8, atol=0)
    found = squared_gradient_norms(model, TOKENS, log_likelihood())
    assert worst(found.by_parameter, alone(unpacked(model))) < 1e-5


@pytest.mark.skipif(not bnb.functional.has_avx512bf16(), reason="needs AVX512-BF16")
@pytest.mark.filterwarnings("ignore:bitsandbytes..gemv_4bit")
def test_without_the_check_a_repacked_layer_makes_norms_silently_wrong(saved: Path) -> None:
    model = load(saved, **FOUR_BIT["nf4"])
    right = squared_gradient_norms(model, TOKENS, log_likelihood())
    layer = model.get_submodule("model.layers.1.mlp.up_proj")
    layer.support_avx512bf16_for_cpu = True
    with torch.no_grad():
        model(**TOKENS)
    wrong = squared_gradient_norms(model, TOKENS, log_likelihood())
    assert worst(wrong.by_parameter, right.by_parameter) > 0.5
    assert untrustworthy_layers(model).keys() == {"model.layers.1.mlp.up_proj"}
    check(model)
    with torch.no_grad():
        model(**TOKENS)
    again = squared_gradient_norms(model, TOKENS, log_likelihood())
    assert worst(again.by_parameter, right.by_parameter) < 0.05  # its scales are rounded now


def fresh(kind: str) -> nn.Module:
    """A layer that was never called, so that its first call still has everything to write."""
    make = {
        "4 bit": lambda: bnb.nn.LinearNF4(64, 32),
        "4 bit, half": lambda: bnb.nn.LinearFP4(64, 32, compute_dtype=torch.bfloat16),
        "8 bit": lambda: bnb.nn.Linear8bitLt(64, 32, has_fp16_weights=False, threshold=6.0),
        "8 bit, late": lambda: bnb.nn.Linear8bitLt(64, 32),
    }
    return make[kind]().to("cpu")


def state(layer: nn.Module) -> dict:
    """All that a layer holds, tensors with their type and entries."""
    held = {**vars(layer), **vars(layer.weight), **vars(getattr(layer, "state", object))}
    held |= {name: parameter.data.clone() for name, parameter in layer.named_parameters()}
    held |= {f"{name}'": parameter.requires_grad for name, parameter in layer.named_parameters()}
    return {k: v for k, v in held.items() if k != "support_avx512bf16_for_cpu"}


@pytest.mark.parametrize("kind", ["4 bit", "4 bit, half", "8 bit", "8 bit, late"])
@pytest.mark.parametrize("training", [False, True])
def test_the_check_changes_nothing(kind: str, training: bool) -> None:
    layer = fresh(kind).train(training)
    before, random = state(layer), torch.get_rng_state()
    check(nn.Sequential(layer))
    after = state(layer)
    assert before.keys() == after.keys()
    for name, value in before.items():
        if isinstance(value, Tensor):
            torch.testing.assert_close(after[name], value, rtol=0, atol=0)
        else:
            assert after[name] is value or after[name] == value, name
    assert torch.equal(random, torch.get_rng_state())


def test_the_check_runs_once_until_a_layer_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    model, probed = nn.Sequential(fresh("4 bit"), fresh("4 bit")), []
    monkeypatch.setattr(quantized_checks, "_probe", lambda *_: probed.append(1))
    check(model)
    check(model)
    assert len(probed) == 2
    repack(model[0])
    check(model)
    assert len(probed) == 4


class TorchLinear(nn.Module):
    """A stand-in for gptqmodel's layer: eight 4-bit codes a word, along the inputs."""

    def __init__(self, bias: bool, kernel: Callable = torch.matmul) -> None:
        super().__init__()
        self.kernel = kernel
        self.register_buffer("qweight", torch.randint(-(2**31), 2**31, (8, 48)).int())
        self.register_buffer("scales", torch.rand(2, 48) * 0.1)
        self.register_buffer("zeros", torch.randint(0, 16, (2, 48)))
        self.register_buffer("g_idx", torch.arange(64) // 32)
        self.register_buffer("bias", torch.randn(48) if bias else None)

    def dequantize_weight(self) -> Tensor:
        codes = (self.qweight[:, None] >> torch.arange(0, 32, 4)[:, None]) & 15
        return self.scales[self.g_idx] * (codes.reshape(64, 48) - self.zeros[self.g_idx])

    def forward(self, x: Tensor) -> Tensor:
        y = self.kernel(x, self.dequantize_weight())
        return y if self.bias is None else y + self.bias


TorchLinear.__module__ = f"{PACKAGE}.torch"


class AwqTorchLinear(TorchLinear):
    """A stand-in for gptqmodel's AWQ layer, which computes in float16."""

    bits = group_size = qzeros = None

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.half()).to(x.dtype)


AwqTorchLinear.__module__ = f"{PACKAGE}.torch_awq"


def agree(layer: nn.Module, dtype: torch.dtype = torch.float32, tolerance: float = 1e-5) -> None:
    """The norms of a network with the layer in its middle equal the loop's."""
    model = nn.Sequential(nn.Linear(20, 64), nn.Tanh(), layer, nn.Tanh(), nn.LazyLinear(3))
    model(torch.randn(2, 20))
    check(model)
    x = torch.randn(4, 5, 20)
    found = squared_gradient_norms(model, x, objective)
    twin = unpacked(model, lambda layer: StraightThrough(layer, dtype))
    assert worst(found.by_parameter, oracle.squared_norms(twin, x, objective)) < tolerance


def objective(y: Tensor) -> Tensor:
    return y.tanh().sum(1)


@pytest.mark.parametrize("bias", [False, True])
def test_weights_packed_in_buffers(bias: bool) -> None:
    agree(TorchLinear(bias))


@pytest.mark.parametrize("bias", [False, True])
def test_awq_in_half_precision(bias: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = AwqTorchLinear(bias).half()
    packing = ModuleType("packing_utils")
    packing.dequantize_gemm = lambda **_: layer.dequantize_weight()  # type: ignore[attr-defined]
    name = "gptqmodel.quantization.awq.utils.packing_utils"
    monkeypatch.setitem(sys.modules, name, packing)
    agree(layer, torch.float16, 0.01)


def without_backward(x: Tensor, weight: Tensor) -> Tensor:
    with torch.no_grad():
        return x @ weight


def wrong_backward(x: Tensor, weight: Tensor) -> Tensor:
    return (x @ weight).detach() + x @ weight.flip(0) - (x @ weight.flip(0)).detach()


def wrong_forward(x: Tensor, weight: Tensor) -> Tensor:
    return x @ weight + 1


def broken(x: Tensor, weight: Tensor) -> Tensor:
    raise RuntimeError("no kernel image is available")


@pytest.mark.parametrize(
    ("kernel", "reason"),
    [
        (without_backward, "no gradient passes"),
        (wrong_backward, "input's gradient is off"),
        (wrong_forward, "output is off"),
        (broken, "no kernel image"),
    ],
)
def test_a_bad_kernel_is_named(kernel: Callable, reason: str) -> None:
    model = nn.Sequential(nn.Linear(64, 64), TorchLinear(bias=False, kernel=kernel))
    with pytest.raises(UnsupportedModuleError, match=f"'1': .*{reason}.*backend="):
        check(model)


def test_a_layer_repacked_for_good_is_named() -> None:
    layer = TorchLinear(bias=False)
    layer.linear_mode = "inference"
    with pytest.raises(UnsupportedModuleError, match=r"'0': it was repacked"):
        check(nn.Sequential(layer))


class Packed(nn.Module):
    """A layer of another package."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("codes", torch.zeros(4, 4, dtype=torch.uint8))


class Special(Tensor):
    """What torchao makes of a weight."""


def test_packed_weights_without_a_rule_are_named() -> None:
    special = nn.Linear(2, 2)
    special.weight = nn.Parameter(torch.zeros(2, 2).as_subclass(Special))
    replaced = fresh("4 bit")
    replaced.forward = lambda x: x
    found = untrustworthy_layers(nn.Sequential(Packed(), special, nn.Linear(2, 2), replaced))
    assert found.keys() == {"0", "1", "3"}


REAL = {
    "torch.TorchLinear": (torch.float32, 1e-5),
    "torch_aten_kernel.TorchAtenLinear": (torch.float32, 1e-5),
    "torch_cpu_avx512.TorchCpuAvx512Linear": (torch.float32, 1e-5),
    "torch_awq.AwqTorchLinear": (torch.float16, 0.01),
    "torch_aten_kernel_awq.TorchAtenAwqLinear": (torch.float32, 1e-5),
    "torch_cpu_avx512_awq.TorchCpuAvx512AwqLinear": (torch.float32, 1e-5),
}


def real(name: str, bias: bool) -> nn.Module:
    """A layer of the installed package, full of random codes."""
    module, _, kind = name.rpartition(".")
    options = {"bits": 4, "group_size": 32, "sym": False, "desc_act": False, "bias": bias}
    layer = getattr(pytest.importorskip(f"{PACKAGE}.{module}"), kind)(
        in_features=64, out_features=96, register_buffers=True, **options
    )
    for codes in (layer.qweight, layer.qzeros):
        codes.random_(-(2**31), 2**31 - 1)
    layer.scales.uniform_(0.01, 0.05)
    if bias:
        layer.bias.normal_()
    return layer.eval()


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("name", REAL)
def test_layers_of_gptqmodel(name: str, bias: bool) -> None:
    agree(real(name, bias), *REAL[name])


def test_a_cpu_layer_of_gptqmodel_repacks_unless_checked_first() -> None:
    layer = real("torch_aten_kernel.TorchAtenLinear", bias=False)
    layer.post_init()
    checked, x = copy.deepcopy(layer), torch.randn(2, 64).bfloat16()
    prevent_repacking(checked)
    with torch.no_grad():
        layer(x), checked(x)
    assert untrustworthy_layers(nn.Sequential(layer)).keys() == {"0"}
    assert untrustworthy_layers(nn.Sequential(checked)) == {}
