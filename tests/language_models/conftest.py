"""The default model, converted once for all tests from the file in the installed package."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from gnuq.language_models import Loaded, load
from tests.language_models import tiny


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def default(cache: Path) -> Loaded:
    """About 20 s, nearly all of them the conversion."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GNUQ_CACHE", str(cache))
        return load(device="cpu")


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    return tiny.llama()


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return tiny.tokenizer()
