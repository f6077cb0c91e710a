"""What is kept of a call to see later that it was what its rule assumes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

#: Entries of each weight that are compared between the forward and the backward pass.
SAMPLE = 256


def sampled(weight: Tensor) -> Tensor:
    """Some entries of a weight, evenly spread over its memory; a copy."""
    if not weight.is_contiguous():
        weight = weight.as_strided((weight.numel(),), (1,)) if _dense(weight) else weight.flatten()
    flat = weight.view(-1)
    return flat[:: max(1, len(flat) // SAMPLE)].clone()


def _dense(weight: Tensor) -> bool:
    """Whether the entries fill their memory without gaps, in whatever order."""
    strides = sorted(zip(weight.stride(), weight.shape, strict=True))
    filled = 1
    for stride, size in strides:
        if size > 1 and stride != filled:
            return False
        filled *= size
    return weight.numel() > 0


def same_bytes(a: Tensor, b: Tensor) -> bool:
    """Equal to the last bit; a NaN equals itself."""
    return a.shape == b.shape and torch.equal(a.view(torch.uint8), b.view(torch.uint8))


def first_rows_agree(expected: Tensor, output: Any) -> bool:
    """Whether the rows that a formula gave are those of the output, up to rounding."""
    if not isinstance(output, Tensor) or output.ndim != expected.ndim:
        return False
    rows = output[tuple(slice(size) for size in expected.shape)]
    if rows.shape != expected.shape or rows.dtype != expected.dtype:
        return False
    gap, largest = (rows - expected).abs().amax(), expected.abs().amax()
    return bool(gap <= max(torch.finfo(rows.dtype).eps, 1e-12) ** 0.5 * largest)
