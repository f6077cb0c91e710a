"""An independent judge: one example's gradients by plain autograd, against what the rules said.

The judged example goes through the model on its own, with none of the recorder's hooks, and every
weight receives its whole gradient, of which the squared norm is kept as it arrives. No rule, no
factor and no assumption about the batch enters, so that a use of a weight that nobody saw, a layer
that does not do what its class does, and examples that depend on each other all show.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gnuq.gradnorm import checks
from gnuq.gradnorm.errors import UnsupportedModuleError
from gnuq.gradnorm.owners import stored_weights
from gnuq.gradnorm.rules import find_rule
from gnuq.gradnorm.shapes import widen
from gnuq.gradnorm.surroundings import eager
from gnuq.gradnorm.trees import tensors


@dataclass(frozen=True)
class Verdict:
    """What plain autograd says of one example.

    Attributes:
        values: the objectives, shape (K,).
        norms: squared norms of every weight's gradient, by name, shape (K,); weights that
            autograd does not reach are absent.
        slope: squared norms of the gradients at the model's output, shape (K,): what rounding in
            the gradients at the weights is measured by.
    """

    values: Tensor
    norms: dict[str, Tensor]
    slope: Tensor

    def averaged(self) -> Verdict:
        """The average over the objectives, as one."""
        norms = {name: norm.mean(0, keepdim=True) for name, norm in self.norms.items()}
        return Verdict(self.values, norms, self.slope.mean(0, keepdim=True))


def plain(
    model: nn.Module,
    inputs: Any,
    objective: Callable[[Any], Tensor],
    scale: Callable[[Tensor], Tensor] | None = None,
) -> Verdict:
    """Squared gradient norms of one example, by one whole backward pass for each objective.

    Memory: the largest gradient of one weight, not a second copy of the weights.

    Args:
        model: the model.
        inputs: of one example, as a batch of one.
        objective: from the model's output to shape (1,) or (1, K).
        scale: as in `gnuq.gradnorm.squared_gradient_norms`.

    Raises:
        UnsupportedModuleError: the model cannot run on this example alone.
    """
    norms: dict[str, Tensor] = {}
    with _weighed(model, norms) as weights, torch.enable_grad(), eager():
        output = _run(model, inputs)
        values = objective(output)
        columns = (values if values.ndim == 2 else values[:, None])[0]
        factors = None if scale is None else scale(columns.detach()[None])[0]
        found, slopes = [], []
        for k, column in enumerate(columns):
            norms.clear()
            start = torch.ones_like(column) if factors is None else factors[k].to(column)
            last = k == len(columns) - 1
            slopes.append(_slope(column, output))
            _backward(column, weights, start, last=last)
            found.append({name: norm / start.double().square() for name, norm in norms.items()})
    names = dict.fromkeys(name for one in found for name in one)
    nought = torch.zeros((), dtype=torch.float64)
    rows = {name: torch.stack([one.get(name, nought) for one in found]) for name in names}
    return Verdict(columns.detach(), rows, torch.stack(slopes))


def _backward(column: Tensor, weights: list[Tensor], start: Tensor, *, last: bool) -> None:
    if not column.requires_grad:
        return
    try:
        torch.autograd.grad(column, weights, start, retain_graph=not last, allow_unused=True)
    except RuntimeError as error:
        raise UnsupportedModuleError(
            f"model: plain autograd cannot differentiate it, so no norm can be judged: {error}"
        ) from error


def _slope(column: Tensor, output: Any) -> Tensor:
    """‖∂s/∂output‖²."""
    leaves = [x for x in tensors(output) if x.requires_grad]
    if not leaves or not column.requires_grad:
        return torch.zeros((), dtype=torch.float64)
    found = torch.autograd.grad(column, leaves, retain_graph=True, allow_unused=True)
    nought = torch.zeros((), dtype=torch.float64)
    return sum((_squared(x) for x in found if x is not None), nought)


def _run(model: nn.Module, inputs: Any) -> Any:
    try:
        return checks.call(model, inputs)
    except (ValueError, TypeError) as error:
        raise UnsupportedModuleError(
            "model: it cannot run on one example of the batch alone, so examples may depend on "
            f"each other (a graph, a table cut like a batch); score one at a time. ({error})"
        ) from error


@contextmanager
def _weighed(model: nn.Module, norms: dict[str, Tensor]) -> Generator[list[Tensor]]:
    """Thaw the weights, and note the norm of each gradient as it arrives, keeping none."""
    packed = {id(stored) for stored in stored_weights(model).values()}
    weights = {
        name: p
        for name, p in model.named_parameters()
        if (p.is_floating_point() or p.is_complex()) and id(p) not in packed
    }
    with ExitStack() as stack:
        for name, weight in weights.items():
            stack.callback(weight.requires_grad_, weight.requires_grad)
            weight.requires_grad_(True)
            stack.callback(weight.register_hook(_noting(norms, name)).remove)
        for name, module in model.named_modules():
            rule = find_rule(module)
            if rule is not None and rule.stored:
                stack.callback(module.register_forward_hook(_packed(norms, name)).remove)
        yield list(weights.values())


def _noting(norms: dict[str, Tensor], name: str) -> Callable[[Tensor | None], Tensor | None]:
    def note(gradient: Tensor | None) -> Tensor | None:
        if gradient is None:
            return None
        norms[name] = _squared(gradient)
        if gradient.is_sparse:
            return gradient
        return gradient.new_zeros(()).expand(gradient.shape)  # stands for it, without memory

    return note


def _packed(norms: dict[str, Tensor], name: str) -> Callable[[nn.Module, Any, Tensor], None]:
    """A quantised layer's ∇W̃ = δᵀ a, multiplied out, and the gradient of its bias."""

    def leave(module: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
        dtype = getattr(module, "compute_dtype", None) or given[0].dtype
        a = widen(given[0].detach().to(dtype)).flatten(0, -2)

        def receive(delta: Tensor) -> None:
            flat = widen(delta.to(dtype)).flatten(0, -2)
            norms[f"{name}.weight"] = _squared(flat.mT @ a)
            if "bias" in module._buffers and module._buffers["bias"] is not None:
                norms[f"{name}.bias"] = _squared(flat.sum(0))

        if output.requires_grad:
            output.register_hook(receive)

    return leave


def _squared(gradient: Tensor) -> Tensor:
    """‖·‖² in float64, on the CPU; no second copy in a wider type."""
    whole = gradient.to_dense() if gradient.is_sparse else gradient
    wide = torch.float32 if whole.dtype in (torch.float16, torch.bfloat16) else None
    return torch.linalg.vector_norm(whole, dtype=wide).double().cpu().square()
