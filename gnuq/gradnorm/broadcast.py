"""Calls whose result serves all examples at once: position embeddings, relative biases.

A parameter used in one row for the whole batch would deliver Σ_b δ_b, the sum of the examples'
gradients, where each is needed. Two ways out, both taken before the result goes on:

* a result with one row (1, …) goes on as a row for each example (batch, …), which broadcasts to the
  same numbers, so that every example's δ_b arrives in its own row;
* a result without a row for examples, (T, D) or (T, T, heads), is left alone, and its parameters
  are charged to the module around the call, whose result has such rows: the generic fallback
  differentiates that one for each example.

What follows may tell one row from many (by `squeeze`, say): then it fails, or gives other numbers
than the example alone, which verification compares.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from gnuq.gradnorm.calls import Call
from gnuq.gradnorm.fallback import floating

#: Entries of the parameters that a module around a call may take over.
LARGEST = 2**24


def one_row(output: Tensor, batch: int) -> bool:
    """Whether a result stands for all examples in one row."""
    return batch > 1 and output.ndim > 1 and output.shape[0] == 1


def without_rows(output: Any, batch: int, *, flattened: bool) -> bool:
    """Whether dimension 0 of no result can be that of the examples.

    With `flattened` examples may have several rows each; then a multiple of the batch stays what
    it may be.
    """
    found = floating(output)
    if batch < 2 or not found:
        return False
    lengths = [y.shape[0] if y.ndim > 1 else 0 for y in found]
    if flattened:
        return all(n == 0 or (n != 1 and n % batch) for n in lengths)
    return all(n not in (1, batch) for n in lengths)


def handed_over(call: Call, around: Call | None) -> bool:
    """Charge what a call used to the module around it; whether that module can take it.

    The fallback holds a gradient for each example, so large weights are left where they are used.
    """
    if around is None or around.rule is not None:
        return False
    if call.rule is not None and (call.rule.stored or call.rule.whole):
        return False
    if sum(parameter.numel() for parameter in call.touched.values()) > LARGEST:
        return False
    for parameter in call.touched.values():
        name = around.names_of(id(parameter))[0]
        around.touched[name] = parameter
    return True
