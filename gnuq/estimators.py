"""The paper's equations, one function each.

Decompositions of posterior samples, Eq. (1) and (2); the delta method, Eq. (3), for any
covariance; its isotropic case, Eq. (4), the paper's epistemic estimate; the aleatoric estimate,
Eq. (8); and the same for sequences, Eq. (9) and (10). Probabilities have no unit, so variances
and squared gradient norms of them have none either; entropies are in nats.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from gnuq.gradnorm import GradientNorms, squared_gradient_norms
from gnuq.gradnorm.engine import Inputs

Link = Literal["sigmoid", "softmax", "identity"]
#: A dense P × P matrix, its diagonal (P,), or a function that applies it to columns (P, n).
Covariance = Tensor | Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Decomposition:
    """Total uncertainty and its two parts; `total = aleatoric + epistemic` holds exactly."""

    total: Tensor
    aleatoric: Tensor
    epistemic: Tensor


def entropy_decomposition(
    probabilities: Float[Tensor, "draws *batch classes"],
) -> Decomposition:
    """Eq. (1), §2.2: H[E p] = E H[p] + I(y; θ), from posterior draws.

    Args:
        probabilities: class probabilities of every draw, summing to one over the last dimension.

    Returns:
        Entropies in nats, shape (*batch,); the epistemic part is the mutual information.

    Raises:
        ValueError: values that are not probabilities, or fewer than two draws.
    """
    _check_draws(probabilities)
    if not torch.allclose(probabilities.sum(-1), probabilities.new_ones(()), atol=1e-4):
        raise ValueError("probabilities: they do not sum to one over the last dimension.")
    total = torch.special.entr(probabilities.mean(0)).sum(-1)
    aleatoric = torch.special.entr(probabilities).sum(-1).mean(0)
    return Decomposition(total, aleatoric, total - aleatoric)


def label_wise_decomposition(probabilities: Float[Tensor, " draws *batch"]) -> Decomposition:
    """Eq. (2), §2.2: p̄(1 − p̄) = E[p(1 − p)] + Var[p], for every class by itself.

    Args:
        probabilities: probability of one class, or of each class, for every posterior draw.

    Returns:
        Bernoulli variances, shape (*batch,); the epistemic part is the variance over the draws
        (divided by their number, so that the sum is exact).

    Raises:
        ValueError: values that are not probabilities, or fewer than two draws.
    """
    _check_draws(probabilities)
    mean = probabilities.mean(0)
    epistemic = probabilities.var(0, correction=0)
    return Decomposition(mean * (1 - mean), mean * (1 - mean) - epistemic, epistemic)


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
        classes: one class for all examples, or one a example; all classes if omitted.
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

    if isinstance(classes, Tensor) and classes.ndim and batch_size is not None:
        raise ValueError("batch_size: with one class a example, call once per part instead.")
    return squared_gradient_norms(model, inputs, objective, batch_size=batch_size)


def predictions_from(outputs: Float[Tensor, " batch *outputs"], link: Link) -> Tensor:
    """The model's outputs as predictions; a single output column is dropped.

    Raises:
        ValueError: an unknown link, or a sigmoid of more than one output.
    """
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
    """The probability of one class, the same for all examples or one a example.

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
    _check_probabilities(probabilities)
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
    if bool((variance < 0).any()):
        raise ValueError("variance: it is negative.")
    return aleatoric(probabilities) - variance


def mean_probability(
    token_probabilities: Float[Tensor, "batch tokens"], mask: Bool[Tensor, "batch tokens"]
) -> Float[Tensor, " batch"]:
    """Eq. (9), §3.4: p̄ = (1/T) Σ_t p(y_t | y_<t, x), over the answer's tokens.

    Args:
        token_probabilities: probability of each token of the answer.
        mask: which positions are tokens of the answer; the prompt and padding are not.

    Raises:
        ValueError: shapes that differ, or an answer without tokens.
    """
    if mask.shape != token_probabilities.shape or mask.dtype != torch.bool:
        raise ValueError(
            f"mask: {mask.dtype} of shape {tuple(mask.shape)}; expected booleans of shape "
            f"{tuple(token_probabilities.shape)}."
        )
    length = mask.sum(1)
    if bool((length == 0).any()):
        raise ValueError(f"mask: example {int((length == 0).nonzero()[0])} has no answer tokens.")
    return token_probabilities.where(mask, token_probabilities.new_zeros(())).sum(1) / length


def sequence_epistemic(
    model: nn.Module,
    inputs: Inputs,
    tokens: Int[Tensor, "batch tokens"],
    mask: Bool[Tensor, "batch tokens"],
) -> GradientNorms:
    """Eq. (10), §3.4, with Σ = I: ‖∇_θ p̄‖², cross terms between tokens included.

    Args:
        model: returns logits, shape (batch, tokens, vocabulary), for the tokens in `tokens`.
        inputs: as `gnuq.gradnorm.squared_gradient_norms` takes them.
        tokens: the token that each position's logits predict.
        mask: which positions belong to the answer.

    Raises:
        ValueError, TypeError: as `mean_probability`, the norms, or a token out of range.
    """

    def objective(logits: Tensor) -> Tensor:
        if logits.ndim != 3 or logits.shape[:2] != tokens.shape:
            raise ValueError(
                f"tokens: shape {tuple(tokens.shape)} does not fit logits {tuple(logits.shape)}."
            )
        if bool((tokens < 0).any()) or bool((tokens >= logits.shape[-1]).any()):
            raise ValueError(f"tokens: out of range for a vocabulary of {logits.shape[-1]}.")
        return mean_probability(token_probabilities(logits, tokens), mask)

    return squared_gradient_norms(model, inputs, objective)


def token_probabilities(
    logits: Float[Tensor, "batch tokens vocabulary"], tokens: Int[Tensor, "batch tokens"]
) -> Float[Tensor, "batch tokens"]:
    """p(y_t | y_<t, x) of the given tokens."""
    return logits.softmax(-1).gather(-1, tokens[..., None])[..., 0]


def sequence_aleatoric(
    token_probabilities: Float[Tensor, "batch tokens"], mask: Bool[Tensor, "batch tokens"]
) -> Float[Tensor, " batch"]:
    """§3.4: (1/T) Σ_t p_t (1 − p_t), the mean Bernoulli variance of the answer's tokens.

    Raises:
        ValueError: probabilities outside [0, 1], or as `mean_probability`.
    """
    return mean_probability(aleatoric(token_probabilities), mask)


def _check_probabilities(probabilities: Tensor) -> None:
    if not bool(((probabilities >= 0) & (probabilities <= 1)).all()):
        raise ValueError("probabilities: values must lie in [0, 1] and not be NaN.")


def _check_draws(probabilities: Tensor) -> None:
    _check_probabilities(probabilities)
    if probabilities.shape[0] < 2:
        raise ValueError("probabilities: give at least two posterior draws along dimension 0.")
