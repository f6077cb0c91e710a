"""Every way in which loading fails ends in one sentence with the model's name and the remedy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from huggingface_hub import constants, errors
from transformers import AutoModelForCausalLM
from transformers.utils import hub

from gnuq.language_models import ModelError, load
from tests.language_models import tiny

MODEL = "someone/model"


def answers(status: int) -> Any:
    return SimpleNamespace(status_code=status, headers={}, request=None)


def refused(kind: type[errors.HfHubHTTPError], status: int) -> Callable[[], Exception]:
    return lambda: kind(f"{status} Client Error", response=answers(status))


def raising(make: Callable[[], Exception]) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> None:
        raise make()

    return fail


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (refused(errors.GatedRepoError, 403), r"is gated; accept its licence .* 'hf auth login'"),
        (refused(errors.GatedRepoError, 401), r"is gated; accept its licence"),
        (refused(errors.HfHubHTTPError, 403), r"is gated; accept its licence"),
        (refused(errors.HfHubHTTPError, 401), r"is gated; accept its licence"),
        (refused(errors.RepositoryNotFoundError, 401), "does not exist, or is private"),
        (refused(errors.RepositoryNotFoundError, 404), "does not exist, or is private"),
        (refused(errors.RevisionNotFoundError, 404), "has no such revision; see .*/commits/main"),
        (refused(errors.RemoteEntryNotFoundError, 404), "it has no config.json"),
        (refused(errors.HfHubHTTPError, 503), "cannot be reached.*'hf download someone/model'"),
        (refused(errors.HfHubHTTPError, 429), "cannot be reached"),
        (lambda: errors.OfflineModeIsEnabled("offline"), "cannot be reached.*HF_HUB_OFFLINE"),
        (lambda: errors.LocalEntryNotFoundError("not here"), "cannot be reached.*HF_HOME"),
        (lambda: ConnectionError("no route"), "cannot be reached"),
        (lambda: TimeoutError("too long"), "cannot be reached"),
    ],
    ids=lambda value: getattr(value, "__name__", str(value))[:30],
)
def test_what_the_hub_raises(
    monkeypatch: pytest.MonkeyPatch, make: Callable[[], Exception], message: str
) -> None:
    monkeypatch.setattr(hub, "hf_hub_download", raising(make))
    with pytest.raises(ModelError, match=message) as error:
        load(MODEL)
    assert str(error.value).startswith(f"{MODEL}: ")


def test_offline_for_real(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match="phi-4: not on this machine.*hf download microsoft/phi-4"):
        load("phi-4")


@pytest.mark.parametrize(
    "make",
    [
        MemoryError,
        lambda: torch.OutOfMemoryError("CUDA out of memory."),
        lambda: RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to"),
    ],
)
def test_too_little_memory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, make: Callable[[], Exception]
) -> None:
    folder = tiny.saved(tmp_path)
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", raising(make))
    with pytest.raises(ModelError, match="out of memory.*quantisation='nf4'"):
        load(folder)


@pytest.mark.parametrize(
    ("module", "name", "how"),
    [
        ("quantizer_bnb_4bit", "bitsandbytes", "nf4"),
        ("quantizer_bnb_4bit", "accelerate", "nf4"),
        ("quantizer_bnb_8bit", "bitsandbytes", "int8"),
    ],
)
def test_a_missing_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, module: str, name: str, how: str
) -> None:
    folder = tiny.saved(tmp_path)
    place = f"transformers.quantizers.{module}.is_{name}_available"
    monkeypatch.setattr(place, lambda *_: False)
    with pytest.raises(ModelError, match=f"package {name} is missing; run: pip install {name}"):
        load(folder, quantisation=how, device="cpu")


def test_folders_that_are_no_models(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="it has no config.json"):
        load(str(tmp_path))
    tiny.saved(tmp_path, with_tokenizer=False)
    with pytest.raises(ModelError, match=r"has no usable tokenizer.*save_pretrained\(folder\)"):
        load(str(tmp_path))
    tiny.tokenizer().save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="is incomplete .*no file named"):
        load(str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "no-such-kind"}')
    with pytest.raises(ModelError, match="is not a model that this transformers knows"):
        load(str(tmp_path))


def test_what_is_not_known_passes_as_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tiny.saved(tmp_path)
    broken = raising(lambda: RuntimeError("something else"))
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", broken)
    with pytest.raises(RuntimeError, match="^something else$"):
        load(folder)
