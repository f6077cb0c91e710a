"""The registry: complete, as the paper has it, quick to import."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import fields
from typing import get_args

import pytest

from gnuq.language_models import registry
from gnuq.language_models.registry import MODELS, find


@pytest.mark.parametrize("entry", MODELS.values(), ids=lambda entry: entry.name)
def test_an_entry_is_complete(entry: registry.LanguageModel) -> None:
    for field in fields(entry):
        if field.name not in ("revision", "quantisation", "gated", "upstream"):
            assert getattr(entry, field.name), field.name
    assert entry.kind in get_args(registry.Kind)
    assert entry.quantisation in (None, *get_args(registry.Quantisation))
    assert entry.dtype in get_args(registry.Dtype)
    assert entry.note.endswith(".")
    assert (entry.upstream is not None) == entry.repository.startswith(registry.FILE)


@pytest.mark.parametrize("entry", MODELS.values(), ids=lambda entry: entry.name)
def test_a_revision_is_a_digest_or_openly_missing(entry: registry.LanguageModel) -> None:
    if entry.revision is None:
        assert entry.note.startswith("Not pinned yet")
    else:
        assert re.fullmatch(r"[0-9a-f]{40}|sha256:[0-9a-f]{64}", entry.revision)


def test_the_papers_four_are_quantised_as_it_says() -> None:
    """Appendix G.1: all but Llama 2, which comes quantised, to 4 bits with bitsandbytes."""
    how = {name: MODELS[name].quantisation for name in registry.PAPER}
    assert how == {"llama-2-7b-chat-awq": "awq"} | dict.fromkeys(registry.PAPER[1:], "nf4")
    assert all(MODELS[name].kind == "causal" for name in registry.PAPER)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("default", "smollm2-135m"),
        ("SmolLM2-135M", "smollm2-135m"),
        ("meta-llama/Llama-3.2-3B", "llama-3.2-3b"),
        ("allenai/OLMo-1B-hf", "olmo-1b"),
        ("Phi-4", "phi-4"),
    ],
)
def test_a_name_an_alias_and_a_repository_find_a_model(name: str, found: str) -> None:
    assert find(name) is MODELS[found]


def test_an_unknown_name_is_told_the_names_and_the_closest() -> None:
    with pytest.raises(
        ValueError, match=r"no model 'llama-3.2'.* Did you mean 'llama-3.2-3b'"
    ) as e:
        find("llama-3.2")
    assert all(name in str(e.value) for name in MODELS)
    with pytest.raises(ValueError, match="no model 'xyz'. Choose one of"):
        find("xyz")


def test_the_registry_loads_nothing_heavy() -> None:
    code = (
        "import sys, gnuq.language_models.registry as r; r.find('default'); "
        "sys.exit(any(m in sys.modules for m in ('torch', 'transformers', 'numpy', 'pandas')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
