"""Whether a batch's examples stay apart, and in their rows, at every layer: one backward pass.

If they do, δ_b at a layer's output is the gradient of s_b alone. A second backward pass starts with
every s_b multiplied by a number r_b of its own; then each row of every δ must be r_b times what it
was. Rows that were permuted and put back, or that mix, are not. The r_b are signed powers of two,
so that not a bit changes by rounding, in any data type.

A pass costs about as much as the backward pass that it repeats. Rows can only move from one batch
to the next where an operation is given an index, so later batches of a graph that was found in
order, and has no such operation, need none.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from gnuq.gradnorm.calls import Call

#: Exponents of the r_b; twice as many examples are surely told apart.
EXPONENTS = range(-8, 9)
#: In float16, whose range is small.
FEWER = range(-3, 4)
#: By how much a row may differ from its multiple, relative to the sum of its absolute entries.
TOLERANCE = 1e-3

#: Operations that keep rows where they are, or move them alike in every batch of a graph.
STATIC = frozenset(
    """
    _Attach Abs AccumulateGrad Acos AdaptiveAvgPool2D Add Addbmm Addcdiv Addcmul Addmm Alias
    Amax Amin Asinh AsStrided Atan AvgPool2D AvgPool3D Baddbmm Bmm Cat Celu Clamp ClampMax
    ClampMin Clone Constant_pad_nd ConstantPadNd Convolution Copy CopyBackwards Cos Cosh Cumsum
    Detach Diagonal Div Elu Embedding Erf Exp Exp2 Expand Expm1 Fill Flatten FusedRmsNorm
    FusedRMSNorm Gelu Glu Hardsigmoid Hardswish Hardtanh LeakyRelu LinalgVecdot LinalgVectorNorm
    Linear Log Log1P Log2 Logaddexp LogSigmoid LogSoftmax Logsumexp MaskedFill MatMul4Bit
    MatMul8bitLt Max Maximum MaxPool2DWithIndices Mean Min Minimum Mish Mm Mul Mv Narrow
    NativeBatchNorm NativeGroupNorm NativeLayerNorm Neg Norm Permute PixelShuffle Pow Prelu Prod
    Reciprocal ReflectionPad1D ReflectionPad2D Relu Repeat ReplicationPad2D ReshapeAlias RmsNorm
    Rsqrt Rsub ScaledDotProductCudnnAttention ScaledDotProductEfficientAttention
    ScaledDotProductFlashAttention ScaledDotProductFlashAttentionForCpu Select Sigmoid SiLU Silu
    Sin Sinh Slice Softmax Softplus Softshrink Split SplitWithSizes Sqrt Squeeze Stack Std Sub
    Sum Swapaxes T Tan Tanh Threshold To ToCopy Transpose Tril Triu Unbind Unflatten Unfold
    UnsafeSplit UnsafeView Unsqueeze UpsampleBilinear2D UpsampleNearest2D Var View ViewAsReal
    Where
    """.split()  # noqa: SIM905 one a line would be a page
)
#: Operations with an index along one dimension, which their node tells.
ALONG = frozenset({"Gather", "IndexSelect", "ScatterAdd", "Scatter", "TakeAlongDim"})


def kinds(nodes: Iterable[Any]) -> tuple[frozenset[tuple[str, int]], bool]:
    """What a graph is made of, and whether it may move rows otherwise for other data.

    Args:
        nodes: of the autograd graph.

    Returns:
        How often each kind of node occurs; whether some node may move rows.
    """
    counts: Counter[str] = Counter()
    moving = False
    for node in nodes:
        kind = node.name().rpartition("::")[2].rstrip("0123456789").removesuffix("Backward")
        counts[kind] += 1
        moving = moving or not _keeps_rows(node, kind)
    return frozenset(counts.items()), moving


def _keeps_rows(node: Any, kind: str) -> bool:
    if kind in ALONG:
        return getattr(node, "_saved_dim", 0) > 0
    if kind == "Index":
        indices = getattr(node, "_saved_indices", None) or (node,)
        return indices[0] is None
    return kind in STATIC


class Probe:
    """The second backward pass of one batch, and the comparison.

    Args:
        batch: the number of examples.
        draw: random numbers.
        half: whether gradients are float16.

    Attributes:
        factors: r, shape (batch,), float64.
    """

    def __init__(self, batch: int, draw: random.Random, *, half: bool = False) -> None:
        signed = [sign * 2.0**k for k in (FEWER if half else EXPONENTS) for sign in (1, -1)]
        rounds = -(-batch // len(signed))
        drawn = [r for _ in range(rounds) for r in draw.sample(signed, len(signed))]
        self.factors = torch.tensor(drawn[:batch], dtype=torch.float64)
        self._expected: dict[int, list[Tensor]] = {}

    def note(self, call: Call) -> None:
        """Keep the scaled rows' sums, in the pass that started with r."""
        if (rows := self._rows(call)) is not None:
            self._expected[id(call)] = rows

    def compare(self, call: Call) -> None:
        """Demand that the scaled rows were r times these.

        Raises:
            UnsupportedModuleError: they were not.
        """
        rows, scaled = self._rows(call), self._expected.get(id(call))
        if rows is None or scaled is None:
            return
        r = self.factors.to(rows[0])
        slack = TOLERANCE * r.abs() * rows[1]
        near = [(scaled[0] - r * rows[0]).abs() <= slack]
        near.append((scaled[1] - r.abs() * rows[1]).abs() <= slack)
        finite = torch.isfinite(rows[1])  # what is not is refused elsewhere
        wrong = (finite & ~(near[0] & near[1])).nonzero().flatten().tolist()
        if wrong:
            raise call.refuse(
                f"the gradients at its output show that example {wrong[0]} of the batch is not in "
                "its row there, or depends on others (sorted by length, mixed over the batch, "
                "dimension 0 is not the batch). Score one example at a time."
            )

    def _rows(self, call: Call) -> list[Tensor] | None:
        """Sum and absolute sum of every example's δ, in float64."""
        if call.rule is not None and call.rule.whole:
            return None  # its rule sees for itself where the examples stand
        batch, sums = len(self.factors), None
        for delta in call.deltas.values():
            if delta.ndim == 0 or delta.shape[0] % batch or delta.shape[0] == 0:
                return None  # what keeps no examples apart is refused elsewhere
            rows = delta.detach().reshape(batch, -1)
            wide = torch.float32 if rows.device.type == "mps" else torch.float64
            found = [rows.sum(1, dtype=wide), rows.abs().sum(1, dtype=wide)]
            sums = (
                found if sums is None else [x + y.to(x) for x, y in zip(sums, found, strict=True)]
            )
        return sums
