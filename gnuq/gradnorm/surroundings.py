"""What around a pass would change what it computes: modes, memory, random numbers."""

from __future__ import annotations

import sys
import threading
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from itertools import pairwise

import torch
from torch import Tensor, nn

from gnuq.gradnorm.errors import UnsupportedModuleError


def demand_plain_mode() -> None:
    """No surrounding block changes how a pass computes.

    Raises:
        ValueError: called under inference_mode or autocast.
    """
    if torch.is_inference_mode_enabled():
        raise ValueError(
            "called under torch.inference_mode(), which forbids backward passes: call it outside "
            "that block (torch.no_grad() does no harm)."
        )
    kinds = {"cpu", *(("cuda",) if torch.cuda.is_available() else ())}
    if any(torch.is_autocast_enabled(kind) for kind in kinds):
        raise ValueError(
            "called under torch.autocast, which rounds some layers and not others: call it "
            "outside that block, on a model of the data type that you want (model.to(dtype))."
        )


def demand_own_memory(model: nn.Module) -> None:
    """No two weights, or scales of packed weights, share memory without being one tensor.

    Layers that are streamed through one buffer do: at the backward pass it holds another layer.
    """
    named: dict[str, Tensor] = dict(model.named_parameters())
    for name, module in model.named_modules():
        state = getattr(getattr(module, "weight", None), "quant_state", None)
        if isinstance(scales := getattr(state, "absmax", None), Tensor):
            named[f"{name}.weight.quant_state.absmax"] = scales
    seen: set[int] = set()
    ranges: list[tuple[str, int, int, str]] = []
    for name, x in named.items():
        if id(x) not in seen and x.layout == torch.strided and x.numel() and x.data_ptr():
            seen.add(id(x))
            extent = sum((n - 1) * s for n, s in zip(x.shape, x.stride(), strict=True)) + 1
            start = x.data_ptr()
            ranges.append((str(x.device), start, start + extent * x.element_size(), name))
    ranges.sort()
    for (home, _, stop, first), (other, start, _, second) in pairwise(ranges):
        if home == other and start < stop and _meet(named[first], named[second]):
            raise UnsupportedModuleError(
                f"parameters {first!r} and {second!r} share memory, but are two tensors, so that "
                "one's gradient is not the whole gradient. Tie them as one (b.weight = a.weight); "
                "or, if layers are streamed through one buffer, load the model whole."
            )


def _meet(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors whose extents overlap share an entry: columns of one matrix do not."""
    if a.ndim != 2 or b.ndim != 2 or a.stride() != b.stride() or a.stride(1) != 1:
        return True
    row = a.stride(0)
    offset = (b.data_ptr() - a.data_ptr()) // a.element_size() % row
    return offset < a.shape[1] or offset + b.shape[1] > row


class _Eager:
    """torch.compile's stance is the whole process's: set by the first, put back by the last."""

    def __init__(self) -> None:
        self.guard, self.inside, self.stack = threading.Lock(), 0, ExitStack()

    def enter(self) -> None:
        """One more that wants it."""
        with self.guard:
            if self.inside == 0:
                self.stack.enter_context(torch.compiler.set_stance("force_eager"))
            self.inside += 1

    def leave(self) -> None:
        """One less."""
        with self.guard:
            self.inside -= 1
            if self.inside == 0:
                self.stack.close()


_EAGER = _Eager()


@contextmanager
def eager() -> Generator[None]:
    """Run functions under torch.compile as they were written: compiled, nobody sees their uses."""
    if sys.modules.get("torch._dynamo") is None:
        yield
        return
    _EAGER.enter()
    try:
        yield
    finally:
        _EAGER.leave()


@contextmanager
def deterministic() -> Generator[None]:
    """Refuse a block that draws random numbers: its gradient would be of one random model."""
    before = torch.get_rng_state()
    yield
    if not torch.equal(before, torch.get_rng_state()):
        raise ValueError("model: its forward pass draws random numbers; call model.eval() first.")
