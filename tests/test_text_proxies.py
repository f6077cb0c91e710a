"""Appendix A.1: the closed form against plain loops, and what the symmetries demand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import expit

from gnuq import paper
from gnuq.artefacts import Origin, files
from gnuq.figures import text_proxies as figures
from gnuq.pipeline import text_proxies as pipeline
from gnuq.qa import newsgroups
from gnuq.results import text_proxies, text_summary
from gnuq.results.text_proxies import PRIMARY, VARIANTS, LastLayer, Variant
from tests.language_models.test_encoders import classifier
from tests.test_newsgroups import table as posts

FEATURES = 5
ROLES = {"training": 12, "fresh": 9, "test": 8}


@pytest.fixture(autouse=True)
def _few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_summary, "DRAWS", 200)
    monkeypatch.setattr(text_proxies, "SPLITS", 3)


def layer(seed: int = 0, scale: float = 1.0) -> LastLayer:
    """Two clouds of texts, one a domain, and a head that tells them apart."""
    generator = np.random.default_rng(seed)
    rows = [
        {"id": i, "category": f"{domain}.a", "domain": domain, "role": role}
        for domain in text_proxies.DOMAINS
        for role, n in ROLES.items()
        for i in range(n)
    ]
    texts = pd.DataFrame(rows)
    centres = np.where(texts["domain"] == "sports", 1.0, -1.0)[:, None] * [1, 0.5, 0, 0, 0]
    features = centres + generator.normal(size=(len(texts), FEATURES))
    weight = scale * generator.normal(size=(2, FEATURES))
    return LastLayer(features, weight, generator.normal(size=2), texts)


def loop(one: LastLayer, variant: Variant, domain: str) -> np.ndarray:
    """gᵀH⁻¹g of the test texts, from autograd's gradients in all 2(d + 1) parameters."""
    head = torch.nn.Linear(FEATURES, 2)
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(one.weight))
        head.bias.copy_(torch.from_numpy(one.bias))

    def gradient(value: torch.Tensor) -> torch.Tensor:
        return torch.cat([g.flatten() for g in torch.autograd.grad(value, list(head.parameters()))])

    def log_probabilities(row: int) -> torch.Tensor:
        return head(torch.from_numpy(one.features[row])).log_softmax(0)

    proxies = one.proxies(variant.proxies)[text_proxies.DOMAINS.index(domain)]
    hessian = torch.zeros(2 * (FEATURES + 1), 2 * (FEATURES + 1))
    for row in proxies:
        for label in (0, 1):
            weight = log_probabilities(row)[label].exp().item()
            if variant.fisher == "observed":
                weight = float(label == (domain == "sports"))
            g = gradient(log_probabilities(row)[label])
            hessian += weight * torch.outer(g, g)
    hessian /= 1 if variant.reduction == "sum" else len(proxies)
    hessian += variant.prior_precision * torch.eye(len(hessian))
    tests = np.flatnonzero(one.texts["role"] == "test")
    gradients = [gradient(log_probabilities(row).exp()[1]) for row in tests]
    return np.array([float(g @ torch.linalg.solve(hessian, g)) for g in gradients])


@pytest.mark.parametrize("variant", [v for v in VARIANTS if v.fisher != "sampled"], ids=str)
def test_the_closed_form_is_the_full_laplace_of_the_head(variant: Variant) -> None:
    one = layer()
    found = text_proxies.variances(one, variant, seed=0)
    for domain in text_proxies.DOMAINS:
        np.testing.assert_allclose(found[domain], loop(one, variant, domain), rtol=1e-9)


def test_the_identity_is_the_squared_gradient_norm() -> None:
    """H = λI without proxies that weigh anything."""
    one = layer()
    found = text_proxies.variances(one, replace(PRIMARY, prior_precision=1e9), seed=0)
    np.testing.assert_allclose(found["science"] * 1e9, found["identity"], rtol=1e-6)
    assert (text_summary.remaining(found.assign(seed=0, prior_precision=1e9))["share"] <= 1).all()


def test_a_sampled_label_has_the_expected_weight_on_average() -> None:
    """E_y (y − p)² = p(1 − p), to four standard errors."""
    generator, logit = np.random.default_rng(0), np.array([-2.0, 0.3, 4.0])
    args = (logit, np.zeros(3))
    drawn = [text_proxies.label_weights(*args, "sampled", generator) for _ in range(4000)]
    expected = text_proxies.label_weights(*args, "expected", generator)
    np.testing.assert_allclose(expected, expit(logit) * (1 - expit(logit)))
    error = np.std(drawn, axis=0) / np.sqrt(len(drawn))
    assert (np.abs(np.mean(drawn, axis=0) - expected) < 4 * error).all()


def swapped(one: LastLayer) -> LastLayer:
    """The same texts with the domains' names exchanged."""
    names = dict(zip(text_proxies.DOMAINS, reversed(text_proxies.DOMAINS), strict=True))
    return replace(one, texts=one.texts.assign(domain=one.texts["domain"].map(names)))


def test_swapping_the_domains_turns_the_log_ratios_sign() -> None:
    one = layer()
    before = text_proxies.variances(one, PRIMARY, seed=0)
    after = text_proxies.variances(swapped(one), PRIMARY, seed=0)
    np.testing.assert_allclose(after["log_ratio"], -before["log_ratio"], atol=1e-12)


def test_identical_proxies_give_no_log_ratio() -> None:
    one = layer()
    features = one.features.copy()
    science, sports = one.proxies("training")
    features[sports] = features[science]
    same = text_proxies.variances(replace(one, features=features), PRIMARY, seed=0)
    np.testing.assert_allclose(same["log_ratio"], 0, atol=1e-12)


def test_the_log_ratio_does_not_depend_on_the_confidence() -> None:
    """A head so sure that p(1 − p) is nearly nought: small variances, ordinary log-ratios."""
    sure = text_proxies.per_text(layer(scale=60.0), seed=0)
    assert sure["identity"].min() < 1e-30
    assert np.isfinite(sure[["identity", "science", "sports", "log_ratio", "control"]]).all(
        axis=None
    )
    one = layer()
    logit = text_proxies.variances(one, PRIMARY, seed=0)
    g = np.log(logit["science"] / logit["sports"])
    np.testing.assert_allclose(logit["log_ratio"], g)


def test_each_proxy_suppresses_its_own_domain() -> None:
    """What the paper reports, on clouds made for it; two mixed halves do no such thing."""
    summary = text_summary.summarise(text_proxies.per_text(layer(), 0, [PRIMARY]))
    row = summary.iloc[0]
    assert row["typical_shift_science"] < 1 < row["typical_shift_sports"]
    assert row["median_science"] < 0 < row["median_sports"]
    assert row["cohens_d_low"] < row["cohens_d"] < row["cohens_d_high"]
    chance = text_proxies.controls(layer(), 0, [PRIMARY])
    assert row["cohens_d"] > 2 * chance["cohens_d"].abs().median()
    assert chance["gap"].abs().median() < row["median_sports"] - row["median_science"]


def test_the_control_column_is_the_first_split() -> None:
    """Every split has half of either domain's proxies in each half, and no proxy twice."""
    one = layer()
    text = text_proxies.variances(one, PRIMARY, seed=3)
    science, sports = (text.loc[text["domain"] == d, "control"] for d in text_proxies.DOMAINS)
    chance = text_proxies.controls(one, 3, [PRIMARY])
    assert len(chance) == text_proxies.SPLITS
    assert chance["gap"].iloc[0] == pytest.approx(sports.median() - science.median())
    d = text_proxies.cohens_d(science.to_numpy(), sports.to_numpy())
    assert chance["cohens_d"].iloc[0] == pytest.approx(d)
    assert chance["cohens_d"].nunique() == text_proxies.SPLITS


def test_cohens_d_and_welchs_t_agree() -> None:
    """With equal numbers of texts t = d √(n/2), whatever the variances."""
    row = text_summary.summarise(text_proxies.per_text(layer(), 0, [PRIMARY])).iloc[0]
    assert row["t"] == pytest.approx(row["cohens_d"] * np.sqrt(ROLES["test"] / 2))


def test_the_tables_hold_every_seed_and_variant_and_the_papers_row() -> None:
    record = pd.concat([text_proxies.per_text(layer(seed), seed) for seed in (0, 1)])
    summary = text_summary.summarise(record)
    assert len(summary) == 2 * len(VARIANTS)
    assert np.isfinite(summary.select_dtypes(float)).all(axis=None)
    table = text_summary.table_4(summary)
    assert len(table) == 3
    printed = paper.items()["table-4"].printed["distilbert"]
    last = table.iloc[-1]
    assert [last[f"ratio_{k}"] for k in ("identity", "science", "sports")] == list(printed.values())
    primary = text_summary.chosen(summary)
    assert list(table["cohens_d"].iloc[:2]) == list(primary["cohens_d"])
    part = text_summary.chosen(record)
    part = part[part["seed"] == 1]
    means = part.groupby("domain")["sports"].mean()
    assert table["ratio_sports"].iloc[1] == pytest.approx(means["science"] / means["sports"])


def test_readable_ratios_name_every_seed() -> None:
    record = pd.concat([text_proxies.per_text(layer(seed), seed, [PRIMARY]) for seed in (0, 1)])
    summary = text_summary.summarise(record)
    arithmetic, geometric = (
        text_summary.readable(summary, kind) for kind in ("arithmetic", "geometric")
    )
    assert list(geometric.index) == ["MiniLM, seed 0", "MiniLM, seed 1"]
    assert list(arithmetic.index) == [*geometric.index, "DistilBERT, the paper"]
    assert arithmetic["I"].iloc[-1] == "0.28"
    value = f"{summary['typical_shift_sports'].iloc[1]:.3g} ("
    assert geometric["sports proxy / I"].iloc[1].startswith(value)


def test_the_settings_are_those_of_the_code() -> None:
    table = text_summary.settings()["ours"]
    assert table["texts a domain"] == "400 to train, 100 to test"
    assert table["prior precision λ"] == f"{PRIMARY.prior_precision:g}"
    assert table["reduction over proxies"] == PRIMARY.reduction


def test_a_run_that_was_cut_off_goes_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    done: list[int] = []

    def fitted(seed: int) -> LastLayer:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(seed)
        return layer(seed)

    monkeypatch.setattr(files, "DATA", tmp_path)
    monkeypatch.setattr(pipeline, "fitted", fitted)
    origin = Origin(code="test")
    with pytest.raises(KeyboardInterrupt):
        pipeline.text_proxy_rows(origin)
    done.clear()
    found = pipeline.text_proxy_rows(origin)
    assert done == [2]
    assert list(found) == [pipeline.NAME, pipeline.CONTROLS]
    for name, table in found.items():
        assert list(table["seed"].unique()) == list(pipeline.SEEDS), name
    assert not {"body", "text"} & set(found[pipeline.NAME])
    pipeline.discard(origin)
    assert not list(tmp_path.iterdir())


def test_fine_tuning_hands_on_every_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """Features in the order of the texts, below the head that was trained."""
    model = classifier("minilm")
    few = {"training": ("train", 8), "fresh": ("train", 4), "test": ("test", 4)}
    monkeypatch.setattr(newsgroups, "ROLES", few)
    monkeypatch.setattr(newsgroups, "posts", lambda: posts(20))
    monkeypatch.setattr(pipeline.encoders, "classifier", lambda name, seed: model)
    one = pipeline.fitted(0)
    chosen = newsgroups.choose(posts(20), 0)
    assert list(one.texts["id"]) == list(chosen["id"])
    assert "body" not in one.texts
    given = model.tokens(chosen["body"].tolist()[-1:], pipeline.SETTINGS.max_length)
    logits = model(**given)[0].detach()
    assert one.logit[-1] == pytest.approx(float(logits[1] - logits[0]))


def test_figures_show_what_they_are_given() -> None:
    record = pd.concat([text_proxies.per_text(layer(seed), seed) for seed in (0, 1)])
    part = text_summary.chosen(record)
    figure = figures.log_ratios(part)
    science = part[part["domain"] == "science"]
    assert list(figure.data[0].y) == list(science["log_ratio"])
    control = figure.layout.updatemenus[0].buttons[1].args[0]["y"]
    assert control[0] == list(science["control"])
    shares = figures.remaining_shares(text_summary.remaining(part))
    assert sum(len(box.y) for box in shares.data) == 2 * len(part)
    chance = pd.concat([text_proxies.controls(layer(seed), seed) for seed in (0, 1)])
    table = text_summary.sensitivity(text_summary.summarise(record), chance)
    variants = figures.variants(table)
    assert [len(dots.x) for dots in variants.data] == [len(VARIANTS) // 2] * 4
    assert list(variants.data[0].x) == list(table.query("proxies == 'training'")["cohens_d"])
    gaps = variants.layout.updatemenus[0].buttons[1].args[0]["x"]
    assert gaps[3] == list(table.query("proxies == 'fresh'")["control_gap"])


@pytest.mark.bad_input
def test_the_prior_precision_must_be_positive() -> None:
    with pytest.raises(ValueError, match="prior_precision is 0"):
        text_proxies.variances(layer(), replace(PRIMARY, prior_precision=0.0), seed=0)
