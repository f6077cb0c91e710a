"""Which weights count, and where they belong: by module, by layer, by kind of module."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Literal, TypeAlias

from torch import nn

from gnuq.gradnorm.quantized import squared_weight_norms
from gnuq.scoring.examples import ScoreError
from gnuq.scoring.exclusive import exclusive
from gnuq.scoring.fingerprint import fingerprint

#: Which weights count: see `score`.
Parameters: TypeAlias = Literal["all", "autograd", "adapter", "base"] | Callable[[str], bool]
#: How a breakdown groups the weights.
Grouping = Literal["module", "layer", "kind", "parameter"]

_BLOCK = re.compile(r"\.(\d+)\.")
_WRAPPERS = re.compile(
    r"(^base_model\.model\.)|(\.base_layer$)|(\.(lora_\w+|ia3_\w+|modules_to_save)(\.[^.]+)?$)"
    r"|(\.original_module$)|(\.token_adapter(\.\w+)?$)"
)


#: How the names of an adapter's weights begin.
ADAPTERS = ("lora_", "ia3_", "trainable_tokens_", "modules_to_save.")


class Weights:
    """A model's weights as they were when they were first looked at.

    Args:
        model: the model.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    @cached_property
    def squared_norms(self) -> dict[str, tuple[float, int]]:
        """‖θ_j‖², dequantised, and the number of entries of every weight tensor j, by name.

        Raises:
            ScoreError: as `demand_unchanged`.
        """
        with exclusive(self.model):
            self.demand_unchanged()
            return squared_weight_norms(self.model)

    @cached_property
    def fingerprint(self) -> str:
        """Tells one model from another; see `gnuq.scoring.fingerprint`."""
        return fingerprint(self.model)

    def demand_unchanged(self) -> None:
        """The model is what it was when its fingerprint was taken.

        Raises:
            ScoreError: it was trained, quantised, or given another adapter since.
        """
        if fingerprint(self.model) != self.fingerprint:
            raise ScoreError(
                "model: its weights, adapters or configuration have changed since it was scored, "
                "so what is computed now would not belong to these scores; score the answers anew."
            )


def counted(model: nn.Module, params: Parameters, names: Iterable[str]) -> list[str]:
    """The names of the weights that count, among those that the pass used.

    Raises:
        ScoreError: an unknown choice, or one that leaves no weight.
    """
    chosen = [name for name in names if _choice(model, params)(name)]
    if not chosen:
        raise ScoreError(
            f"params: {params!r} leaves no weight to count; params='all' counts every one."
        )
    return chosen


def _choice(model: nn.Module, params: Parameters) -> Callable[[str], bool]:
    if callable(params):
        return params
    if params == "all":
        return lambda name: True
    if params == "autograd":
        kept = {name for name, p in model.named_parameters() if p.requires_grad}
        return kept.__contains__
    if params in ("adapter", "base"):
        return lambda name: is_adapter(name) == (params == "adapter")
    raise ScoreError(
        f"params: {params!r} is none of 'all', 'autograd', 'adapter', 'base', and no function."
    )


def is_adapter(name: str) -> bool:
    """Whether a weight belongs to an adapter of peft.

    A matrix of LoRA or DoRA's magnitude, a vector of IA3, trainable tokens, a module saved whole.
    """
    return any(f".{part}" in name for part in ADAPTERS)


def group(name: str, by: Grouping) -> str:
    """The group of a weight.

    Args:
        name: the weight's name.
        by: "parameter": itself; "module": the module that owns it; "layer": the number of its
            block, or its module outside the blocks; "kind": the module's own name, such as
            q_proj.

    Raises:
        ScoreError: another grouping.
    """
    module = name.rpartition(".")[0]
    if by == "parameter":
        return name
    if by == "module":
        return module
    if by == "layer":
        found = _BLOCK.search(name)
        return f"layer {found[1]}" if found else _WRAPPERS.sub("", module).rpartition(".")[2]
    if by == "kind":
        return _WRAPPERS.sub("", module).rpartition(".")[2]
    raise ScoreError(f"by: {by!r} is none of 'module', 'layer', 'kind', 'parameter'.")
