"""Eq. (3), (4) and (8): the delta method, the squared gradient norm, the Bernoulli variance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from gnuq.gradnorm import GradientNorms, squared_gradient_norms
from gnuq.gradnorm.engine import Inputs

Link = Literal["sigmoid", "softmax", "identity"]


#: A dense P × P matrix, its diagonal (P,), or a function that applies it to columns (P, n).
Covariance = Tensor | Callable[[Tensor], Tensor]


def delta_variance(
    gradients: Float[Tensor, "*batch parameters"], covariance: Covariance
) -> Float[Tensor, "*batch"]:
    """Eq. (3), §3: Var[p(x; θ)] ≈ gᵀ Σ g, the delta method.

    Args:
        gradients: g = ∇_θ p(x; θ*), one row a prediction.
        covariance: Σ, dense (P, P); or its diagonal (P,); or a function that maps a matrix of
            columns (P, n) to Σ times that matrix.

    Raises:
        ValueError: a covariance whose shape does not match the gradients, or a result that is
            negative beyond rounding (Σ is not a covariance).
    """
    count = gradients.shape[-1]
    flat = gradients.reshape(-1, count)
    if isinstance(covariance, Tensor):
        if covariance.shape not in ((count,), (count, count)):
            raise ValueError(
                f"covariance: shape {tuple(covariance.shape)} does not fit {count} parameters; "
                f"give ({count},) or ({count}, {count})."
            )
        applied = flat * covariance if covariance.ndim == 1 else flat @ covariance.mT
    else:
        applied = covariance(flat.mT).mT
        if applied.shape != flat.shape:
            raise ValueError(
                f"covariance: applied to shape {tuple(flat.mT.shape)} it returned "
                f"{tuple(applied.mT.shape)}; it must keep the shape."
            )
    variance = torch.linalg.vecdot(flat, applied)
    slack = 1e3 * torch.finfo(variance.dtype).eps * (flat.abs() * applied.abs()).sum(-1)
    if bool((variance < -slack).any()) or not bool(torch.isfinite(variance).all()):
        raise ValueError("covariance: gᵀΣg is negative or not finite; Σ is not a covariance.")
    return variance.clamp_min(0).reshape(gradients.shape[:-1])


def epistemic(
    model: nn.Module,
    inputs: Inputs,
    *,
    link: Link = "softmax",
    classes: Int[Tensor, " batch"] | int | None = None,
    batch_size: int | None = None,
) -> GradientNorms:
    """Eq. (4), §3: the squared gradient norm ‖∇_θ p(x; θ*)‖², proportional to Var[p] if Σ ∝ I.

    Args:
        model: returns logits, shape (batch, outputs); or values, for `link="identity"`.
        inputs: as `gnuq.gradnorm.squared_gradient_norms` takes them.
        link: how outputs become the prediction: `"sigmoid"` (one logit, the probability of
            class 1), `"softmax"`, or `"identity"` (regression: the outputs themselves).
        classes: one class for all examples, or one per example; all classes if omitted.
        batch_size: split the batch into parts of this size, to bound memory.

    Returns:
        Norms with `values` the predictions: shape (batch,) if `classes` is given or there is
        one output only, else (batch, classes).

    Raises:
        ValueError: an unknown link, a class index out of range, or as the norms raise.
        TypeError: class indices that are not integers.
    """

    def objective(outputs: Tensor) -> Tensor:
        predictions = predictions_from(outputs, link)
        return predictions if classes is None else select(predictions, classes)

    if classes is not None and torch.as_tensor(classes).ndim and batch_size is not None:
        raise ValueError("batch_size: with one class per example, call once per part instead.")
    return squared_gradient_norms(model, inputs, objective, batch_size=batch_size)


def predictions_from(outputs: Float[Tensor, " batch *outputs"], link: Link) -> Tensor:
    """The model's outputs as predictions; a single output column is dropped.

    Raises:
        ValueError: an unknown link, or a sigmoid of more than one output.
        TypeError: the model's output is not a tensor.
    """
    if not isinstance(outputs, Tensor):
        raise TypeError(
            f"model: it returns a {type(outputs).__name__}; wrap it so that it returns the logits."
        )
    if link == "softmax":
        if outputs.ndim < 2 or outputs.shape[-1] < 2:
            raise ValueError(
                f"link: softmax needs at least two logits, the model returned shape "
                f"{tuple(outputs.shape)}; use link='sigmoid' for one logit."
            )
        return outputs.softmax(-1)
    if link not in ("sigmoid", "identity"):
        raise ValueError(f"link: {link!r} is none of 'sigmoid', 'softmax', 'identity'.")
    values = outputs.sigmoid() if link == "sigmoid" else outputs
    if values.ndim == 2 and values.shape[1] == 1:
        return values[:, 0]
    if link == "sigmoid" and values.ndim > 1:
        raise ValueError(f"link: sigmoid expects one logit an example, got {tuple(values.shape)}.")
    return values


def select(
    probabilities: Float[Tensor, "batch classes"], classes: Int[Tensor, " batch"] | int
) -> Float[Tensor, " batch"]:
    """The probability of one class, the same for all examples or one per example.

    Raises:
        ValueError: a class index out of range, or indices of another length than the batch.
        TypeError: class indices that are not integers.
    """
    if probabilities.ndim != 2:
        raise ValueError("classes: this model has a single output; leave classes out.")
    batch, count = probabilities.shape
    index = torch.as_tensor(classes, device=probabilities.device)
    if index.is_floating_point() or index.dtype == torch.bool:
        raise TypeError(f"classes: expected integers, got {index.dtype}.")
    if index.ndim and index.shape != (batch,):
        raise ValueError(f"classes: shape {tuple(index.shape)} for {batch} examples.")
    if bool((index < 0).any()) or bool((index >= count).any()):
        raise ValueError(f"classes: {classes} is out of range; this model has 0 … {count - 1}.")
    return probabilities.gather(1, index.long().expand(batch)[:, None])[:, 0]


def aleatoric(probabilities: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """Eq. (8), §3.3: p*(1 − p*), the Bernoulli variance of the point prediction.

    Source:
        The first-order term (1 − 2p*) gᵀE[θ − θ*] vanishes under Appendix C's assumption. To
        second order the same assumption makes p*(1 − p*) the *total* of Eq. (2): see
        `aleatoric_second_order`.

    Raises:
        ValueError: values outside [0, 1].
    """
    check_probabilities(probabilities)
    return probabilities * (1 - probabilities)


def aleatoric_second_order(
    probabilities: Float[Tensor, "*batch"], variance: Float[Tensor, "*batch"]
) -> Float[Tensor, "*batch"]:
    """p*(1 − p*) − gᵀΣg: what Eq. (2) leaves for the aleatoric part once Var[p] is known.

    Not in the paper; it makes the two estimates add up. Needs a variance on the probability's
    scale: a bare ‖g‖² has an unknown factor.

    Raises:
        ValueError: probabilities outside [0, 1], or a negative variance.
    """
    if not bool((variance >= 0).all()):
        raise ValueError("variance: it is negative or NaN.")
    return aleatoric(probabilities) - variance


def check_probabilities(probabilities: Tensor) -> None:
    """Raise a ValueError unless all values lie in [0, 1]."""
    if not bool(((probabilities >= 0) & (probabilities <= 1)).all()):
        raise ValueError("probabilities: values must lie in [0, 1] and not be NaN.")
