"""Whether the rules and plain autograd agree on one example, as far as rounding lets them.

Between two orders of summation gradients that nearly cancel lose half the digits. In half precision
a batch and an example alone differ by more: there the rules are held against autograd on the very
same forward pass, and the batch's whole norm against the example's.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import torch
from torch import Tensor, nn

from gnuq.gradnorm.errors import UnsupportedModuleError
from gnuq.gradnorm.judge import Verdict

#: Coarser types than these are half precision, and single.
HALF, SINGLE = 1e-4, 1e-10
#: Between a rule and autograd on one and the same forward pass, in units of the type's precision:
#: autograd rounds every entry of a gradient. In bfloat16 1.3 % were seen, 1.7 units (SmolLM2-135M,
#: every weight tensor of 112 answers), where a batch and an answer alone are up to 39 % apart.
SAME_ROUNDING = 8
#: How many parameters a message names.
NAMED = 3
#: Differences below this share of the whole gradient's squared norm are rounding, times eps.
SHARE = 16
#: At most this, in half precision.
LARGEST_SHARE = 0.01
#: The same, of the squared gradient at the model's output, for a gradient that is all rounding: a
#: norm layer multiplies what rounding leaves of a constant input by 316, and positions add up.
NOISE = 1e-22


def demand(
    model: nn.Module,
    verdict: Verdict,
    together: Mapping[str, Tensor],
    alone: Callable[[], Mapping[str, Tensor]],
    number: int,
    *,
    leniency: float = 1.0,
) -> None:
    """Demand that an example's norms are what plain autograd says of it.

    Args:
        model: the model.
        verdict: of the example.
        together: its norms in the batch, by the rules, by name, shape (K,).
        alone: gives the same of the example on its own.
        number: the example's, for messages.
        leniency: what the tolerances are multiplied by.

    Raises:
        UnsupportedModuleError: they are not.
    """
    eps = precision(model, verdict.norms)
    first = _refusal(verdict, together, number, min(0.9, leniency * tolerance(eps)), eps)
    if eps < HALF and (first is None or eps < SINGLE):
        if first is not None:
            raise first
        return
    by_itself = alone()
    compare(verdict, by_itself, number, leniency * same_rounding(eps), eps)
    whole, other = (torch.as_tensor(sum(norms.values())) for norms in (together, by_itself))
    for x, y in zip(whole.reshape(-1), other.reshape(-1), strict=True):
        same_total(float(x), float(y), number, loose(eps))


def _refusal(
    verdict: Verdict, norms: Mapping[str, Tensor], number: int, slack: float, eps: float
) -> UnsupportedModuleError | None:
    try:
        compare(verdict, norms, number, slack, eps)
    except UnsupportedModuleError as error:
        return error
    return None


def compare(
    verdict: Verdict, norms: Mapping[str, Tensor], example: int, tolerance: float, eps: float
) -> None:
    """Demand that every weight's norm is what plain autograd says.

    Args:
        verdict: of the example.
        norms: what the rules said of it, by name, shape (K,).
        example: its number, for the message.
        tolerance: by how much two norms of one weight may differ, relative to the larger one.
        eps: the precision of the data type, which says what is rounding.

    Raises:
        UnsupportedModuleError: some weights have another norm; it names them.
    """
    total = torch.stack(list(verdict.norms.values())).sum(0) if verdict.norms else 0.0
    rounding = min(SHARE * eps, LARGEST_SHARE) * total + NOISE * verdict.slope
    wrong: dict[str, tuple[float, float, bool]] = {}
    for name in dict.fromkeys([*verdict.norms, *norms]):
        truth, found = verdict.norms.get(name), norms.get(name)
        expected = torch.zeros(1, dtype=torch.float64) if truth is None else truth
        got = torch.zeros_like(expected) if found is None else found.double().cpu()
        slack = tolerance * torch.maximum(expected, got) + rounding
        beyond = ((got - expected).abs() - slack).nan_to_num(torch.inf)
        if bool((beyond > 0).any()):
            k = int(beyond.argmax())
            both = (float(x.expand_as(beyond)[k]) for x in (got, expected))
            wrong[name] = (*both, found is None)  # type: ignore[assignment]
    if not wrong:
        return
    kind = torch.float32 if eps >= SINGLE else torch.float64
    least = torch.finfo(kind).tiny / eps
    vanishing = all(max(got, expected) < least for got, expected, _ in wrong.values())
    if vanishing or not any(bool(norm.any()) for norm in norms.values()):
        found_one, told_one, _ = next(iter(wrong.values()))
        raise UnsupportedModuleError(
            f"example {example}: a squared gradient norm, {found_one:.3g} where autograd says "
            f"{told_one:.3g}, is too small for the type. Give `scale`, differentiate a logarithm "
            "(gnuq.estimators.epistemic does), or use float64."
        )
    raise UnsupportedModuleError(_told(wrong, example))


def same_values(together: Tensor, alone: Tensor, example: int, slack: float) -> None:
    """Demand that an example's objectives are in the batch what they are alone.

    Raises:
        UnsupportedModuleError: they are not.
    """
    gap = (together.double().cpu() - alone.double().cpu()).abs().max()
    if not bool(gap <= slack):
        raise UnsupportedModuleError(
            f"example {example} has another value of the objective on its own "
            f"({alone.flatten()[:3].tolist()}) than in the batch "
            f"({together.flatten()[:3].tolist()}): the model's output depends on the other "
            "examples. Score one example at a time."
        )


def same_total(together: float, alone: float, example: int, tolerance: float) -> None:
    """Demand that an example's whole norm is in the batch what it is alone.

    Raises:
        UnsupportedModuleError: it is not.
    """
    if not abs(together - alone) <= tolerance * max(together, alone):
        raise UnsupportedModuleError(
            f"example {example} has another squared gradient norm on its own ({alone:.6g}) than "
            f"in the batch ({together:.6g}): it depends on the other examples or on padding, or "
            "rounding hides what it is. Use a wider data type, or score one example at a time."
        )


def _told(wrong: Mapping[str, tuple[float, float, bool]], example: int) -> str:
    """Which weights are wrong, by how much, and what that is a sign of."""
    parts = []
    for name, (got, expected, unseen) in list(wrong.items())[:NAMED]:
        seen = "no use of it was seen" if unseen else f"{got:.6g}"
        parts.append(f"{name!r}: {seen}, autograd says {expected:.6g}")
    more = f" and {len(wrong) - NAMED} more" if len(wrong) > NAMED else ""
    if all(unseen for _, _, unseen in wrong.values()):
        cause = (
            "it is used where no hook sees it (a scripted or compiled function, vmap, another "
            "thread, a tensor kept from another call); use the parameter in its module's forward"
        )
    else:
        cause = (
            "dimension 0 is not the batch everywhere, examples depend on each other, a layer does "
            "not compute what its class does, or a weight is used unseen. Put the batch first, or "
            "score one example at a time"
        )
    return (
        f"example {example} has another squared gradient norm on its own, by plain autograd, than "
        f"in the batch. {'; '.join(parts)}{more}: {cause}."
    )


def precision(model: nn.Module, names: Collection[str] | None = None) -> float:
    """The relative precision of the coarsest type that the model computes in.

    Args:
        model: the model.
        names: of the weights that count; all if omitted.
    """
    types = {
        p.dtype
        for name, p in model.named_parameters()
        if p.is_floating_point() and (names is None or name in names)
    }
    kinds = (getattr(m, "compute_dtype", None) for m in model.modules())
    types |= {kind for kind in kinds if isinstance(kind, torch.dtype)}
    return max((torch.finfo(kind).eps for kind in types), default=torch.finfo(torch.float32).eps)


def tolerance(eps: float) -> float:
    """By how much a squared norm may differ between two orders of summation, relatively.

    Ten times half the digits: 3e-3 in float32, where gradients that nearly cancel lose many. In
    float64 1e-5, since many norm layers compute in float32 always.
    """
    return min(max(10 * eps**0.5, 1e-5), 0.9)


def same_rounding(eps: float) -> float:
    """The same between a rule and autograd on one and the same forward pass."""
    return SAME_ROUNDING * eps if eps >= HALF else tolerance(eps)


def loose(eps: float) -> float:
    """By how much the whole norm may differ between a batch and an example alone, by rounding.

    In half precision only the order of magnitude can be compared.
    """
    return tolerance(eps) if eps >= HALF else 0.02
