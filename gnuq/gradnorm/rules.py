"""One rule per layer kind: from a layer's inputs and output gradients to its weights' gradients.

A rule is matched by exact type: a subclass may compute something else (Gemma's embedding scales
its output), so it goes through the generic fallback unless it registers a rule of its own.

Notation: a_t the layer's input at token t, δ_t the objective's gradient at the layer's output.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gnuq.gradnorm.factors import Dense, Factor, Outer, Rows, Tokens
from gnuq.gradnorm.graph import custom_functions

#: From output gradients δ, shaped like the layer's output, to (parameter name, gradient) pairs.
#: A rule that is `whole` gets a dictionary of them, by output index.
Backward = Callable[[Any], dict[str, Factor]]


@dataclass(frozen=True)
class Rule:
    """How one layer kind turns inputs and output gradients into parameter gradients.

    Attributes:
        parameters: names of the parameters that the rule covers, all of the layer's.
        arguments: how many of the call's tensors `prepare` gets.
        by_token: whether it may get an input with the tokens in a dimension of their own where
            the model put them into dimension 0 (`flattened`).
        whole: whether `prepare` gets the number of examples too (`batch`), sees for itself where
            they stand, and returns a function of all outputs' gradients, by output index.
        stored: for layers that keep a weight packed in buffers: the weight's name → the buffer
            that stands for it. Its gradient is that with respect to the unpacked weight.
        output: the formula that the rule assumes, from the module and the call's tensors to the
            first rows of the output; None if only the judge can tell.
        prepare: called once per forward call with the module and its input; returns the
            function of δ, which several backward passes may share.
    """

    parameters: frozenset[str]
    prepare: Callable[..., Backward]
    arguments: int = 1
    by_token: bool = True
    whole: bool = False
    stored: Mapping[str, str] = field(default_factory=dict)
    output: Callable[..., Tensor] | None = None


#: By class, or by a class's full name, so that its package need not be imported to have a rule.
RULES: dict[type[nn.Module] | str, Rule] = {}


def rule(
    kind: type[nn.Module] | str,
    *parameters: str,
    arguments: int = 1,
    by_token: bool = True,
    whole: bool = False,
    stored: Mapping[str, str] | None = None,
    output: Callable[..., Tensor] | None = None,
) -> Callable[[Callable], Callable]:
    """Register the decorated function as the rule for modules whose exact type is `kind`.

    Args:
        kind: the module class, or its full name ("package.module.Class").
        parameters: names of the parameters that the rule covers.
        arguments: how many of the call's tensors the function gets, after the module.
        by_token: False for layers that tell their dimensions apart by their order.
        whole: True for layers with several outputs, or whose batch is not dimension 0: the
            function gets `batch` as a keyword, and its function of δ a dictionary, from an
            output's index to its gradient.
        stored: weights that the layer keeps packed in a buffer: the weight's name → the buffer's.
        output: the layer's formula, for its first rows, which `leading` takes.
    """

    def register(prepare: Callable[..., Backward]) -> Callable:
        covered = frozenset(parameters)
        packed = dict(stored or {})
        RULES[kind] = Rule(covered, prepare, arguments, by_token, whole, packed, output)
        return prepare

    return register


def find_rule(module: nn.Module) -> Rule | None:
    """The rule for a module, or None if it must go through the generic fallback.

    A rule must cover all of the module's own parameters: weight normalisation, for example,
    leaves the type but replaces `weight` by two others.
    """
    kind = type(module)
    found = RULES.get(kind) or RULES.get(f"{kind.__module__}.{kind.__qualname__}")
    if found is None:
        return None
    own = {name for name, parameter in module._parameters.items() if parameter is not None}
    patched = "forward" in vars(module) and not hasattr(module, "_hf_hook")
    return None if patched or not own <= found.parameters else found


def leading(x: Tensor) -> Tensor:
    """The first token of the first example, in the same number of dimensions."""
    return x[:1, :1] if x.ndim > 2 else x[:1]


@dataclass(frozen=True)
class _Kept(Tokens):
    """Tokens, and the tensor that they were made of: its memory must not be used again."""

    source: Tensor


#: Inputs by where they lie in memory, for as long as a rule holds them.
_SHARED: WeakValueDictionary[tuple, Tokens] = WeakValueDictionary()


def shared(a: Tensor) -> Tokens:
    """The tokens of a layer's input, one object for all layers that were given the same tensor.

    Query, key and value projections share their input, and so its Gram matrix.
    """
    key = (a.data_ptr(), a._version, a.shape, a.stride(), a.dtype, a.device)
    found = _SHARED.get(key)
    if found is None:
        found = _SHARED[key] = _Kept(Tokens.of(a).values, a)
    return found


def _beside_the_batch(x: Tensor, shape: tuple[int, ...]) -> None:
    if x.ndim <= len(shape):
        raise NotImplementedError("it normalises over the batch, so examples are not independent")


def linear_output(module: Any, a: Tensor) -> Tensor:
    """W a + b of the first token."""
    return F.linear(leading(a), module.weight, module.bias)


@rule(nn.Linear, "weight", "bias", output=linear_output)
def linear(module: nn.Module, a: Tensor) -> Backward:
    """y_t = W a_t + b:  ∇W = Σ_t δ_t a_tᵀ,  ∇b = Σ_t δ_t."""
    inputs = shared(a)

    def backward(delta: Tensor) -> dict[str, Factor]:
        outputs = Tokens.of(delta)
        found: dict[str, Factor] = {"weight": Outer(inputs, outputs)}
        if module.bias is not None:  # on vectors both need ‖δ‖²
            found["bias"] = Dense(outputs) if delta.ndim == 2 else Dense.over(delta)
        return found

    return backward


def embedding_output(module: Any, ids: Tensor) -> Tensor:
    """W[id] of the first token."""
    return module.weight[ids[:1, :1] if ids.ndim > 1 else ids[:1]]


@rule(nn.Embedding, "weight", output=embedding_output)
def embedding(module: nn.Module, ids: Tensor) -> Backward:
    """y_t = W[id_t]:  row v of ∇W is Σ_{t: id_t = v} δ_t; the padding row receives nothing."""
    assert isinstance(module, nn.Embedding)
    if module.max_norm is not None or module.scale_grad_by_freq:
        raise NotImplementedError("max_norm and scale_grad_by_freq have no per-example gradient")
    flat = ids.reshape(ids.shape[0], -1)
    keep = flat != (-1 if module.padding_idx is None else module.padding_idx)

    def backward(delta: Tensor) -> dict[str, Factor]:
        outputs = Tokens(Tokens.of(delta).values * keep[..., None])
        return {"weight": Rows(flat, outputs, module.num_embeddings)}

    return backward


def _layer_norm_output(module: Any, x: Tensor) -> Tensor:
    shape = module.normalized_shape
    first = leading(x) if len(shape) == 1 else x[:1]
    return F.layer_norm(first, shape, module.weight, module.bias, module.eps)


def _rms_norm_output(module: Any, x: Tensor) -> Tensor:
    shape = module.normalized_shape
    first = leading(x) if len(shape) == 1 else x[:1]
    return F.rms_norm(first, shape, module.weight, module.eps)


@rule(nn.LayerNorm, "weight", "bias", output=_layer_norm_output)
def layer_norm(module: nn.Module, x: Tensor) -> Backward:
    """y_t = w ⊙ x̂_t + b, x̂_t standardised:  ∇w = Σ_t δ_t ⊙ x̂_t,  ∇b = Σ_t δ_t."""
    assert isinstance(module, nn.LayerNorm)
    shape = module.normalized_shape
    _beside_the_batch(x, shape)
    standardised = F.layer_norm(x, shape, eps=module.eps)

    def backward(delta: Tensor) -> dict[str, Factor]:
        return {
            "weight": Dense.over(delta * standardised, len(shape)),
            "bias": Dense.over(delta, len(shape)),
        }

    return backward


@rule(nn.RMSNorm, "weight", output=_rms_norm_output)
def rms_norm(module: nn.Module, x: Tensor) -> Backward:
    """y_t = w ⊙ x_t / rms(x_t):  ∇w = Σ_t δ_t ⊙ x_t / rms(x_t)."""
    assert isinstance(module, nn.RMSNorm)
    shape = module.normalized_shape
    _beside_the_batch(x, shape)
    scaled = F.rms_norm(x, shape, eps=module.eps)

    def backward(delta: Tensor) -> dict[str, Factor]:
        return {"weight": Dense.over(delta * scaled, len(shape))}

    return backward


#: A module as a function of its parameters and batched tensors, of any batch size.
Run = Callable[[dict[str, Tensor], list[Tensor]], list[Tensor]]


def per_example(
    run: Run, parameters: dict[str, Tensor], tensors: list[Tensor], deltas: list[Tensor]
) -> tuple[dict[str, Factor], list[Tensor]]:
    """The generic rule: module-local vector–Jacobian products, one for each example.

    Args:
        run: the module; it treats dimension 0 as the batch, examples independent.
        parameters: the parameters to differentiate, by their name inside the module.
        tensors: the call's batched arguments.
        deltas: the objective's gradient at each output tensor.

    Returns:
        The gradients, and the outputs that the local run produced, for the caller to compare.
    """

    def one(tensors: tuple[Tensor, ...], deltas: tuple[Tensor, ...]) -> tuple:
        outputs, pullback, *_ = torch.func.vjp(
            lambda values: run(values, [x[None] for x in tensors]), parameters
        )
        (gradients,) = pullback([d[None] for d in deltas])
        return gradients, [y[0] for y in outputs]

    try:
        gradients, outputs = torch.func.vmap(one)(tuple(tensors), tuple(deltas))
    except (RuntimeError, ValueError, IndexError, TypeError):  # not every operation knows vmap
        gradients, outputs = _each(run, parameters, tensors, deltas)
    return {name: Dense.of(value) for name, value in gradients.items()}, outputs


def _each(
    run: Run, parameters: dict[str, Tensor], tensors: list[Tensor], deltas: list[Tensor]
) -> tuple[dict[str, Tensor], list[Tensor]]:
    """One example after the other, by plain autograd.

    It knows operations that have no transform: oneDNN's recurrent layers, functions of one's own.
    """
    leaves = {name: p.detach().requires_grad_() for name, p in parameters.items()}
    rows = []
    for b in range(len(deltas[0])):
        with torch.enable_grad():
            outputs = run(leaves, [x[b : b + 1] for x in tensors])
        reached = [(y, d[b : b + 1]) for y, d in zip(outputs, deltas, strict=True)]
        reached = [(y, d.reshape(y.shape)) for y, d in reached if y.requires_grad]
        gradients: tuple[Tensor | None, ...] = (None,) * len(leaves)
        if reached:
            ends, towards = zip(*reached, strict=True)
            gradients = torch.autograd.grad(ends, list(leaves.values()), towards, allow_unused=True)
        unreached = all(gradient is None for gradient in gradients)
        if unreached and any(custom_functions(outputs)):
            raise RuntimeError("no gradient reaches its parameters (a kernel of its own?)")
        dense = [torch.zeros_like(p) if g is None else g
                 for g, p in zip(gradients, parameters.values(), strict=True)]  # fmt: skip
        rows.append((dense, [y.detach()[0] for y in outputs]))
    columns = zip(*(row[0] for row in rows), strict=True)
    found = {name: torch.stack(column) for name, column in zip(leaves, columns, strict=True)}
    return found, [torch.stack(column) for column in zip(*(row[1] for row in rows), strict=True)]
