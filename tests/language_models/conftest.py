"""The default model, and a tiny one."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from gnuq.language_models import Loaded, load
from tests.language_models import tiny


@pytest.fixture(scope="module")
def default(cache: Path) -> Loaded:
    """As the first user of a new cache gets it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GNUQ_CACHE", str(cache))
        return load(device="cpu")


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    return tiny.llama()


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return tiny.tokenizer()
