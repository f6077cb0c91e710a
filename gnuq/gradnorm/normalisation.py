"""Rules for norm layers: a weight and a shift on standardised inputs x̂.

Notation: δ_t the objective's gradient at the layer's output at position t. All these layers
have ∇w = Σ_t δ_t ⊙ x̂_t and ∇b = Σ_t δ_t; they differ in how x̂ comes about.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from gnuq.gradnorm import verified
from gnuq.gradnorm.factors import Dense, Factor, widen
from gnuq.gradnorm.rules import Backward, leading, rule

#: Spatial dimensions of the inputs of layers that fix them.
SPATIAL: dict[type[nn.Module], int] = {
    nn.BatchNorm2d: 2,
    nn.BatchNorm3d: 3,
    nn.InstanceNorm1d: 1,
    nn.InstanceNorm2d: 2,
    nn.InstanceNorm3d: 3,
}


def _batch_norm_output(module: _BatchNorm, x: Tensor) -> Tensor:
    mean, variance = module.running_mean, module.running_var
    return F.batch_norm(x[:1], mean, variance, module.weight, module.bias, eps=module.eps)


def _group_norm_output(module: nn.GroupNorm, x: Tensor) -> Tensor:
    return F.group_norm(x[:1], module.num_groups, module.weight, module.bias, module.eps)


@rule(nn.BatchNorm1d, "weight", "bias", by_token=False, output=_batch_norm_output)
@rule(nn.BatchNorm2d, "weight", "bias", by_token=False, output=_batch_norm_output)
@rule(nn.BatchNorm3d, "weight", "bias", by_token=False, output=_batch_norm_output)
def batch_norm(module: _BatchNorm, x: Tensor) -> Backward:
    """y_t = w ⊙ x̂_t + b, x̂ = (x − μ) / √(σ² + ε) of running μ, σ²:  ∇w = Σ_t δ_t ⊙ x̂_t."""
    mean, variance = module.running_mean, module.running_var
    if module.training or mean is None or variance is None:
        raise NotImplementedError("it normalises over the batch, so examples are not independent")
    _beside_the_batch(x, module.num_features, SPATIAL.get(type(module)))
    return _by_channel(x, lambda x: F.batch_norm(x, mean, variance, eps=module.eps))


@rule(nn.GroupNorm, "weight", "bias", by_token=False, output=_group_norm_output)
def group_norm(module: nn.GroupNorm, x: Tensor) -> Backward:
    """y_t = w ⊙ x̂_t + b, x̂ standardised in each group of channels:  ∇w = Σ_t δ_t ⊙ x̂_t."""
    _beside_the_batch(x, module.num_channels)
    return _by_channel(x, lambda x: F.group_norm(x, module.num_groups, eps=module.eps))


@rule(nn.InstanceNorm1d, "weight", "bias", by_token=False)
@rule(nn.InstanceNorm2d, "weight", "bias", by_token=False)
@rule(nn.InstanceNorm3d, "weight", "bias", by_token=False)
def instance_norm(module: _InstanceNorm, x: Tensor) -> Backward:
    """y_t = w ⊙ x̂_t + b, x̂ standardised in each channel:  ∇w = Σ_t δ_t ⊙ x̂_t."""
    _beside_the_batch(x, module.num_features, SPATIAL[type(module)])
    own = module.training or not module.track_running_stats
    mean, variance = (None, None) if own else (module.running_mean, module.running_var)
    return _by_channel(
        x, lambda x: F.instance_norm(x, mean, variance, use_input_stats=own, eps=module.eps)
    )


def _beside_the_batch(x: Tensor, channels: int, spatial: int | None = None) -> None:
    """The channels are dimension 1, behind the batch."""
    as_wide = spatial is None or x.ndim == spatial + 2
    if x.ndim < 2 or x.shape[1] != channels or not as_wide:
        raise NotImplementedError("its input has no batch dimension; give it one of size 1")


def _by_channel(x: Tensor, standardise: Callable[[Tensor], Tensor]) -> Backward:
    """∇w = Σ_t δ_t ⊙ x̂_t and ∇b = Σ_t δ_t of weights that the channels are multiplied by.

    x̂ is computed anew in each backward pass: kept, it would double the layer's memory.
    """

    def backward(delta: Tensor) -> dict[str, Factor]:
        delta = widen(delta)
        return {
            "weight": Dense.over((delta * widen(standardise(x))).movedim(1, -1)),
            "bias": Dense.over(delta.movedim(1, -1)),
        }

    return backward


def rounded_rms_norm(module: nn.Module, x: Tensor) -> Backward:
    """y_t = w ⊙ x̂_t, x̂_t = x_t / rms(x_t) rounded to x's data type:  ∇w = Σ_t δ_t ⊙ x̂_t."""

    def backward(delta: Tensor) -> dict[str, Factor]:
        scaled = widen(_scaled(module, x).to(x.dtype))
        return {"weight": Dense.over(widen(delta) * scaled)}

    return backward


def wide_rms_norm(module: nn.Module, x: Tensor) -> Backward:
    """y_t = w ⊙ x̂_t or (1 + w) ⊙ x̂_t, x̂_t = x_t / rms(x_t) in float32:  ∇w = Σ_t δ_t ⊙ x̂_t."""

    def backward(delta: Tensor) -> dict[str, Factor]:
        return {"weight": Dense.over(widen(delta) * _scaled(module, x))}

    return backward


def _scaled(module: Any, x: Tensor) -> Tensor:
    """x̂ in float32 whatever x is, as these classes compute it."""
    wide = x.float()
    eps = getattr(module, "variance_epsilon", None)
    mean = torch.linalg.vector_norm(wide, dim=-1, keepdim=True).square() / wide.shape[-1]
    return wide * torch.rsqrt(mean + (module.eps if eps is None else eps))


def _rounded_output(module: Any, x: Tensor) -> Tensor:
    return module.weight * _scaled(module, leading(x)).to(x.dtype)


def _wide_output(module: Any, x: Tensor) -> Tensor:
    return (module.weight.float() * _scaled(module, leading(x))).to(x.dtype)


def _shifted_output(module: Any, x: Tensor) -> Tensor:
    return ((1 + module.weight.float()) * _scaled(module, leading(x))).to(x.dtype)


for name in verified.ROUNDED_RMS_NORMS:
    rule(verified.full_name(name), "weight", output=_rounded_output)(rounded_rms_norm)
for name in verified.WIDE_RMS_NORMS:
    rule(verified.full_name(name), "weight", output=_wide_output)(wide_rms_norm)
for name in verified.SHIFTED_RMS_NORMS:
    rule(verified.full_name(name), "weight", output=_shifted_output)(wide_rms_norm)
