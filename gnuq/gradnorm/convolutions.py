"""Rules for convolutions: a linear map, with every position's receptive field for its input.

Notation: a_t what the kernel sees at position t, flattened over channels and kernel; δ_t the
objective's gradient at the layer's output there. A grouped convolution is a stack of such maps.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.conv import _ConvNd

from gnuq.gradnorm.factors import Dense, Factor, Outer, Routed, Tokens, widen
from gnuq.gradnorm.rules import Backward, rule


def _output(module: _ConvNd, x: Tensor) -> Tensor:
    """W ∗ x + b of the first example."""
    count = len(module.kernel_size)
    convolve = (F.conv1d, F.conv2d, F.conv3d)[count - 1]
    padding, first = module.padding, x[:1]
    if module.padding_mode != "zeros":
        pads = module._reversed_padding_repeated_twice
        first, padding = F.pad(first, pads, module.padding_mode), (0,) * count
    bias, stride = module.bias, module.stride
    found: Tensor = convolve(
        first, module.weight, bias, stride, padding, module.dilation, module.groups
    )
    return found


@rule(nn.Conv1d, "weight", "bias", output=_output)
@rule(nn.Conv2d, "weight", "bias", output=_output)
@rule(nn.Conv3d, "weight", "bias", output=_output)
def convolution(module: _ConvNd, x: Tensor) -> Backward:
    """y_t = W a_t + b:  ∇W = Σ_t δ_t a_tᵀ in each group,  ∇b = Σ_t δ_t."""
    _beside_the_batch(module, x)

    def backward(delta: Tensor) -> dict[str, Factor]:
        outputs = _positions(module, delta)
        fields = _receptive_fields(module, x, delta)
        return {"weight": _stacked(fields, outputs, module.groups), "bias": Dense.over(outputs)}

    return backward


@rule(nn.ConvTranspose1d, "weight", "bias")
@rule(nn.ConvTranspose2d, "weight", "bias")
@rule(nn.ConvTranspose3d, "weight", "bias")
def transposed_convolution(module: _ConvNd, x: Tensor) -> Backward:
    """⟨y, z⟩ = ⟨x, W z⟩ + ⟨b, z⟩:  ∇W = Σ_t x_t d_tᵀ, d_t what the kernel sees of δ at t."""
    _beside_the_batch(module, x)

    def backward(delta: Tensor) -> dict[str, Factor]:
        inputs = _positions(module, x)
        fields = _receptive_fields(module, delta, x)
        bias = Dense.over(_positions(module, delta))
        return {"weight": _stacked(fields, inputs, module.groups), "bias": bias}

    return backward


def _beside_the_batch(module: _ConvNd, x: Tensor) -> None:
    channels = x.ndim - len(module.kernel_size) - 1
    if channels not in (1, 2) or x.shape[channels] != module.in_channels:  # 2: after the tokens
        raise NotImplementedError("its input has no batch dimension; give it one of size 1")


def _positions(module: _ConvNd, x: Tensor) -> Float[Tensor, "batch tokens channels"]:
    """All positions in a row, those of an example's images too if it has several."""
    return widen(x).flatten(-len(module.kernel_size)).mT.flatten(1, -2)


def _receptive_fields(
    module: _ConvNd, x: Tensor, at: Tensor
) -> Float[Tensor, "batch tokens features"]:
    """What the kernel sees of `x` at each position of `at`, in the order of the weight."""
    count = len(module.kernel_size)
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    images = widen(x).reshape(-1, *x.shape[-count - 1 :])
    images = F.pad(images, module._reversed_padding_repeated_twice, mode)
    windows = zip(
        module.kernel_size, module.stride, module.dilation, at.shape[-count:], strict=True
    )
    for axis, (size, stride, dilation, length) in enumerate(windows, start=2):
        images = images.unfold(axis, dilation * (size - 1) + 1, stride)[..., ::dilation]
        images = images.narrow(axis, 0, length)  # output_padding adds windows without an input
    fields = images.movedim(1, count + 1).flatten(count + 1)
    return fields.reshape(len(x), -1, fields.shape[-1])


def _stacked(
    a: Float[Tensor, "batch tokens inputs"],
    delta: Float[Tensor, "batch tokens outputs"],
    groups: int,
) -> Factor:
    """Σ_t δ_t a_tᵀ in each group, in whatever shape takes least memory.

    Images have so many positions that the gradient itself is smaller than its factors; then it
    is multiplied out, and its positions cannot be told apart any more.
    """
    a, delta = a.unflatten(2, (groups, -1)), delta.unflatten(2, (groups, -1))
    (batch, positions, _, inputs), outputs = a.shape, delta.shape[-1]
    if positions * (inputs + outputs) > inputs * outputs:
        return Dense.of(torch.einsum("btgo,btgi->bgoi", delta, a))
    if groups == 1:
        return Outer(Tokens.of(a), Tokens.of(delta))
    group = torch.arange(groups, device=a.device).expand(batch, positions, groups)
    return Routed(group, Tokens.of(a), Tokens.of(delta), groups)
