"""The equations as theorems: identities that hold exactly, and limits that are known."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from gnuq import estimators as est
from gnuq.estimators import aleatoric, epistemic, log_odds, log_odds_of
from tests import oracle


def draws(seed: int, count: int = 50, batch: int = 3, classes: int = 4) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, batch, classes, generator=generator).mul(2).softmax(-1)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_both_decompositions_add_up_and_are_not_negative(seed: int) -> None:
    p = draws(seed)
    for parts in (est.entropy_decomposition(p), est.label_wise_decomposition(p)):
        torch.testing.assert_close(parts.total, parts.aleatoric + parts.epistemic)
        assert parts.aleatoric.min() >= 0
        assert parts.epistemic.min() >= -1e-15


def test_no_disagreement_means_no_epistemic_uncertainty() -> None:
    p = draws(0)[:1].expand(9, -1, -1)
    assert est.entropy_decomposition(p).epistemic.abs().max() < 1e-15
    assert est.label_wise_decomposition(p).epistemic.abs().max() < 1e-30


def test_certain_but_contradictory_draws_are_all_epistemic() -> None:
    p = torch.eye(2).repeat(5, 1)[:, None, :]
    entropy, variance = est.entropy_decomposition(p), est.label_wise_decomposition(p)
    torch.testing.assert_close(entropy.epistemic, torch.full((1,), 2.0).log())
    torch.testing.assert_close(variance.epistemic, torch.full((1, 2), 0.25))
    assert entropy.aleatoric.abs().max() == 0
    assert variance.aleatoric.abs().max() == 0


def test_label_wise_parts_are_the_moments() -> None:
    p = draws(1)
    parts = est.label_wise_decomposition(p)
    torch.testing.assert_close(parts.aleatoric, (p * (1 - p)).mean(0))
    torch.testing.assert_close(parts.epistemic, ((p - p.mean(0)) ** 2).mean(0))


def test_delta_method_agrees_for_every_form_of_the_covariance() -> None:
    g, diagonal = torch.randn(4, 2, 6), torch.rand(6)
    dense = est.delta_variance(g, torch.diag(diagonal))
    torch.testing.assert_close(dense, est.delta_variance(g, diagonal))
    torch.testing.assert_close(dense, est.delta_variance(g, lambda v: diagonal[:, None] * v))
    root = torch.randn(6, 6)
    full = est.delta_variance(g, root @ root.mT)
    torch.testing.assert_close(full, (g @ root).square().sum(-1))


def test_delta_method_with_identity_is_the_squared_gradient_norm() -> None:
    model, x = nn.Sequential(nn.Linear(2, 5), nn.Tanh(), nn.Linear(5, 3)), torch.randn(6, 2)
    gradients = oracle.gradients(model, x, lambda f: f.softmax(-1))
    g = torch.cat([v.flatten(2) for v in gradients.values()], 2)
    norms = est.epistemic(model, x)
    torch.testing.assert_close(norms.total, est.delta_variance(g, torch.ones(g.shape[-1])))
    torch.testing.assert_close(norms.values, model(x).softmax(-1).detach())


def test_delta_method_is_exact_for_a_linear_function_of_gaussian_weights() -> None:
    """Var[gᵀθ] of samples is gᵀΣg within four standard errors of a variance."""
    g, root, count = torch.randn(5), torch.randn(5, 5), 40_000
    samples = torch.randn(count, 5) @ root.mT @ g
    exact = est.delta_variance(g, root @ root.mT)
    assert abs(samples.var() / exact - 1) < 4 * (2 / count) ** 0.5


def test_sigmoid_and_two_way_softmax_agree() -> None:
    """p = σ(f) equals the softmax of (0, f), so the gradients of p through f are the same."""

    class Pair(nn.Module):
        def __init__(self, one: nn.Module) -> None:
            super().__init__()
            self.one = one

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            f = self.one(x)
            return torch.cat([torch.zeros_like(f), f], 1)

    one, x = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1)), torch.randn(7, 2)
    sigmoid = est.epistemic(one, x, link="sigmoid")
    softmax = est.epistemic(Pair(one), x)
    torch.testing.assert_close(softmax.total[:, 1], sigmoid.total)
    torch.testing.assert_close(softmax.total[:, 0], sigmoid.total)


def test_one_class_is_a_column_of_all_classes() -> None:
    model, x = nn.Linear(2, 3), torch.randn(5, 2)
    everything = est.epistemic(model, x).total
    torch.testing.assert_close(est.epistemic(model, x, classes=2).total, everything[:, 2])
    index = torch.tensor([0, 2, 1, 1, 0])
    picked = est.epistemic(model, x, classes=index).total
    torch.testing.assert_close(picked, everything.gather(1, index[:, None])[:, 0])


def test_regression_takes_the_output_itself() -> None:
    model, x = nn.Linear(3, 1), torch.randn(4, 3)
    norms = est.epistemic(model, x, link="identity")
    torch.testing.assert_close(norms.total, x.square().sum(1) + 1)


def test_aleatoric_second_order_closes_the_decomposition() -> None:
    p = draws(3, count=4000, classes=2)[..., 1]
    parts = est.label_wise_decomposition(p)
    closed = est.aleatoric_second_order(p.mean(0), parts.epistemic)
    torch.testing.assert_close(closed, parts.aleatoric)
    torch.testing.assert_close(est.aleatoric(p.mean(0)), parts.total)


class Tiny(nn.Module):
    """Logits for every position of a sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(9, 5), nn.Linear(5, 9)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.head(self.embed(ids).cumsum(1).tanh())


def test_sequence_estimate_contains_the_cross_terms() -> None:
    """‖∇p̄‖² = (1/T²) Σ_t Σ_s ⟨∇p_t, ∇p_s⟩, with masked positions left out (Eq. 10)."""
    model, ids = Tiny(), torch.randint(0, 9, (3, 6))
    tokens = torch.randint(0, 9, (3, 6))
    mask = torch.arange(6) < torch.tensor([6, 4, 1])[:, None]
    gradients = oracle.gradients(model, ids, lambda f: f.softmax(-1).flatten(1))
    g = torch.cat([v.flatten(2) for v in gradients.values()], 2).unflatten(1, (6, 9))
    per_token = g.gather(2, tokens[..., None, None].expand(-1, -1, 1, g.shape[-1]))[:, :, 0]
    per_token = per_token * mask[..., None]
    gram = per_token @ per_token.mT
    expected = gram.sum((1, 2)) / mask.sum(1) ** 2
    norms = est.sequence_epistemic(model, ids, tokens, mask)
    torch.testing.assert_close(norms.total, expected)
    p = est.token_probabilities(model(ids), tokens).detach()
    torch.testing.assert_close(norms.values, est.mean_probability(p, mask))
    variance = est.sequence_aleatoric(p, mask)
    torch.testing.assert_close(variance[2], (p * (1 - p))[2, 0])
    labels = tokens.where(mask, -100)
    torch.testing.assert_close(est.sequence_epistemic(model, ids, labels, mask).total, norms.total)


p3, g3 = torch.full((4, 3), 1 / 3), torch.ones(4, 3)
two, one = nn.Linear(2, 3), nn.Linear(2, 1)
x2, mask = torch.ones(4, 2), torch.ones(4, 3, dtype=torch.bool)
ids = torch.zeros(4, 3, dtype=torch.int64)
BAD = {
    "one draw": (lambda: est.label_wise_decomposition(p3[:1]), ValueError, "two posterior draws"),
    "one dimension": (lambda: est.entropy_decomposition(p3[:, 0]), ValueError, "last dimension"),
    "NaN variance": (
        lambda: est.aleatoric_second_order(p3, p3 * torch.nan), ValueError, "variance.*NaN"),
    "an output object": (
        lambda: est.predictions_from({"logits": p3}, "softmax"), TypeError, "model.*dict"),
    "not normalised": (lambda: est.entropy_decomposition(p3 / 2), ValueError, "sum to one"),
    "above one": (lambda: est.aleatoric(p3 * 4), ValueError, r"\[0, 1\]"),
    "NaN": (lambda: est.aleatoric(p3 * torch.nan), ValueError, "NaN"),
    "covariance shape": (lambda: est.delta_variance(g3, torch.ones(4)), ValueError, "covariance"),
    "covariance map": (lambda: est.delta_variance(g3, lambda v: v[:2]), ValueError, "covariance"),
    "not a covariance": (lambda: est.delta_variance(g3, -torch.ones(3)), ValueError, "negative"),
    "link": (lambda: est.epistemic(two, x2, link="probit"), ValueError, "link: 'probit'"),
    "softmax of one": (lambda: est.epistemic(one, x2), ValueError, "link.*sigmoid"),
    "sigmoid of three": (lambda: est.epistemic(two, x2, link="sigmoid"), ValueError, "link"),
    "class too large": (lambda: est.epistemic(two, x2, classes=3), ValueError, "classes.*0 … 2"),
    "class negative": (lambda: est.epistemic(two, x2, classes=-1), ValueError, "classes"),
    "class a float": (lambda: est.epistemic(two, x2, classes=x2[:, 0]), TypeError, "classes"),
    "classes too few": (lambda: est.epistemic(two, x2, classes=ids[:3, 0]), ValueError, "classes"),
    "classes of one output": (
        lambda: est.epistemic(one, x2, link="sigmoid", classes=0), ValueError, "classes"),
    "classes and parts": (
        lambda: est.epistemic(two, x2, classes=[0, 1, 2, 0], batch_size=2),
        ValueError, "batch_size"),
    "empty answer": (lambda: est.mean_probability(p3, ~mask), ValueError, "mask.*no answer"),
    "mask shape": (lambda: est.mean_probability(p3, mask[:2]), ValueError, "mask"),
    "mask of numbers": (lambda: est.mean_probability(p3, p3), ValueError, "mask.*booleans"),
    "token out of range": (
        lambda: est.sequence_epistemic(Tiny(), ids, ids + 9, mask), ValueError, "tokens.*9"),
    "tokens shape": (
        lambda: est.sequence_epistemic(Tiny(), ids, ids[:, :2], mask), ValueError, "tokens"),
    "negative variance": (
        lambda: est.aleatoric_second_order(p3, -p3), ValueError, "variance.*negative"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
@pytest.mark.bad_input
def test_bad_input_names_the_argument(name: str) -> None:
    run, error, message = BAD[name]
    with pytest.raises(error, match=message):
        run()


def confident(gap: float, link: str) -> tuple[nn.Module, torch.Tensor]:
    """A network in float32 whose logits are `gap` apart, either sign."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 3 if link == "softmax" else 1))
    with torch.no_grad():
        bias = torch.zeros_like(model[2].bias)
        bias[0] = gap
        model[2].bias.copy_(bias)
    return model.eval().float(), 0.1 * torch.randn(3, 6, dtype=torch.float32)


@pytest.mark.parametrize("link", ["softmax", "sigmoid"])
@pytest.mark.parametrize("gap", [-80.0, -40.0, -18.0, -5.0, 0.0, 5.0, 16.0, 18.0, 40.0, 80.0])
def test_a_sure_classifier_keeps_its_digits_on_either_side(gap: float, link: str) -> None:
    """Against [p (1 − p)]² ‖∇ log-odds‖² of a plain loop in float64, 1 − p summed on its own."""
    model, x = confident(gap, link)
    found = epistemic(model, x, link=link)
    model.double()
    for i in range(len(x)):
        z = model(x[i : i + 1].double())[0]
        others = z[1:].logsumexp(0) if link == "softmax" else z.new_zeros(())
        truth = sum(
            g.square().sum() for g in torch.autograd.grad(z[0] - others, list(model.parameters()))
        )
        p, rest = (z[0] - others).sigmoid().detach(), (others - z[0]).sigmoid().detach()
        first = found.total[i, 0] if link == "softmax" else found.total[i]
        ratio = first.double() / (truth * (p * rest).square())
        assert abs(float(ratio) - 1) < 1e-5 + 4e-7 * abs(gap)  # the logits' own last digit
        bernoulli = aleatoric(found)[i, 0] if link == "softmax" else aleatoric(found)[i]
        assert abs(float(bernoulli / (p * rest)) - 1) < 1e-5
        assert float(first) > 0


def test_mirrored_models_have_the_same_uncertainty() -> None:
    model, x = confident(30.0, "sigmoid")
    found = epistemic(model, x, link="sigmoid")
    with torch.no_grad():
        model[2].weight.neg_()
        model[2].bias.neg_()
    mirrored = epistemic(model, x, link="sigmoid")
    torch.testing.assert_close(mirrored.total, found.total, rtol=1e-6, atol=0)
    torch.testing.assert_close(aleatoric(mirrored), aleatoric(found), rtol=1e-6, atol=0)


def test_log_odds_agree_with_their_definition_and_take_impossible_classes() -> None:
    z = torch.randn(5, 4)
    for k in range(4):
        others = torch.cat([z[:, :k], z[:, k + 1 :]], 1).logsumexp(1)
        torch.testing.assert_close(log_odds(z)[:, k], z[:, k] - others)
        torch.testing.assert_close(log_odds_of(z, torch.full((5,), k)), z[:, k] - others)
    torch.autograd.gradcheck(log_odds, z.requires_grad_())
    mask = torch.tensor([0.0, -torch.inf, 0.0])
    some = epistemic(Masked(mask), torch.randn(2, 2))
    assert some.values[:, 1].tolist() == some.total[:, 1].tolist() == [0, 0]
    assert bool((some.total[:, [0, 2]] > 0).all())
    sure = epistemic(Masked(mask.roll(1) + mask.roll(2)), torch.randn(2, 2))
    assert sure.values.tolist() == [[0, 1, 0]] * 2
    assert sure.total.tolist() == [[0, 0, 0]] * 2


class Masked(nn.Module):
    """Logits of which some classes cannot be."""

    def __init__(self, mask: torch.Tensor) -> None:
        super().__init__()
        self.layer, self.mask = nn.Linear(2, 3), mask

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x) + self.mask


def test_a_regression_has_no_bernoulli_variance() -> None:
    with pytest.raises(TypeError, match="prediction"):
        aleatoric(epistemic(nn.Linear(3, 1), torch.randn(2, 3), link="identity"))
