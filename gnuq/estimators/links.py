"""From a model's outputs to predictions, and to log-odds, in which nothing saturates.

p = 1 − 10⁻⁹ is 1 in float32, and p (1 − p), the slope between a logit and its probability, is
nought. Log-odds ℓ = log p / (1 − p) keep p and 1 − p alike; ∂p = p (1 − p) ∂ℓ, and the slope's
logarithm is log σ(ℓ) + log σ(−ℓ).
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from gnuq.gradnorm.shapes import widen, widest

Link = Literal["sigmoid", "softmax", "identity"]


def log_odds(logits: Float[Tensor, "*batch classes"]) -> Float[Tensor, "*batch classes"]:
    """ℓ_k = z_k − log Σ_{j≠k} exp z_j of every class of a softmax, in float32 at least.

    Where p_k ≤ ½ the others' sum is the whole one times 1 − p_k; the largest class's is summed
    without it. So no digit is lost on either side, and memory is that of the logits.

    Args:
        logits: −∞ for a class that cannot be; its log-odds are the lowest number, or nearly so.
    """
    wide = _possible(widen(logits))
    top = torch.zeros_like(wide, dtype=torch.bool)
    top.scatter_(-1, wide.detach().argmax(-1, keepdim=True), True)
    others = wide.masked_fill(top, -torch.inf).logsumexp(-1, keepdim=True)
    small = wide.softmax(-1).masked_fill(top, 0.0)
    whole = wide.logsumexp(-1, keepdim=True) + torch.log1p(-small)
    return wide - torch.where(top, others, whole)


def log_odds_of(
    logits: Float[Tensor, "*batch classes"], classes: Int[Tensor, "*batch"]
) -> Float[Tensor, "*batch"]:
    """ℓ_k of one class of each row, in float32 at least; as `log_odds`."""
    wide, index = _possible(widen(logits)), classes[..., None]
    others = wide.scatter(-1, index, -torch.inf).logsumexp(-1)
    return wide.gather(-1, index)[..., 0] - others


def slope(log_odds: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """The slope p (1 − p) = σ(ℓ) σ(−ℓ), the Bernoulli variance, in float64: right to 10⁻³⁰⁰."""
    wide = widest(log_odds)
    return (F.logsigmoid(wide) + F.logsigmoid(-wide)).exp()


def log_odds_from(
    outputs: Float[Tensor, " batch *outputs"], link: Link
) -> Float[Tensor, " batch *classes"]:
    """A classifier's outputs as log-odds; a single output column is dropped.

    Raises:
        ValueError: softmax of fewer than two logits, or a sigmoid of more than one output.
        TypeError: the model's output is not a tensor.
    """
    _check(outputs, link)
    if link == "softmax":
        return log_odds(outputs)
    return widen(outputs[:, 0] if outputs.ndim == 2 else outputs)


def predictions_from(outputs: Float[Tensor, " batch *outputs"], link: Link) -> Tensor:
    """The model's outputs as predictions; a single output column is dropped.

    Raises:
        ValueError: an unknown link, softmax of fewer than two logits, or a sigmoid of more than
            one output.
        TypeError: the model's output is not a tensor.
    """
    _check(outputs, link)
    if link == "softmax":
        return outputs.softmax(-1)
    values = outputs.sigmoid() if link == "sigmoid" else outputs
    return values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values


def select(
    predictions: Float[Tensor, "batch classes"], classes: Int[Tensor, " batch"] | int
) -> Float[Tensor, " batch"]:
    """What belongs to one class, the same for all examples or one per example.

    Raises:
        ValueError: a class index out of range, or indices of another length than the batch.
        TypeError: class indices that are not integers.
    """
    if predictions.ndim != 2:
        raise ValueError("classes: this model has a single output; leave classes out.")
    batch, count = predictions.shape
    index = torch.as_tensor(classes, device=predictions.device)
    if index.is_floating_point() or index.dtype == torch.bool:
        raise TypeError(f"classes: expected integers, got {index.dtype}.")
    if index.ndim and index.shape != (batch,):
        raise ValueError(f"classes: shape {tuple(index.shape)} for {batch} examples.")
    if bool((index < 0).any()) or bool((index >= count).any()):
        raise ValueError(f"classes: {classes} is out of range; this model has 0 … {count - 1}.")
    return predictions.gather(1, index.long().expand(batch)[:, None])[:, 0]


def _check(outputs: Tensor, link: Link) -> None:
    if not isinstance(outputs, Tensor):
        raise TypeError(
            f"model: it returns a {type(outputs).__name__}; wrap it so that it returns the logits."
        )
    if link not in ("sigmoid", "softmax", "identity"):
        raise ValueError(f"link: {link!r} is none of 'sigmoid', 'softmax', 'identity'.")
    if link == "softmax" and (outputs.ndim < 2 or outputs.shape[-1] < 2):
        raise ValueError(
            f"link: softmax needs at least two logits, the model returned shape "
            f"{tuple(outputs.shape)}; use link='sigmoid' for one logit."
        )
    if link == "sigmoid" and outputs.shape[1:] not in ((), (1,)):
        raise ValueError(f"link: sigmoid expects one logit an example, got {tuple(outputs.shape)}.")


def _possible(logits: Tensor) -> Tensor:
    """A number in the place of −∞, whose gradients are NaN where all others are −∞ too."""
    return logits.masked_fill(logits == -torch.inf, torch.finfo(logits.dtype).min / 4)
