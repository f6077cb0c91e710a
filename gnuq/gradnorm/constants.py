"""Calls under no_grad: constants to a backward pass, and so to the norms.

Some models choose positions, or run all but the last of their cycles, under no_grad: the gradient
that training follows has no part from there, nor has the slow loop's. But a function with a
backward pass of its own (gradient checkpointing in its old form, reversible layers) also calls
modules without a graph, and comes back to them in its backward pass.
"""

from __future__ import annotations

from torch import Tensor
from torch.autograd.function import BackwardCFunction

from gnuq.gradnorm.calls import Call
from gnuq.gradnorm.graph import custom_functions


def demand_no_hidden_backward(
    calls: list[Call], values: Tensor, own: type[BackwardCFunction]
) -> None:
    """No function with a backward pass of its own lies behind the objectives.

    Args:
        calls: those under no_grad; without any, nothing is looked at.
        values: the objectives, with their autograd graph.
        own: the node class of the recorder itself.

    Raises:
        UnsupportedModuleError: one does, and might differentiate one of the calls.
    """
    for node in custom_functions([values] if calls else []):
        if not isinstance(node, own):
            raise calls[0].refuse(
                f"called under no_grad beside {type(node).__name__}, a backward pass of its own "
                "that may differentiate it; remove that block, and use_reentrant=False in "
                "gradient checkpointing."
            )
