"""Eq. (9) and (10): the same for the answer of a language model."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from gnuq.estimators.delta import aleatoric
from gnuq.gradnorm import GradientNorms, squared_gradient_norms
from gnuq.gradnorm.passes import Inputs


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


def token_probabilities(
    logits: Float[Tensor, "batch tokens vocabulary"], tokens: Int[Tensor, "batch tokens"]
) -> Float[Tensor, "batch tokens"]:
    """p(y_t | y_<t, x) of the given tokens."""
    return logits.softmax(-1).gather(-1, tokens[..., None])[..., 0]


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
        counted = tokens.where(mask, 0)  # labels such as −100 may stand where nothing counts
        if bool((counted < 0).any()) or bool((counted >= logits.shape[-1]).any()):
            raise ValueError(f"tokens: out of range for a vocabulary of {logits.shape[-1]}.")
        return mean_probability(token_probabilities(logits, counted), mask)

    return squared_gradient_norms(model, inputs, objective)


def sequence_aleatoric(
    token_probabilities: Float[Tensor, "batch tokens"], mask: Bool[Tensor, "batch tokens"]
) -> Float[Tensor, " batch"]:
    """§3.4: (1/T) Σ_t p_t (1 − p_t), the mean Bernoulli variance of the answer's tokens.

    Raises:
        ValueError: probabilities outside [0, 1], or as `mean_probability`.
    """
    return mean_probability(aleatoric(token_probabilities), mask)
