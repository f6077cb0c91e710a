"""Quantised layers: their gradient is that with respect to the weight W̃ they unpack.

    y_t = W̃ a_t + b:    ∇W̃ = Σ_t δ_t a_tᵀ,    ∇b = Σ_t δ_t

as in any linear layer, so that a quantised model's norms compare with those of the model before.
What "exact" means: a_t and δ_t are rounded as the layer itself rounds them before its product
(bitsandbytes' `compute_dtype`; float16 in AWQ), and the sum is taken in float32. An 8-bit layer
also rounds its input to integers; that step has no derivative, the layer's own backward pass skips
it, and so does the rule: a_t is the input before rounding. With a threshold for outliers an 8-bit
layer rounds by columns of the whole batch, so its output depends a little on the other examples.

Rules are kept by class name; a package is imported only when a model holds one of its layers.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from gnuq.gradnorm.factors import widen
from gnuq.gradnorm.owners import stored_weights
from gnuq.gradnorm.recorder import Recorder
from gnuq.gradnorm.rules import Backward, linear, rule

#: From a layer to its W̃, shape (outputs, inputs), by the layer's full class name.
UNPACK: dict[str, Callable[[Any], Tensor]] = {}

_BITSANDBYTES = "bitsandbytes.nn.modules."
_GPTQMODEL = "gptqmodel.nn_modules.qlinear."
#: bitsandbytes keeps codes in a parameter, of which the 8-bit kernels use a copy that no torch
#: function shows. gptqmodel keeps codes and bias in buffers.
_IN_PARAMETERS = {"weight": "weight"}
_IN_BUFFERS = {"weight": "qweight", "bias": "bias"}


def _layers(
    package: str, *names: str, unpack: Callable[[Any], Tensor], stored: dict[str, str]
) -> Callable[[Callable], Callable]:
    """Register the decorated function as the rule of several layers, `unpack` as their W̃."""

    def register(prepare: Callable[..., Backward]) -> Callable:
        for name in names:
            rule(package + name, "weight", "bias", stored=stored)(prepare)
            UNPACK[package + name] = unpack
        return prepare

    return register


def _rounded(module: nn.Module, a: Tensor, dtype: torch.dtype) -> Backward:
    """The linear rule on what the layer multiplies: a_t and δ_t cast to `dtype`."""
    exact = linear(module, a.to(dtype))
    return lambda delta: exact(delta.to(dtype))


def codes_in_order(module: Any) -> tuple[Tensor, Any]:
    """A 4-bit layer's codes and quantisation state, in their order before any repacking.

    On CPUs with AVX512-BF16 bitsandbytes repacks both for a kernel without a backward pass. Its
    own inverse leaves the blocks' scales in the kernel's order, or quantises them anew; these are
    the scales that the kernel uses, which repacking had rounded to bfloat16.
    """
    weight = module.weight
    found = getattr(weight, "quant_state", None) or module.quant_state
    if found is None:
        raise ValueError("it is not quantised yet; move it to a device first")
    state = copy.copy(found)
    if not getattr(state, "packing_format_for_cpu", False):
        return weight.data, state
    scales = state.absmax.T.reshape(-1).float()
    state.original_nested, state.state2, state.offset = False, None, None
    invert = import_module("bitsandbytes.functional")._convert_weight_packed_for_cpu_inverse
    codes, state = invert(weight.data, state)
    state.absmax = scales
    return codes, state


def _unpack_4bit(module: Any) -> Tensor:
    """W̃_ij = s_block(i, j) · table[code_ij]."""
    codes, state = codes_in_order(module)
    state.dtype = torch.float32
    return import_module("bitsandbytes.functional").dequantize_4bit(codes, state)


def _unpack_8bit(module: Any) -> Tensor:
    """W̃_ij = s_i · code_ij / 127."""
    weight, state = module.weight, module.state
    fresh = module.training and state.has_fp16_weights  # such a layer quantises at every call
    holder = state if weight.CB is None else weight
    codes, scales = holder.CB, holder.SCB
    if fresh or codes is None:
        quantise = import_module("bitsandbytes.functional").int8_vectorwise_quant
        codes, scales, _ = quantise(weight.data.half())
    return codes.float() * (scales.float() / 127)[:, None]


def _unpack_gptq(module: Any) -> Tensor:
    """W̃_ij = s_g(j)i · (code_ji − z_g(j)i), as the layer itself computes it."""
    _demand_checkpoint_order(module)
    return type(module).dequantize_weight(module).T  # the instance's own may be compiled: slow


def _unpack_awq(module: Any) -> Tensor:
    """W̃_ij = s_g(j)i · (code_ji − z_g(j)i), as the layer itself computes it."""
    _demand_checkpoint_order(module)
    packing = import_module("gptqmodel.quantization.awq.utils.packing_utils")
    return packing.dequantize_gemm(
        qweight=module.qweight,
        qzeros=module.qzeros,
        scales=module.scales,
        bits=module.bits,
        group_size=module.group_size,
    ).T


def _demand_checkpoint_order(module: Any) -> None:
    if repacked_for_good(module):
        raise ValueError("its weights were repacked for inference and cannot be read")


def repacked_for_good(module: nn.Module) -> bool:
    """Whether a gptqmodel CPU layer has rewritten its buffers, which it does at its first call."""
    return getattr(module, "linear_mode", None) == "inference"


@_layers(
    _BITSANDBYTES,
    "Linear4bit",
    "LinearNF4",
    "LinearFP4",
    unpack=_unpack_4bit,
    stored=_IN_PARAMETERS,
)
def linear_4bit(module: nn.Module, a: Tensor) -> Backward:
    """∇W̃ = Σ_t δ_t a_tᵀ, with a_t and δ_t in the layer's compute type."""
    return _rounded(module, a, getattr(module, "compute_dtype", None) or a.dtype)


@_layers(_BITSANDBYTES, "Linear8bitLt", unpack=_unpack_8bit, stored=_IN_PARAMETERS)
def linear_8bit(module: nn.Module, a: Tensor) -> Backward:
    """∇W̃ = Σ_t δ_t a_tᵀ, with a_t before it is rounded to integers."""
    return linear(module, a)


@_layers(
    _GPTQMODEL,
    "torch.TorchLinear",
    "torch.TorchQuantLinear",  # gptqmodel 5
    "tritonv2.TritonV2Linear",
    "tritonv2.TritonV2QuantLinear",  # gptqmodel 5
    "torch_aten_kernel.TorchAtenLinear",
    "torch_cpu_avx512.TorchCpuAvx512Linear",
    unpack=_unpack_gptq,
    stored=_IN_BUFFERS,
)
@_layers(
    _GPTQMODEL,
    "torch_awq.AwqTorchQuantLinear",  # gptqmodel 5
    "torch_aten_kernel_awq.TorchAtenAwqLinear",
    "torch_cpu_avx512_awq.TorchCpuAvx512AwqLinear",
    unpack=_unpack_awq,
    stored=_IN_BUFFERS,
)
def packed_linear(module: nn.Module, a: Tensor) -> Backward:
    """∇W̃ = Σ_t δ_t a_tᵀ, in the input's own type."""
    _refuse_adapter(module)
    return linear(module, a)


@_layers(_GPTQMODEL, "torch_awq.AwqTorchLinear", unpack=_unpack_awq, stored=_IN_BUFFERS)
def awq_linear(module: nn.Module, a: Tensor) -> Backward:
    """∇W̃ = Σ_t δ_t a_tᵀ, with a_t and δ_t in float16 unless they are half precision already."""
    _refuse_adapter(module)
    half = a.dtype in (torch.float16, torch.bfloat16)
    return _rounded(module, a, a.dtype if half else torch.float16)


def _refuse_adapter(module: nn.Module) -> None:
    if getattr(module, "adapter", None) is not None:
        raise NotImplementedError("its adapter's weights would be missed; merge or remove it")


def dequantised_weight(module: nn.Module) -> Tensor | None:
    """W̃ of a quantised layer in float32, shape (outputs, inputs); None for any other module.

    Raises:
        ValueError: the layer is not quantised yet, or has given its codes up.
    """
    unpack = UNPACK.get(_full_name(module))
    if unpack is None:
        return None
    with torch.no_grad():
        return unpack(module).float()


def squared_weight_norms(model: nn.Module) -> dict[str, tuple[float, int]]:
    """‖θ_j‖² and the number of entries of every parameter tensor j, by its name in the norms.

    Packed weights count as W̃, unpacked one layer at a time; tied parameters count once.
    """
    names = Recorder(model).names
    tensors = {id(x): x for x in (*model.parameters(), *stored_weights(model).values())}
    packed = {
        id(packed_codes(module)): module for module in model.modules() if is_quantised(module)
    }
    norms = {}
    for key, tensor in tensors.items():
        weight = dequantised_weight(packed[key]) if key in packed else tensor.detach()
        assert weight is not None
        norms[names[key]] = (_squared_norm(weight), weight.numel())
    return norms


def is_quantised(module: nn.Module) -> bool:
    """Whether `dequantised_weight` knows the layer."""
    return _full_name(module) in UNPACK


def packed_codes(module: Any) -> Tensor:
    """The tensor that a quantised layer keeps its codes in."""
    return module.qweight if _full_name(module).startswith(_GPTQMODEL) else module.weight


def _full_name(module: nn.Module) -> str:
    return f"{type(module).__module__}.{type(module).__qualname__}"


def _squared_norm(weight: Tensor, chunk: int = 1 << 22) -> float:
    """Summed in parts: no second copy in a wider type, and no loss over billions of entries."""
    parts = weight.flatten().split(chunk)
    return sum(float(widen(part).square().sum()) for part in parts)
