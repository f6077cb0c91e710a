"""What came out for one class: exact, refused, not built, or wrong."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Literal

import pandas as pd
import torch
from torch import nn

#: Weights beyond which a random model is no small one any more.
MOST = 2e7
#: A norm that is off by more is wrong.
TOLERANCE = 1e-6

Verdict = Literal["exact", "refused", "not built", "wrong"]


@dataclass(frozen=True)
class Outcome:
    """One class of transformers.

    Attributes:
        task: what the class does.
        family: the model type of its configuration.
        name: the class.
        verdict: "exact" in every parameter, for every example; "refused" with a sentence; "wrong";
            or "not built", where transformers itself made no small random model that runs.
        batch: the examples of the largest batch that was exact; 1 where each goes alone.
        difference: of the norms, the largest relative to the total.
        sentence: why it was refused or not built.
    """

    task: str
    family: str
    name: str
    verdict: Verdict
    batch: int = 0
    difference: float = float("nan")
    sentence: str = ""


class NotBuiltError(Exception):
    """Transformers made no small random model of this class, or none that runs."""


@contextmanager
def building() -> Generator[None]:
    """Whatever goes wrong inside is the model's fault, not the norms'."""
    try:
        yield
    except Exception as error:
        reason = str(error).strip().split("\n")[0]
        raise NotBuiltError(f"{type(error).__name__}: {reason}") from error


def judged(task: str, family: str, name: str, measure: Callable[[], tuple[int, float]]) -> Outcome:
    """The outcome of a measurement.

    Args:
        task: as in the outcome.
        family: as there.
        name: as there.
        measure: returns the batch and the largest difference.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            batch, difference = measure()
    except NotBuiltError as error:
        return Outcome(task, family, name, "not built", sentence=str(error))
    except Exception as error:  # the sweep goes on, and the sentence says what it was
        sentence = f"{type(error).__name__}: {str(error).strip()}".replace("\n", " ")
        return Outcome(task, family, name, "refused", sentence=sentence)
    right = difference <= TOLERANCE
    return Outcome(task, family, name, "exact" if right else "wrong", batch, difference)


def random_model(kind: type[Any], config: Any, seed: int = 0) -> Any:
    """A random model in float64, in evaluation mode, every weight large enough to matter.

    Raises:
        NotBuiltError: transformers cannot make it, or only a large one.
    """
    with building():
        with torch.device("meta"):
            size = sum(p.numel() for p in kind._from_config(config).parameters())
        if size > MOST:
            raise ValueError(f"its smallest configuration has {size / 1e6:.0f} million weights")
        torch.manual_seed(seed)
        try:  # the reference implementations, which run in any data type
            reference = {"attn_implementation": "eager", "experts_implementation": "eager"}
            model = kind._from_config(config, **reference)
        except (ValueError, TypeError, KeyError):
            model = kind._from_config(config)
        model = model.double().eval()
        _shake(model)
    return model


@torch.no_grad()
def _shake(model: nn.Module) -> None:
    for parameter in model.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))


def table(outcomes: list[Outcome]) -> pd.DataFrame:
    """One row a class."""
    return pd.DataFrame([asdict(outcome) for outcome in outcomes])
