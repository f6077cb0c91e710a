"""Exact per-example squared gradient norms, and inner products of gradients, in one backward pass.

For a batch of examples b and an objective with one scalar s_b per example, the gradient of
Σ_b s_b at a layer's output holds every example's own δ_b, since examples do not mix. Each layer's
rule turns its inputs and δ_b into ‖∇s_b‖² without forming the gradient. Not in the paper: it is
what makes Eq. (4) cost one forward and one backward pass for a whole batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gnuq.gradnorm import checks
from gnuq.gradnorm.factors import Factor, cross, inner, squared_norm, widen
from gnuq.gradnorm.recorder import Call, Recorder

#: Maps the model's output to one scalar per example, shape (batch,), or to K, (batch, K).
Objective = Callable[[Any], Tensor]
#: One tensor, a tuple of positional arguments, or a mapping of keyword arguments.
Inputs = Tensor | tuple | Mapping[str, Any]


@dataclass(frozen=True)
class GradientNorms:
    """Squared gradient norms of one batch.

    Attributes:
        values: the objective itself, shape (batch,) or (batch, K).
        by_parameter: ‖∂s_b/∂θ_j‖² for each parameter tensor j, by name, each shaped like
            `values`. Unit: the objective's unit squared, per parameter unit squared.
    """

    values: Float[Tensor, " batch *objectives"]
    by_parameter: dict[str, Float[Tensor, " batch *objectives"]]

    @property
    def total(self) -> Float[Tensor, " batch *objectives"]:
        """‖∇_θ s_b‖² over all parameters, shaped like `values`."""
        return torch.stack(list(self.by_parameter.values())).sum(0)

    def by_group(self, group: Callable[[str], str]) -> dict[str, Tensor]:
        """Sums over groups of parameters, which `group` names; together they make the total."""
        sums: dict[str, Tensor] = {}
        for name, norm in self.by_parameter.items():
            key = group(name)
            sums[key] = sums[key] + norm if key in sums else norm
        return sums

    def by_module(self) -> dict[str, Tensor]:
        """Sums over the modules that own the parameters, by module name."""
        return self.by_group(lambda name: name.rpartition(".")[0])


@dataclass(frozen=True)
class GradientFactors:
    """All per-example gradients of one batch, in factored form: for inner products.

    Attributes:
        values: the objective, shape (batch,) or (batch, K).
        factors: for each objective k, each parameter's gradient as a list of factors (one for
            each use of the parameter); a parameter without influence is absent.
        sizes: number of entries of every parameter tensor of the model, in its order.
    """

    values: Float[Tensor, " batch *objectives"]
    factors: list[dict[str, list[Factor]]]
    sizes: dict[str, int]

    def kernel(
        self, other: GradientFactors, scale: Mapping[str, float] | None = None
    ) -> Float[Tensor, "rows columns"]:
        """K[(b, k), (c, l)] = ⟨∇s_bk, ∇s'_cl⟩, the gradient (neural tangent) kernel.

        Args:
            other: factors of another batch through the same model, or this very object.
            scale: weight of each parameter tensor in the inner product, by name (a prior's
                variances, for instance); all 1 if omitted.

        Returns:
            Shape (batch·K, batch'·K'), examples slowest.
        """
        blocks = [
            torch.stack([self._block(mine, theirs, scale) for theirs in other.factors], -1)
            for mine in self.factors
        ]
        stacked = torch.stack(blocks, 1)  # batch, K, batch', K'
        return stacked.flatten(0, 1).flatten(1)

    def _block(
        self,
        mine: dict[str, list[Factor]],
        theirs: dict[str, list[Factor]],
        scale: Mapping[str, float] | None,
    ) -> Tensor:
        """The kernel of one objective against another: the sum over pairs of uses."""
        terms = [
            (scale[name] if scale else 1.0) * cross(f, g)
            for name in mine.keys() & theirs.keys()
            for f in mine[name]
            for g in theirs[name]
        ]
        return torch.stack(terms).sum(0)

    def squared_norms(
        self, scale: Mapping[str, float] | None = None
    ) -> Float[Tensor, " batch *objectives"]:
        """The kernel's diagonal, Σ_j scale_j ‖∂s_b/∂θ_j‖², shaped like `values`."""
        columns = [
            torch.stack(
                [(scale[name] if scale else 1.0) * total_norm(f) for name, f in one.items()]
            )
            for one in self.factors
        ]
        return torch.stack([c.sum(0) for c in columns], 1).reshape(self.values.shape)

    def jacobian(self) -> Float[Tensor, "rows parameters"]:
        """The gradients multiplied out, shape (batch·K, P), columns in the order of
        `model.parameters()`: for small models only.
        """
        return torch.stack([self._dense(one) for one in self.factors], 1).flatten(0, 1)

    def _dense(self, one: dict[str, list[Factor]]) -> Tensor:
        batch = self.values.shape[0]
        columns = [
            torch.stack([f.dense() for f in one[name]]).sum(0)
            if name in one
            else self.values.new_zeros(batch, size)
            for name, size in self.sizes.items()
        ]
        return torch.cat(columns, 1)


def squared_gradient_norms(
    model: nn.Module, inputs: Inputs, objective: Objective, *, batch_size: int | None = None
) -> GradientNorms:
    """‖∇_θ s_b‖² for every example of a batch, exactly, with one backward pass per objective.

    Args:
        model: any module whose examples are independent along dimension 0; its weights stay
            frozen and no weight gradient is stored. Dropout and batch statistics must be off.
        inputs: a tensor (batch, …), a tuple of positional, or a mapping of keyword arguments.
        objective: maps the model's output to one scalar per example, shape (batch,), or to K
            of them, shape (batch, K): all classes of a classifier at once, for example.
        batch_size: split the batch into parts of this size, to bound memory.

    Raises:
        ValueError: empty batch, non-finite inputs or weights, wrong shapes, an objective that
            is not one scalar per example, a model in training mode with dropout.
        TypeError: integer inputs where the model needs floats.
        UnsupportedModuleError: a module or a use of a parameter that cannot be accounted for; the
            norm would be too small, so there is none.

    Source:
        §3, Eq. (4); the identities per layer are in `gnuq.gradnorm.rules`.
    """
    parts = [_norms(model, part, objective) for part in checks.split(model, inputs, batch_size)]
    names = parts[0].by_parameter
    return GradientNorms(
        torch.cat([part.values for part in parts]),
        {name: torch.cat([part.by_parameter[name] for part in parts]) for name in names},
    )


@torch.enable_grad()
def gradient_factors(model: nn.Module, inputs: Inputs, objective: Objective) -> GradientFactors:
    """All per-example gradients in factored form; arguments and errors as in the norms.

    Memory: the inputs and K output gradients of every layer, not the gradients themselves.
    """
    (inputs,) = checks.split(model, inputs, None)
    recorder, values, columns = _forward(model, inputs, objective)
    found: list[dict[str, list[Factor]]] = []

    def keep(name: str, factor: Factor) -> None:
        found[-1].setdefault(name, []).append(factor)

    for k in range(columns.shape[1]):
        found.append({})
        _backward(recorder, columns, k, keep)
    checks.finite_result(model, values, values)
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    return GradientFactors(values, found, sizes)


def total_norm(uses: list[Factor]) -> Float[Tensor, " batch"]:
    """‖Σ_u G_u‖² of one parameter's gradient over its uses u, cross terms included."""
    total = torch.stack([squared_norm(f) for f in uses]).sum(0)
    for i, f in enumerate(uses):
        for g in uses[:i]:
            total = total + 2 * inner(f, g)
    return total


@torch.enable_grad()
def _norms(model: nn.Module, inputs: Inputs, objective: Objective) -> GradientNorms:
    recorder, values, columns = _forward(model, inputs, objective)
    uses = _use_counts(recorder)
    norms = {name: torch.zeros_like(widen(columns.detach())) for name in recorder.order(uses)}
    for k in range(columns.shape[1]):
        for name, norm in _norms_of_one(recorder, columns, k, uses).items():
            norms[name][:, k] = norm
    result = GradientNorms(values, {k: norm.reshape(values.shape) for k, norm in norms.items()})
    checks.finite_result(model, values, result.total)
    return result


def _norms_of_one(
    recorder: Recorder, columns: Tensor, k: int, uses: dict[str, int]
) -> dict[str, Tensor]:
    """Squared norms of objective k's gradients, by parameter, as the backward pass runs."""
    norms: dict[str, Tensor] = {}
    shared: dict[str, list[Factor]] = {}

    def consume(name: str, factor: Factor) -> None:
        if uses[name] == 1:
            norms[name] = squared_norm(factor)
        else:  # a parameter used more than once owes cross terms: wait for all its uses
            shared.setdefault(name, []).append(factor)

    _backward(recorder, columns, k, consume)
    return norms | {name: total_norm(several) for name, several in shared.items()}


def _forward(
    model: nn.Module, inputs: Inputs, objective: Objective
) -> tuple[Recorder, Tensor, Tensor]:
    """Run and record; returns the detached values and the objectives as columns of a matrix."""
    recorder = Recorder(model)
    with recorder.watching():
        output = checks.call(model, inputs)
        values = objective(output)
    checks.objective(values, checks.batch_of(inputs))
    columns = values if values.ndim == 2 else values[:, None]
    recorder.batch = columns.shape[0]
    checks.independent(recorder, columns)
    return recorder, values.detach(), columns


def _backward(
    recorder: Recorder, columns: Tensor, k: int, consume: Callable[[str, Factor], None]
) -> None:
    """One backward pass; hands on each parameter's gradient as soon as its δ arrives."""

    @torch.no_grad()
    def collect(call: Call) -> None:
        for local, factor in call.factors(recorder.batch).items():
            consume(recorder.names[id(call.touched[local])], factor)
        call.deltas.clear()

    recorder.arrived = collect
    recorder.run_backward(columns, _every_example(columns, k), last=k == columns.shape[1] - 1)
    for call in recorder.calls:  # fallback calls wait until all their outputs' δ are there
        if call.rule is None and call.deltas:
            collect(call)


def _every_example(columns: Tensor, k: int) -> Tensor:
    """The gradient of Σ_b s_bk at the objectives."""
    one = torch.zeros_like(columns)
    one[:, k] = 1
    return one


def _use_counts(recorder: Recorder) -> dict[str, int]:
    counts: dict[str, int] = {}
    for call in recorder.calls:
        for parameter in call.touched.values():
            name = recorder.names[id(parameter)]
            counts[name] = counts.get(name, 0) + 1
    return counts
