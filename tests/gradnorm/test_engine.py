"""Mixed networks, shared parameters, kernels; and nothing that is silently too small."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from gnuq.gradnorm import UnsupportedModuleError, gradient_factors, rule, squared_gradient_norms
from gnuq.gradnorm.rules import RULES
from tests import oracle
from tests.cases import CASES, Case, TiedLanguageModel, mean_of_one, mlp, probabilities

pytestmark = pytest.mark.filterwarnings(
    "ignore:There is a performance drop", "ignore:.*weight_norm.*is deprecated"
)


def prepared(case: Case, batch: int):
    """The model in eval mode, inputs, and the loop's gradients."""
    model = case.build().eval()
    inputs = case.inputs(batch)
    return model, inputs, oracle.gradients(model, inputs, case.objective)


@pytest.mark.parametrize("batch", [1, 2, 5, 7])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_norms_equal_the_loop(case: Case, batch: int) -> None:
    model, inputs, truth = prepared(case, batch)
    found = squared_gradient_norms(model, inputs, case.objective)
    columns = found.total.reshape(batch, -1)
    total = sum(g.flatten(2).square().sum(2) for g in truth.values())
    torch.testing.assert_close(columns, total, rtol=1e-9, atol=1e-14)
    for name, norm in found.by_parameter.items():
        expected = truth[name].flatten(2).square().sum(2)
        torch.testing.assert_close(norm.reshape(batch, -1), expected, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_kernel_and_jacobian_equal_the_loop(case: Case) -> None:
    model, inputs, truth = prepared(case, 5)
    other_inputs = case.inputs(3)
    other_truth = oracle.gradients(model, other_inputs, case.objective)
    rows = torch.cat([g.flatten(2) for g in truth.values()], 2).flatten(0, 1)
    columns = torch.cat([g.flatten(2) for g in other_truth.values()], 2).flatten(0, 1)
    factors = gradient_factors(model, inputs, case.objective)
    others = gradient_factors(model, other_inputs, case.objective)
    torch.testing.assert_close(factors.jacobian(), rows)
    torch.testing.assert_close(factors.kernel(others), rows @ columns.mT)
    diagonal = factors.kernel(factors).diagonal().reshape(factors.values.shape)
    torch.testing.assert_close(factors.squared_norms(), diagonal)


def test_kernel_weighs_each_parameter_tensor() -> None:
    model, inputs = mlp(), torch.randn(4, 3)
    factors = gradient_factors(model, inputs, probabilities)
    scale = {name: float(i + 1) for i, (name, _) in enumerate(model.named_parameters())}
    weights = torch.cat([torch.full((p.numel(),), scale[n]) for n, p in model.named_parameters()])
    expected = factors.jacobian() * weights @ factors.jacobian().mT
    torch.testing.assert_close(factors.kernel(factors, scale), expected)
    torch.testing.assert_close(factors.squared_norms(scale).flatten(), expected.diagonal())


def test_groups_and_modules_sum_to_the_total() -> None:
    model = TiedLanguageModel()
    norms = squared_gradient_norms(model, torch.randint(0, 11, (4, 7)), mean_of_one)
    assert set(norms.by_module()) == {"embed", "rms", "mix", "norm"}
    torch.testing.assert_close(sum(norms.by_module().values()), norms.total)
    by_kind = norms.by_group(lambda name: name.rpartition(".")[2])
    assert set(by_kind) == {"weight", "bias"}
    torch.testing.assert_close(sum(by_kind.values()), norms.total)


def test_a_tied_weight_owes_its_cross_term() -> None:
    model, ids = TiedLanguageModel(), torch.randint(0, 11, (4, 7))
    tied = squared_gradient_norms(model, ids, mean_of_one).by_parameter["embed.weight"]
    model.head.weight = nn.Parameter(model.embed.weight.detach().clone())
    untied = squared_gradient_norms(model, ids, mean_of_one).by_parameter
    cross = tied - untied["embed.weight"] - untied["head.weight"]
    assert cross.abs().min() > 1e-3 * tied.max()


def test_splitting_the_batch_changes_nothing() -> None:
    model, inputs = mlp(), torch.randn(11, 3)
    whole = squared_gradient_norms(model, inputs, probabilities)
    parts = squared_gradient_norms(model, inputs, probabilities, batch_size=4)
    torch.testing.assert_close(parts.total, whole.total)
    torch.testing.assert_close(parts.values, whole.values)


def test_mean_squared_score_is_the_trace_of_the_fisher_matrix() -> None:
    """E_y ‖∇ log p(y)‖² = tr F, with F = Jᵀ (diag p − ppᵀ) J built from the loop's logits."""
    model, inputs = mlp(), torch.randn(6, 3)
    norms = squared_gradient_norms(model, inputs, lambda f: f.log_softmax(-1))
    p = norms.values.exp()
    jacobian = oracle.gradients(model, inputs, lambda f: f)
    rows = torch.cat([g.flatten(2) for g in jacobian.values()], 2)
    hessian = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    trace = torch.einsum("bki,bkl,bli->b", rows, hessian, rows)
    torch.testing.assert_close((p * norms.total).sum(1), trace)


def test_weights_stay_frozen_and_untouched() -> None:
    model, inputs = mlp(), torch.randn(4, 3)
    model[0].weight.requires_grad_(False)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
    squared_gradient_norms(model, inputs, probabilities)
    for name, parameter in model.named_parameters():
        assert parameter.grad is None
        assert parameter.requires_grad == (name != "0.weight")
        assert torch.equal(parameter, before[name])
    assert hooks == [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]


def test_weights_thaw_again_after_an_error() -> None:
    model = mlp()
    with pytest.raises(ValueError, match="inputs"):
        squared_gradient_norms(model, torch.randn(4, 7), probabilities)
    assert all(p.requires_grad for p in model.parameters())
    assert not any(m._forward_hooks for m in model.modules())


def test_works_under_no_grad() -> None:
    model, inputs = mlp(), torch.randn(4, 3)
    expected = squared_gradient_norms(model, inputs, probabilities).total
    with torch.no_grad():
        found = squared_gradient_norms(model, inputs, probabilities).total
    torch.testing.assert_close(found, expected)
    assert not found.requires_grad


def test_a_registered_rule_replaces_the_fallback() -> None:
    class Shift(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.by = nn.Parameter(torch.zeros(3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.by

    model, inputs = nn.Sequential(Shift(), nn.Linear(3, 2)), torch.randn(4, 3)
    expected = squared_gradient_norms(model, inputs, probabilities).total
    from gnuq.gradnorm.factors import Dense

    rule(Shift, "by")(lambda module, x: lambda delta: {"by": Dense.of(delta)})
    try:
        found = squared_gradient_norms(model, inputs, probabilities).total
    finally:
        del RULES[Shift]
    torch.testing.assert_close(found, expected)


# --- bad input: a clear error that names the argument and the remedy -----------------------------


class FunctionalHead(nn.Module):
    """Ties its head by a function call: the recorder sees no module called."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(5, 4)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return F.linear(self.embed(ids), self.embed.weight)


class InPlaceResidual(nn.Module):
    """Overwrites a layer's input after the layer has read it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        h = self.second(x)
        x += h
        return x


class Flattening(nn.Module):
    """Merges batch and time before a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x.flatten(0, 1)).reshape(x.shape)


class TimeFirst(nn.Module):
    """Swaps batch and time before a layer: invisible when both have the same size."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x.transpose(0, 1)).transpose(0, 1)


class Borrowing(nn.Module):
    """Owns a parameter, and reads one of a sibling."""

    def __init__(self, sibling: nn.Linear) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))
        object.__setattr__(self, "sibling", sibling)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.scale @ self.sibling.weight


class WithoutGradient(nn.Module):
    """Runs a layer under no_grad, beside one that is not."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            x = self.first(x)
        return self.second(x)


class Checkpointed(nn.Module):
    """Gradient checkpointing in its old form, which runs the layer anew in its backward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return checkpoint(self.second, self.first(x), use_reentrant=True)


class AcrossExamples(nn.Module):
    """A layer of its own kind that mixes examples."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x - x.mean(0)) * self.scale


def borrowing() -> nn.Module:
    linear = nn.Linear(3, 3)
    return nn.Sequential(linear, Borrowing(linear))


tokens = torch.zeros(2, 3, dtype=torch.int64)
REFUSED = {
    "in-place residual": (InPlaceResidual, torch.ones(4, 3), "second.*in place.*x = x \\+ y"),
    "time first, square": (TimeFirst, torch.randn(5, 5, 3), "dimension 0"),
    "no_grad in a checkpoint": (Checkpointed, torch.ones(4, 3), "second.*no_grad"),
    "batch_first": (lambda: nn.LSTM(3, 4), torch.ones(2, 5, 3), "batch_first=True"),
    "max_norm": (lambda: nn.Embedding(5, 3, max_norm=1.0), tokens, "max_norm"),
    "mixing examples": (AcrossExamples, torch.randn(4, 3), "not independent"),
}


SHARED = {
    "no_grad": (WithoutGradient, torch.randn(4, 3)),
    "flattened tokens": (Flattening, torch.randn(2, 5, 3)),
    "time first": (TimeFirst, torch.randn(2, 5, 3)),
    "functional use": (FunctionalHead, torch.randint(0, 5, (4, 3))),
    "another's parameter": (borrowing, torch.randn(4, 3)),
}


@pytest.mark.parametrize("name", SHARED)
def test_uses_that_only_the_modules_around_see(name: str) -> None:
    """A parameter used outside its owner is charged to the smallest module around both."""
    build, inputs = SHARED[name]
    model = build().eval()

    def objective(outputs):
        return torch.stack([outputs.flatten(1).tanh().sum(1), outputs.flatten(1)[:, 0]], 1)

    found = squared_gradient_norms(model, inputs, objective)
    for parameter, norm in oracle.squared_norms(model, inputs, objective).items():
        mine = found.by_parameter.get(parameter, torch.zeros_like(norm))  # under no_grad: none
        torch.testing.assert_close(mine, norm, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_exact_is_refused_by_name(name: str) -> None:
    build, inputs, message = REFUSED[name]

    def objective(outputs):
        outputs = outputs[0] if isinstance(outputs, tuple) else outputs
        return outputs.flatten(1).tanh().sum(1)

    with pytest.raises(UnsupportedModuleError, match=message):
        squared_gradient_norms(build(), inputs, objective)


def poisoned() -> nn.Module:
    model = mlp()
    with torch.no_grad():
        model[2].bias[0] = torch.inf
    return model


x = torch.ones(4, 3)
BAD = {
    "wrong shape": (mlp, torch.ones(4, 5), probabilities, ValueError, "inputs.*4, 5"),
    "integers": (mlp, x.long(), probabilities, TypeError, "inputs.*to\\(torch.float64"),
    "another precision": (mlp, x.float(), probabilities, TypeError, "inputs.*to\\(torch.float64"),
    "empty batch": (mlp, torch.ones(0, 3), probabilities, ValueError, "inputs.*empty"),
    "NaN input": (mlp, x * torch.nan, probabilities, ValueError, "inputs.*NaN"),
    "infinite input": (mlp, x * torch.inf, probabilities, ValueError, "inputs.*infinity"),
    "infinite weight": (poisoned, x, probabilities, ValueError, "model.*2.bias"),
    "no parameters": (nn.Tanh, x, lambda y: y.sum(1), ValueError, "model.*no parameters"),
    "not a module": (lambda: len, x, probabilities, TypeError, "model"),
    "no tensor": (mlp, (), probabilities, ValueError, "inputs.*no tensor"),
    "a list of lists": (mlp, 3.0, probabilities, TypeError, "inputs.*float"),
    "one scalar": (mlp, x, lambda y: y.sum(), ValueError, "objective.*per example"),
    "wrong length": (mlp, x, lambda y: y[:2, 0], ValueError, "objective.*4 examples"),
    "not a tensor": (mlp, x, lambda y: 1.0, TypeError, "objective.*float"),
    "detached": (mlp, x, lambda y: y[:, 0].detach(), ValueError, "objective.*detach"),
    "integer objective": (mlp, x, lambda y: y.argmax(1), TypeError, "objective.*int64"),
    "NaN objective": (mlp, x, lambda y: (y[:, 0] - 1e9).log(), ValueError, "objective.*example 0"),
    "dropout": (lambda: nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.5)), x, probabilities,
                ValueError, "model.*eval"),
    "batch norm": (lambda: nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)), x, probabilities,
                   ValueError, "model.*eval"),
    "another device": (lambda: mlp().to("meta"), x, probabilities, ValueError,
                       "model.*0.weight.*not in memory"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
@pytest.mark.bad_input
def test_bad_input_names_the_argument_and_the_remedy(name: str) -> None:
    build, inputs, objective, error, message = BAD[name]
    with pytest.raises(error, match=message):
        squared_gradient_norms(build(), inputs, objective)


def test_batch_size_must_be_positive() -> None:
    with pytest.raises(ValueError, match="batch_size"):
        squared_gradient_norms(mlp(), x, probabilities, batch_size=0)
