"""One scorer at a time on a model: scoring freezes its weights and puts hooks on its layers."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from gnuq.gradnorm import exclusive as weights
from gnuq.scoring.examples import ScoreError


@contextmanager
def exclusive(model: Any) -> Generator[None]:
    """Hold a model for this thread; other scorers wait until it is free.

    Gradients are computed inside whatever mode the caller is in.

    Args:
        model: a Hugging Face model, alone or wrapped by adapters: the lock is the same.

    Raises:
        ScoreError: autocast is on.
    """
    _refuse_autocast(model)
    with weights.exclusive(model), torch.inference_mode(False), torch.enable_grad():
        yield


def _refuse_autocast(model: nn.Module) -> None:
    kinds = {parameter.device.type for parameter in model.parameters()} - {"meta"}
    if on := sorted(kind for kind in kinds if torch.is_autocast_enabled(kind)):
        raise ScoreError(
            f"model: autocast is on for {on[0]}, so it would not compute in its own data type; "
            "score outside of it (for half precision, load the model with dtype='bfloat16')."
        )
