"""Whether the gradients that pass through quantised layers can be trusted, before any is used.

A quantised layer runs a foreign kernel, whose backward pass may be missing or wrong without an
error: then every norm below that layer is wrong. So each layer gets a small random input, and
what it returns is compared with W̃: the output with x W̃ᵀ + b, the input's gradient with δ W̃.

The known trap: on CPUs with AVX512-BF16 bitsandbytes repacks a 4-bit layer in its first forward
pass without gradients, for a kernel that has no backward pass. `check` prevents and undoes it.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from gnuq.gradnorm.errors import UnsupportedModuleError
from gnuq.gradnorm.quantized import (
    codes_in_order,
    dequantised_weight,
    is_quantised,
    packed_codes,
    repacked_for_good,
)
from gnuq.gradnorm.rules import find_rule

_REPACKS = "support_avx512bf16_for_cpu"
#: TF32 and float16 keep ten bits; a product in them is off by about 2⁻¹¹ relative to its norm.
_FINEST = 2.0**-10
#: An 8-bit layer rounds each input row to 1/127 of its largest entry, which is 2.5 to 4.5 standard
#: deviations: 0.6 to 1 % of the output's norm. A wrong output is off by 100 %.
_ROUNDED_INPUT = 0.04
#: Types in which only packed codes are stored; position indices are int64, masks are bool.
_CODES = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.float8_e4m3fn, torch.float8_e5m2)

#: What the quantised layers of a checked model looked like when they passed.
_passed: WeakKeyDictionary[nn.Module, tuple] = WeakKeyDictionary()


def check(model: nn.Module) -> None:
    """Prevent repacking, and demand that every quantised layer's gradient is right.

    Called again, it only looks whether a layer has changed since.

    Raises:
        UnsupportedModuleError: some layers cannot be trusted; it names them and the remedy.
    """
    prevent_repacking(model)
    seen = _looks(model)
    if _passed.get(model) == seen:
        return
    if bad := untrustworthy_layers(model):
        listed = "; ".join(f"{name or '(the model)'!r}: {reason}" for name, reason in bad.items())
        raise UnsupportedModuleError(
            f"{len(bad)} quantised layers give no gradient to rely on. {listed}. Load the model "
            "anew with a differentiable kernel (GPTQ and AWQ: backend='gptq_torch' or "
            "'awq_torch'), call this check before any other forward pass, or load the model "
            "without quantisation."
        )
    _passed[model] = seen


def prevent_repacking(model: nn.Module) -> int:
    """Keep layers from repacking their weights for a kernel without a backward pass.

    A bitsandbytes layer that was repacked is put back; the scales of its blocks, which repacking
    had rounded to bfloat16, stay rounded, so W̃ is that of the repacked layer.

    Returns:
        How many layers were changed.
    """
    return sum(_prevent(module) for module in model.modules())


def _prevent(module: Any) -> bool:
    if hasattr(module, "linear_mode") and is_quantised(module) and module.linear_mode is None:
        module.linear_mode = "train"  # what gptqmodel's CPU layers note at a call with gradients
        return True
    if not hasattr(module, _REPACKS):
        return False
    changed = bool(getattr(module, _REPACKS))
    setattr(module, _REPACKS, False)
    state = getattr(module.weight, "quant_state", None)
    if getattr(state, "packing_format_for_cpu", False):
        codes, state = codes_in_order(module)
        module.weight.data, module.weight.quant_state, module.quant_state = codes, state, state
        changed = True
    return changed


def untrustworthy_layers(model: nn.Module) -> dict[str, str]:
    """The layers whose weights or gradients cannot be accounted for: name → reason."""
    dtype = _activation_type(model)
    reasons = {}
    for name, module in model.named_modules():
        reason = _doubt(module, dtype) if is_quantised(module) else _opaque(module)
        if reason is not None:
            reasons[name] = reason
    return reasons


def coupled_layers(model: nn.Module) -> list[str]:
    """Names of the layers that make examples of a batch depend on each other a little.

    An 8-bit layer with an outlier threshold does not round a column in which any row of the
    batch has an outlier. What it computes, and the norms, then change with the batch's other
    examples (by several per cent in a network full of outliers): score one example at a time.
    """
    return [name for name, module in model.named_modules() if _couples(module)]


@contextmanager
def uncoupled(model: nn.Module) -> Generator[None]:
    """Let the layers that `coupled_layers` names treat outliers like any other number."""
    states: list[Any] = [module.state for module in model.modules() if _couples(module)]
    thresholds = [state.threshold for state in states]
    for state in states:
        state.threshold = 0.0
    try:
        yield
    finally:
        for state, threshold in zip(states, thresholds, strict=True):
            state.threshold = threshold


def _couples(module: Any) -> bool:
    return is_quantised(module) and getattr(getattr(module, "state", None), "threshold", 0) > 0


def _opaque(module: nn.Module) -> str | None:
    """Why another layer's weights may be packed, in a way that no rule knows."""
    kind = type(module).__name__
    parameters = list(module.parameters(recurse=False))
    if special := [type(p.data).__name__ for p in parameters if type(p.data) is not Tensor]:
        return f"{kind} holds a weight of type {special[0]}, which no rule covers"
    own = [*parameters, *module.buffers(recurse=False)]
    if find_rule(module) is None and any(x.ndim == 2 and x.dtype in _CODES for x in own):
        return f"{kind} holds packed weights, and has no rule; their gradient would be missed"
    return None


def _doubt(module: nn.Module, dtype: torch.dtype) -> str | None:
    """Why a quantised layer's gradient is not to be trusted, or None."""
    if find_rule(module) is None:
        return "its forward method or its parameters were replaced, so that its rule is void"
    if repacked_for_good(module):
        return "it was repacked for inference in an earlier forward pass, which cannot be undone"
    try:
        with _as_before(module), torch.inference_mode(False), torch.enable_grad():
            return _probe(module, dtype)
    except Exception as error:  # a foreign kernel may raise anything
        return f"a small input makes it fail: {str(error)[:200]}"


def _probe(module: nn.Module, dtype: torch.dtype) -> str | None:
    """Compare y with x W̃ᵀ + b and ∂⟨δ, y⟩/∂x with δ W̃, for random x and δ."""
    weight = dequantised_weight(module)
    assert weight is not None
    generator = torch.Generator().manual_seed(0)

    def random(width: int) -> Tensor:
        drawn = torch.randn(2, width, generator=generator, dtype=torch.float32)
        return drawn.to(weight.device, dtype)

    x, delta = random(weight.shape[1]).requires_grad_(), random(weight.shape[0])
    y = module.forward(x)
    found = None
    if y.requires_grad:
        (found,) = torch.autograd.grad(y, x, delta, allow_unused=True)
    if found is None:
        return "no gradient passes through its kernel"
    bias = getattr(module, "bias", None)
    expected = x.detach().float() @ weight.mT + (0 if bias is None else bias.detach().float())
    tolerance = _tolerance(module, dtype)
    rounded = max(tolerance, _ROUNDED_INPUT) if hasattr(module, "state") else tolerance
    if (off := _distance(found, delta.float() @ weight)) > tolerance:
        return f"its input's gradient is off by {off:.1%}"
    if (off := _distance(y.detach(), expected)) > rounded:
        return f"its output is off by {off:.1%} from that of its unpacked weight"
    return None


def _distance(found: Tensor, expected: Tensor) -> float:
    """‖found − expected‖ / ‖expected‖."""
    gap = torch.linalg.vector_norm(found.float() - expected)
    return float(gap / torch.linalg.vector_norm(expected).clamp_min(1e-30))


def _tolerance(module: Any, dtype: torch.dtype) -> float:
    """Four units of the coarsest type that the layer may round to."""
    state = getattr(getattr(module, "weight", None), "quant_state", None)
    types = {dtype, getattr(module, "compute_dtype", None), getattr(state, "dtype", None)}
    return 4 * max([_FINEST, *(torch.finfo(kind).eps for kind in types if kind is not None)])


def _activation_type(model: nn.Module) -> torch.dtype:
    """The type that quantised layers are called in: that of the model's ordinary parameters."""
    ordinary = [module for module in model.modules() if not is_quantised(module)]
    kinds = [p.dtype for module in ordinary for p in module.parameters(recurse=False)]
    biases = [getattr(module, "bias", None) for module in model.modules() if is_quantised(module)]
    kinds += [bias.dtype for bias in biases if isinstance(bias, Tensor)]
    return next((kind for kind in kinds if kind.is_floating_point), torch.float32)


@contextmanager
def _as_before(module: Any) -> Generator[None]:
    """Freeze a layer, and undo what a call writes into it: a compute type, codes, a cast bias."""
    parameters = list(module.parameters(recurse=False))
    written = [vars(module), module._parameters, module._buffers, *map(vars, parameters)]
    written += [vars(state) for state in (getattr(module, "state", None),) if state is not None]
    kept = [(attributes, dict(attributes)) for attributes in written]
    weights = [(parameter, parameter.data, parameter.requires_grad) for parameter in parameters]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for attributes, before in kept:
            attributes.clear()
            attributes.update(before)
        for parameter, data, trained in weights:
            if parameter.dtype != data.dtype or parameter.data_ptr() != data.data_ptr():
                parameter.data = data
            parameter.requires_grad_(trained)


def _looks(model: nn.Module) -> tuple:
    """What changes when a layer is replaced, moved, cast, repacked or switched."""
    dtype = _activation_type(model)
    return (dtype, *(_look(module) for module in model.modules()))


def _look(module: nn.Module) -> tuple:
    if not is_quantised(module):
        return (id(module),)
    codes = packed_codes(module)
    mode = getattr(module, "linear_mode", None)
    return id(module), codes.data_ptr(), codes.dtype, codes.device, module.training, mode
