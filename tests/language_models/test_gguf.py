"""GGUF files by path: converted once, rightly, or refused with a reason; on a tiny random Llama."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors import SafetensorError

from gnuq import score
from gnuq.language_models import MODELS, ModelError, generate, gguf_files, load, offline, registry
from gnuq.language_models.gguf_tokenizer import tokenizer_of
from tests.language_models.tiny_gguf import BYTE_LEVEL, TEXTS, model, written


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GNUQ_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return written(tmp_path / "tiny-llama.Q8.gguf")


def digest(file: Path) -> str:
    return f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}"


def test_a_file_loads_as_the_model_that_was_written(file: Path) -> None:
    loaded = load(str(file), device="cpu")
    assert (loaded.name, loaded.revision) == ("tiny-llama.Q8", digest(file))
    assert (loaded.quantisation, loaded.dtype, loaded.entry) == (None, "float32", None)
    expected = model().state_dict()
    found = loaded.model.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    written_down = tokenizer_of(file, BYTE_LEVEL, 128)
    assert all(loaded.tokenizer(x)["input_ids"] == written_down(x)["input_ids"] for x in TEXTS)
    assert loaded.tokenizer.model_max_length == 128
    message = [{"role": "user", "content": "a é"}]
    assert loaded.tokenizer.apply_chat_template(message, tokenize=False) == "a é<|im_end|>"
    assert loaded.model.generation_config.eos_token_id == [0, 1]


def test_its_answers_can_be_scored_and_name_the_model(file: Path) -> None:
    loaded = load(str(file), device="cpu")
    (answer,) = generate(loaded, loaded.tokenizer, ["a é 12"], max_new_tokens=4, stop=None)
    scores = score(loaded.model, loaded.tokenizer, ["a é 12"], [answer.ids or (5,)])
    assert scores.model_name == "tiny-llama.Q8"
    assert scores.epistemic[0] > 0


def test_shards_are_the_same_model(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gguf_files, "SHARD", 20_000)
    loaded = load(str(file), device="cpu")
    (folder,) = (offline.cache() / "models").iterdir()
    assert len(list(folder.glob("*.safetensors"))) > 2
    expected = model().state_dict()
    assert all(torch.equal(value, expected[k]) for k, value in loaded.model.state_dict().items())


def test_a_head_that_is_not_in_the_file_is_the_embedding(tmp_path: Path) -> None:
    loaded = load(str(written(tmp_path / "tied.gguf", less=("output.weight",))), device="cpu")
    assert loaded.model.lm_head.weight is loaded.model.get_input_embeddings().weight


def test_the_content_is_the_key_and_the_checksum_can_be_asked_for(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(str(file), device="cpu")
    monkeypatch.setattr(offline, "convert", None)  # no second conversion
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    again = load(str(shutil.copy(file, moved)), revision=digest(file), device="cpu")
    assert again.revision == digest(file)
    with pytest.raises(ModelError, match="tiny-llama.Q8: .* is sha256:.*, not sha256:0"):
        load(str(file), revision="sha256:0")


@pytest.fixture
def entry(file: Path, monkeypatch: pytest.MonkeyPatch) -> registry.LanguageModel:
    """A model of the registry that is the tiny file."""
    made = registry.LanguageModel(
        name="listed",
        repository=f"file:{file.name}",
        revision=digest(file),
        kind="causal",
        quantisation=None,
        dtype="float32",
        licence="MIT",
        gated=False,
        parameters=1,
        note="A test's.",
        upstream="someone/files",
    )
    monkeypatch.setitem(MODELS, "listed", made)
    monkeypatch.delenv("GNUQ_MODELS", raising=False)
    return made


def test_a_file_of_the_registry_is_in_the_users_folder(
    entry: registry.LanguageModel, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GNUQ_MODELS", str(file.parent))
    loaded = load("listed", device="cpu")
    assert (loaded.name, loaded.revision, loaded.entry) == ("listed", entry.revision, entry)


def test_a_file_of_the_registry_that_is_missing_or_another(
    entry: registry.LanguageModel, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = "get tiny-llama.Q8.gguf from https://huggingface.co/someone/files"
    with pytest.raises(ModelError, match=f"listed: {where}, and set GNUQ_MODELS to the folder"):
        load("listed")
    monkeypatch.setenv("GNUQ_MODELS", str(tmp_path / "none"))
    with pytest.raises(ModelError, match=f"listed: GNUQ_MODELS=.*none has no such file; {where}"):
        load("listed")
    monkeypatch.setenv("GNUQ_MODELS", str(tmp_path))
    file.write_bytes(file.read_bytes() + b"more")
    with pytest.raises(ModelError, match="listed: .*get that file again, or load this one by its"):
        load("listed")
    assert not (offline.cache() / "models").exists()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda f: f.write_bytes(b"PK\3\4zip"), r"not a GGUF file \(it begins with b'PK"),
        (lambda f: f.write_bytes(b"GG"), r"not a GGUF file \(it begins with b'GG'"),
        (lambda f: f.write_bytes(written(f).read_bytes()[:4000]), "damaged or incomplete"),
        (lambda f: f.write_bytes(written(f).read_bytes()[:-4000]), "damaged or incomplete"),
        (lambda f: f.write_bytes(b"GGUF" + bytes(40)), "damaged or incomplete"),
        (lambda f: written(f, kind="rwkv6"), "architecture rwkv6 .*load the original model"),
        (
            lambda f: written(f, told=BYTE_LEVEL | {"split.count": 3}),
            "one of several parts; join them",
        ),
        (
            lambda f: written(f, told=BYTE_LEVEL | {"llama.rope.scaling.type": "yarn"}),
            "rotary embedding is scaled",
        ),
        (
            lambda f: written(f, more={"rope_freqs.weight": np.ones(8, np.float32)}),
            r"has (\d+) weights, and transformers makes (?!\1)\d+ of them; load the original",
        ),
        (lambda f: written(f, less=("blk.0.ffn_up.weight",)), "weights, and transformers makes"),
        (
            lambda f: written(f, told=BYTE_LEVEL | {"tokenizer.ggml.pre": "tekken"}),
            "tokenizer is 'gpt2' with text split as 'tekken', which is not known here",
        ),
        (
            lambda f: written(f, told=BYTE_LEVEL | {"tokenizer.ggml.model": "bert"}),
            "tokenizer is 'bert'",
        ),
    ],
)
def test_what_cannot_be_read_is_refused_and_leaves_nothing(
    tmp_path: Path, make: Callable[[Path], object], message: str
) -> None:
    file = tmp_path / "bad.gguf"
    make(file)
    with pytest.raises(ModelError, match=message):
        load(str(file))
    assert list((offline.cache() / "models").iterdir()) == []


def test_a_file_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no file 'models/none.gguf'; check its path"):
        load("models/none.gguf")


def test_a_full_disk_is_seen_before_and_while_writing(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10_000))
        message = r"tiny-llama.Q8: cannot write .*it takes 0.0 GB, and 0.0 GB are free.*GNUQ_CACHE"
        with pytest.raises(ModelError, match=message):
            load(str(file))

    def full(*_: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device")

    monkeypatch.setattr(offline, "convert", full)
    with pytest.raises(ModelError, match="cannot write .*No space left.*Free space there"):
        load(str(file))
    assert list((offline.cache() / "models").iterdir()) == []
