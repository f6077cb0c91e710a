"""Whether a batch's examples stay apart, and in their rows, at every layer.

Two looks. The first is at the autograd graph: each operation of a known kind, along dimensions
that are not the batch, keeps rows where they are; nearly all models are made of such operations.
Where one is not, a second backward pass starts with every s_b multiplied by a number r_b of its
own. If examples stay apart, δ_b at a layer's output is the gradient of s_b alone, and each row of
every δ must be r_b times what it was; rows that were permuted and put back, or that mix, are not.
The r_b are signed powers of two, so that not a bit changes by rounding, in any data type.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import BackwardCFunction

from gnuq.gradnorm.calls import Call

#: Exponents of the r_b; twice as many examples are surely told apart.
EXPONENTS = range(-8, 9)
#: In float16, whose range is small.
FEWER = range(-3, 4)
#: By how much a row may differ from its multiple, relative to the sum of its absolute entries.
TOLERANCE = 1e-3

#: Operations on each entry, or on each example whatever stands in it.
ENTRYWISE = frozenset(
    """
    Abs Acos Add Addcdiv Addcmul Alias Asinh Atan Atanh AvgPool2D AvgPool3D Celu Clamp ClampMax
    ClampMin Clone ConstantPadNd Convolution Copy Cos Cosh Detach Div Elu Erf Erfc Exp Exp2 Expand
    Expm1 Fill Gelu Hardsigmoid Hardswish Hardtanh LeakyRelu Lerp Log Log1P Log2 LogSigmoid
    Logaddexp MaskedFill MatMul4Bit MatMul8bitLt MaxPool2DWithIndices Maximum Minimum Mish
    MkldnnConvolution Mul NativeBatchNorm NativeGroupNorm NativeLayerNorm Neg Pow Prelu Reciprocal
    ReflectionPad1D ReflectionPad2D Relu ReplicationPad1D ReplicationPad2D ReshapeAlias Rsqrt Rsub
    ScaledDotProductCudnnAttention ScaledDotProductEfficientAttention
    ScaledDotProductFlashAttention ScaledDotProductFlashAttentionForCpu Sigmoid Silu Sin Sinh
    Softplus Softshrink Sqrt Sub Tan Tanh Threshold ToCopy Tril Triu UnsafeView View Where
    Attach AccumulateGrad
    """.split()  # noqa: SIM905 one a line would be a page
)
#: Operations along dimensions, which their node tells.
ALONG = frozenset(
    """
    Amax Amin Cat Cummax Cumprod Cumsum Diagonal Flip Glu LinalgVectorNorm LogSoftmax
    Logcumsumexp Logsumexp Max Mean Min Norm Permute Prod Roll SafeSoftmax Select Slice Softmax
    Split SplitWithSizes Squeeze Stack Std Sum Transpose Unbind Unfold UnsafeSplit Unsqueeze Var
    """.split()  # noqa: SIM905
)
#: Operations along a dimension with an index, which may be another one in the next batch.
INDEXED = frozenset({"Gather", "IndexSelect", "ScatterAdd", "Scatter", "Sort", "Topk"})
#: Products of matrices, by the place of the second one among the operands.
PRODUCTS = {"Mm": 1, "Addmm": 2}
BATCHED = frozenset({"Bmm", "Baddbmm"})
#: Operations that take the batch apart, to be put together in whatever order.
REARRANGED = frozenset(
    {"Cat", "Flip", "Roll", "Select", "Slice", "Split", "SplitWithSizes", "Stack", "Unbind"}
)
#: bitsandbytes' own functions.
QUANTISED = frozenset({"MatMul4Bit", "MatMul8bitLt"})
_DIMENSIONS = ("_saved_dim", "_saved_dims", "_saved_dim0", "_saved_dim1", "_saved_dimension")

#: "keeps": every row stays where it is. "static": rows may move, alike in every batch. "moves":
#: they may move otherwise with other data.
Rows = Literal["keeps", "static", "moves"]


def look(nodes: Iterable[Any], batch: int) -> tuple[frozenset[tuple[str, int]], set[Rows]]:
    """What a graph is made of, and what its operations may do to rows.

    Args:
        nodes: of the autograd graph.
        batch: the number of examples.
    """
    counts: Counter[str] = Counter()
    found: set[Rows] = set()
    for node in nodes:
        kind = node.name().rpartition("::")[2].rstrip("0123456789").removesuffix("Backward")
        counts[kind] += 1
        found.add(_rows(node, kind, batch))
    indexed = any(kind in INDEXED or kind == "Index" for kind in counts)
    if "static" in found and indexed:  # the batch may be another dimension where the index is
        found.add("moves")
    return frozenset(counts.items()), found


def _rows(node: Any, kind: str, batch: int) -> Rows:
    if kind in ("Attach", "AccumulateGrad"):
        return "keeps"
    if isinstance(node, BackwardCFunction) and kind not in QUANTISED:
        return "moves"  # it may be called like one of torch's own
    if kind in ENTRYWISE or kind in BATCHED:
        return "keeps" if _in_blocks(node, batch) else "static"
    if kind in ALONG:
        if 0 in _axes(node, kind):
            return "moves" if kind in REARRANGED else "static"
        return "keeps" if _in_blocks(node, batch) else "static"
    if kind in INDEXED:
        return "keeps" if 0 not in _axes(node, kind) else "moves"
    if kind == "Index":
        indices = getattr(node, "_saved_indices", None) or (node,)
        return "keeps" if indices[0] is None else "moves"
    if kind in PRODUCTS:
        depends = node.next_functions[PRODUCTS[kind]][0] is not None
        return "moves" if depends else "keeps" if _in_blocks(node, batch) else "static"
    return "moves"


def _in_blocks(node: Any, batch: int) -> bool:
    """Whether dimension 0 holds whole examples, one after the other, before and after."""
    shapes = [tuple(m.shape) for m in node._input_metadata]
    before = getattr(node, "_saved_self_sym_sizes", None)
    shapes += [tuple(before)] if before else []
    return all(shape and shape[0] % batch == 0 for shape in shapes)


def _axes(node: Any, kind: str) -> set[int]:
    """The dimensions that an operation works along; all if it names none."""
    named = [v for name in _DIMENSIONS for v in _numbers(getattr(node, name, None))]
    if kind == "Permute":
        return {0} if named[:1] != [0] else set()
    after = tuple(node._input_metadata[0].shape)
    before = getattr(node, "_saved_self_sym_sizes", None)
    lost = len(named) if getattr(node, "_saved_keepdim", True) is False else 0
    count = len(before) if before else len(after) + lost
    return {v if v >= 0 else v + count for v in named} or {0}


def _numbers(dimensions: Any) -> Iterator[int]:
    """Signed numbers from what autograd keeps of a dimension, or of several."""
    for v in dimensions if isinstance(dimensions, tuple) else (dimensions,):
        if isinstance(v, int):
            yield v - 2**64 if v >= 2**63 else v


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
        batch, sums = len(self.factors), None
        for i, delta in call.deltas.items():
            if call.rule is not None and call.rule.whole:  # it sees where the examples stand
                if not hasattr(call.module, "batch_first"):
                    return None
                first = i == 0 and call.module.batch_first  # states of all layers come first
                delta = delta if first or delta.ndim < 3 else delta.transpose(0, 1)
            if delta.ndim == 0 or delta.shape[0] % batch or delta.shape[0] == 0:
                return None  # what keeps no examples apart is refused elsewhere
            rows = delta.detach().reshape(batch, -1)
            wide = torch.float32 if rows.device.type == "mps" else torch.float64
            found = [rows.sum(1, dtype=wide), rows.abs().sum(1, dtype=wide)]
            sums = (
                found if sums is None else [x + y.to(x) for x, y in zip(sums, found, strict=True)]
            )
        return sums
