"""How several objectives of one example share the gradient of their weighted sum.

Write s̄ = Σ_k w_k s_k, as the mean probability of an answer is of its tokens' probabilities. Then

    ‖∇s̄‖² = Σ_k w_k ⟨∇s_k, ∇s̄⟩ = Σ_t ⟨g_t, ∇s̄⟩

where g_t is the part of the gradient that arises at token t of the layers' inputs. The first sum
splits the norm over the objectives, the second over the positions. One forward pass, K + 1
backward passes; only the factors of ∇s̄ are kept.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gnuq.gradnorm import checks
from gnuq.gradnorm.exclusive import exclusive
from gnuq.gradnorm.factors import Dense, Factor, inner, shares
from gnuq.gradnorm.passes import (
    Inputs,
    Objective,
    Pass,
    Scale,
    Task,
    backward,
    descaled,
    forward,
    scales,
    towards,
)

Uses = dict[str, list[Factor]]


@dataclass(frozen=True)
class Alignment:
    """Squared norms and inner products of K gradients with that of their weighted sum.

    Attributes:
        values: the objectives s_k.
        squared_norms: ‖∇s_k‖².
        aligned: ⟨∇s_k, ∇s̄⟩; weighted by w_k they sum to ‖∇s̄‖².
        total: ‖∇s̄‖².
        positions: by parameter name, one entry for each use of it: what each position adds to
            ‖∇s̄‖², in one dimension or several (tokens and heads, say).
        unsplit: what uses add whose tokens cannot be told apart.
    """

    values: Float[Tensor, "batch objectives"]
    squared_norms: Float[Tensor, "batch objectives"]
    aligned: Float[Tensor, "batch objectives"]
    total: Float[Tensor, " batch"]
    positions: dict[str, list[Float[Tensor, " batch *positions"]]]
    unsplit: Float[Tensor, " batch"]

    def times(self, squared_unit: Float[Tensor, " batch"]) -> Alignment:
        """The same for objectives in a unit of their own: all products times its square."""

        def scaled(x: Tensor) -> Tensor:
            moved = x.movedim(0, -1).to(squared_unit)
            return (moved * squared_unit).movedim(-1, 0)

        positions = {name: list(map(scaled, uses)) for name, uses in self.positions.items()}
        return replace(
            self,
            squared_norms=scaled(self.squared_norms),
            aligned=scaled(self.aligned),
            total=scaled(self.total),
            positions=positions,
            unsplit=scaled(self.unsplit),
        )


def alignment(
    model: nn.Module,
    inputs: Inputs,
    objective: Objective,
    weights: Float[Tensor, "batch objectives"],
    *,
    scale: Scale | None = None,
    flattened: bool = False,
    counts: Collection[str] | None = None,
) -> Alignment:
    """Gradients of K objectives against the gradient of Σ_k w_k s_k.

    Args:
        model: as for `squared_gradient_norms`.
        inputs: as there.
        objective: maps the model's output to (batch, K).
        weights: w, shape (batch, K).
        scale: as there.
        flattened: as there.
        counts: names of the parameters that count; all if omitted.

    Raises:
        ValueError, TypeError, UnsupportedModuleError: as there.

    Source:
        §3.4, Eq. (10): with w = 1/T its double sum over tokens, row by row.
    """
    inputs = checks.prepared(model, inputs)
    task = Task(model, objective, scale, flattened)
    with exclusive(model), forward(task, inputs) as done:
        if weights.shape != done.columns.shape:
            raise ValueError(
                f"weights: shape {tuple(weights.shape)}; the objectives have "
                f"{tuple(done.columns.shape)}."
            )
        return _aligned(done, weights.to(done.columns), scales(task, done), counts)


def _aligned(
    done: Pass, weights: Tensor, factor: Tensor | None, counts: Collection[str] | None
) -> Alignment:
    # One factor for the whole sum, so that the weights stay what they are.
    common = None if factor is None else factor.amin(1, keepdim=True).expand_as(factor)
    direction = weights if common is None else weights * common
    whole = _uses(done, direction, counts, last=False)
    norms, aligned, count = [], [], weights.shape[1]
    once = None if common is None else common[:, 0]
    for k in range(count):
        own = None if factor is None else factor[:, k]
        one = _uses(done, towards(done, k, own), counts, last=k == count - 1)
        norms.append(descaled(_together(one, one), own))
        aligned.append(descaled(_together(one, whole), _mean(own, once)))
    positions: dict[str, list[Tensor]] = {}
    total = unsplit = torch.zeros_like(norms[0])
    for name, uses in whole.items():
        for use, share in zip(uses, shares(uses), strict=True):
            added = descaled(share.movedim(0, -1), once).movedim(-1, 0).to(total)
            total = total + added.flatten(1).sum(1)
            if isinstance(use, Dense) and use.parts is None:
                unsplit = unsplit + added.flatten(1).sum(1)
            else:
                positions.setdefault(name, []).append(added)
    squared_norms = torch.stack(norms, 1)
    checks.finite_result(done.recorder.model, done.values, squared_norms)
    return Alignment(done.values, squared_norms, torch.stack(aligned, 1), total, positions, unsplit)


def _uses(done: Pass, direction: Tensor, counts: Collection[str] | None, *, last: bool) -> Uses:
    """All gradients of one backward pass, by parameter, in factored form."""
    found: Uses = {}

    def keep(name: str, factor: Factor) -> None:
        if counts is None or name in counts:
            found.setdefault(name, []).append(factor)

    backward(done, direction, keep, last=last)
    return found


def _against(uses: list[Factor], others: list[Factor]) -> Float[Tensor, " batch"]:
    """⟨Σ_u F_u, Σ_v G_v⟩."""
    return torch.stack([inner(f, g) for f in uses for g in others]).sum(0)


def gram(
    model: nn.Module,
    inputs: Inputs,
    objective: Objective,
    *,
    scale: Scale | None = None,
    flattened: bool = False,
) -> Float[Tensor, "batch objectives objectives"]:
    """⟨∇s_k, ∇s_l⟩ for every pair of an example's objectives.

    The factors of all K gradients are kept: memory grows with K. Arguments and errors as for
    `alignment`.
    """
    inputs = checks.prepared(model, inputs)
    task = Task(model, objective, scale, flattened)
    with exclusive(model), forward(task, inputs) as done:
        factor, count = scales(task, done), done.columns.shape[1]
        one = [None if factor is None else factor[:, k] for k in range(count)]
        uses = [
            _uses(done, towards(done, k, one[k]), None, last=k == count - 1) for k in range(count)
        ]
    rows = []
    for k in range(count):
        row = [descaled(_together(uses[k], uses[m]), _mean(one[k], one[m])) for m in range(k + 1)]
        rows.append(torch.stack([*row, *[torch.zeros_like(row[0])] * (count - k - 1)], 1))
    lower = torch.stack(rows, 1)
    return lower + lower.tril(-1).mT


def _mean(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    """The geometric mean of two factors: what divides an inner product of two scaled gradients."""
    return None if a is None or b is None else (a * b).sqrt()


def _together(mine: Uses, others: Uses) -> Float[Tensor, " batch"]:
    """⟨∇s_k, ∇s_l⟩ over all parameters."""
    return torch.stack([_against(uses, others[name]) for name, uses in mine.items()]).sum(0)
