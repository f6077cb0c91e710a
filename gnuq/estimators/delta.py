"""Eq. (3), (4) and (8): the delta method, the squared gradient norm, the Bernoulli variance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from gnuq.estimators.links import Link, log_odds_from, predictions_from, select, slope
from gnuq.gradnorm import GradientNorms, squared_gradient_norms
from gnuq.gradnorm.passes import Inputs
from gnuq.gradnorm.verification import Verify

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


@dataclass(frozen=True)
class ProbabilityNorms(GradientNorms):
    """Squared gradient norms of probabilities, in float64.

    Attributes:
        values: p, shape (batch,) or (batch, classes); it rounds to 1 where 1 − p < 10⁻¹⁶.
        by_parameter: ‖∂p_b/∂θ_j‖² for each parameter tensor j, by name.
        log_odds: log p / (1 − p), which does not saturate.
    """

    log_odds: Float[Tensor, " batch *objectives"]


def epistemic(
    model: nn.Module,
    inputs: Inputs,
    *,
    link: Link = "softmax",
    classes: Int[Tensor, " batch"] | int | None = None,
    batch_size: int | None = None,
    verify: Verify = True,
) -> GradientNorms:
    """Eq. (4), §3: the squared gradient norm ‖∇_θ p(x; θ*)‖², proportional to Var[p] if Σ ∝ I.

    Args:
        model: returns logits, shape (batch, outputs); or values, for `link="identity"`.
        inputs: as `gnuq.gradnorm.squared_gradient_norms` takes them.
        link: how outputs become the prediction: `"sigmoid"` (one logit, the probability of
            class 1), `"softmax"`, or `"identity"` (regression: the outputs themselves).
        classes: one class for all examples, or one per example; all classes if omitted.
        batch_size: split the batch into parts of this size, to bound memory.
        verify: as `gnuq.gradnorm.squared_gradient_norms` takes it.

    Returns:
        Norms with `values` the predictions: shape (batch,) if `classes` is given or there is
        one output only, else (batch, classes). Of probabilities as `ProbabilityNorms`: log-odds
        are differentiated, ‖∇p‖² = [p (1 − p)]² ‖∇ log p/(1 − p)‖², so that a classifier may be as
        sure as it likes.

    Raises:
        ValueError: an unknown link, a class index out of range, or as the norms raise.
        TypeError: class indices that are not integers.
    """

    def objective(outputs: Tensor) -> Tensor:
        found = predictions_from if link == "identity" else log_odds_from
        each = found(outputs, link)
        return each if classes is None else select(each, classes)

    if classes is not None and torch.as_tensor(classes).ndim and batch_size is not None:
        raise ValueError("batch_size: with one class per example, call once per part instead.")
    norms = squared_gradient_norms(model, inputs, objective, batch_size=batch_size, verify=verify)
    return norms if link == "identity" else _of_probabilities(norms)


def _of_probabilities(norms: GradientNorms) -> ProbabilityNorms:
    """From the norms of log-odds to those of the probabilities."""
    squared_slope = slope(norms.values).square()
    return ProbabilityNorms(
        norms.values.to(squared_slope).sigmoid(),
        {name: norm.to(squared_slope) * squared_slope for name, norm in norms.by_parameter.items()},
        norms.values,
    )


def aleatoric(prediction: Float[Tensor, "*batch"] | GradientNorms) -> Float[Tensor, "*batch"]:
    """Eq. (8), §3.3: p*(1 − p*), the Bernoulli variance of the point prediction.

    Args:
        prediction: what `epistemic` returned, whose log-odds keep 1 − p*; or probabilities, of
            which 1 − p* has no more digits than they have (none where they round to 1).

    Source:
        The first-order term (1 − 2p*) gᵀE[θ − θ*] vanishes under Appendix C's assumption. To
        second order the same assumption makes p*(1 − p*) the *total* of Eq. (2): see
        `aleatoric_second_order`.

    Raises:
        ValueError: values outside [0, 1].
        TypeError: norms of a regression.
    """
    if isinstance(prediction, ProbabilityNorms):
        return slope(prediction.log_odds)
    if isinstance(prediction, GradientNorms):
        raise TypeError("prediction: norms of values; only a probability has p (1 − p).")
    check_probabilities(prediction)
    return prediction * (1 - prediction)


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
