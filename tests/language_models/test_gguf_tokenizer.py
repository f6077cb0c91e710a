"""Tokenizers from GGUF files split, begin and end texts as the models were trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers.models.qwen2.tokenization_qwen2 import Qwen2Tokenizer

from gnuq.language_models import ModelError, load
from gnuq.language_models.gguf_tokenizer import ends_of, tokenizer_of
from tests.language_models.tiny_gguf import (
    BYTE_LEVEL,
    MERGES,
    TEXTS,
    TOKENS,
    sentencepiece,
    written,
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GNUQ_CACHE", str(tmp_path / "cache"))


def test_qwen2s_tokens_are_those_of_its_own_class(tmp_path: Path) -> None:
    """transformers' class for Qwen2, given the vocabulary; accents composed and digits apart."""
    theirs: Any = Qwen2Tokenizer(
        vocab={token: i for i, token in enumerate(TOKENS)},
        merges=[tuple(pair.split(" ")) for pair in MERGES],
    )
    ours = tokenizer_of(tmp_path / "x.gguf", BYTE_LEVEL, 128)
    for text in TEXTS[:-1]:
        assert ours(text)["input_ids"] == theirs(text)["input_ids"]
    assert ours("e\u0301")["input_ids"] == [TOKENS.index("Ã©")]


@pytest.mark.parametrize(
    ("split", "tokens"),
    [
        ("qwen2", ["1", ":Ċ", "Ġ", "1", "2"]),
        ("llama-bpe", ["1", ":Ċ", "Ġ", "12"]),
        ("smollm", ["1", ":", "Ċ", "Ġ", "1", "2"]),
        ("gpt-2", ["1", ":", "Ċ", "Ġ", "12"]),
    ],
)
def test_no_merge_crosses_a_split(tmp_path: Path, split: str, tokens: list[str]) -> None:
    told = BYTE_LEVEL | {"tokenizer.ggml.pre": split}
    assert tokenizer_of(tmp_path / "x.gguf", told, None).tokenize("1:\n 12") == tokens


@pytest.mark.parametrize("split", ["qwen2", "llama-bpe", "smollm", "gpt-2"])
def test_texts_come_back_and_begin_as_the_file_says(tmp_path: Path, split: str) -> None:
    for begins in (True, False):
        told = BYTE_LEVEL | {
            "tokenizer.ggml.pre": split, "tokenizer.ggml.add_bos_token": begins,
        }  # fmt: skip
        tokenizer = tokenizer_of(tmp_path / "x.gguf", told, None)
        for text in TEXTS:
            ids = tokenizer(text)["input_ids"]
            assert (ids[0] == 0) == begins
            shown = tokenizer.decode(ids[begins:], clean_up_tokenization_spaces=False)
            assert shown.replace("é", "e\u0301") == text.replace("é", "e\u0301")
    assert tokenizer.tokenize("a<tool>a<|im_end|>") == ["a", "<tool>", "a", "<|im_end|>"]
    assert tokenizer.decode([2, 1], skip_special_tokens=True) == "<tool>"


def test_llama_3_takes_a_piece_that_is_a_token_whole(tmp_path: Path) -> None:
    """And by the file's silence its texts begin with a token; so llama.cpp reads it."""
    told = {k: v for k, v in BYTE_LEVEL.items() if not k.endswith("add_bos_token")}
    told |= {"tokenizer.ggml.pre": "llama-bpe", "tokenizer.ggml.merges": ["Ã ©"]}
    tokenizer = tokenizer_of(tmp_path / "x.gguf", told, None)
    assert tokenizer(" a")["input_ids"] == [0, TOKENS.index("Ġa")]


def test_several_tokens_end_an_answer_but_not_the_unknown_one() -> None:
    assert ends_of(BYTE_LEVEL) == [0, 1]
    assert ends_of(BYTE_LEVEL | {"tokenizer.ggml.unknown_token_id": 0}) == [1]
    assert ends_of({k: v for k, v in BYTE_LEVEL.items() if "token_id" not in k}) == [0, 1]
    assert ends_of({"tokenizer.ggml.eos_token_id": 7}) == [7]


def test_a_sentencepiece_vocabulary_is_read_by_transformers(tmp_path: Path) -> None:
    loaded = load(str(written(tmp_path / "x.gguf", told=sentencepiece(blank=True))), device="cpu")
    tokenizer = loaded.tokenizer
    assert tokenizer.convert_ids_to_tokens(tokenizer("ab a\n")["input_ids"]) == [
        "<s>", "▁ab", "▁a", "<0x0A>",
    ]  # fmt: skip
    ids = tokenizer("ab  b\n")["input_ids"]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "ab  b\n"
    assert loaded.model.generation_config.eos_token_id == 2


def test_a_blank_before_the_text_is_where_the_file_wants_it_or_the_file_is_refused(
    tmp_path: Path,
) -> None:
    file = written(tmp_path / "x.gguf", told=sentencepiece(blank=False))
    with pytest.raises(ModelError, match="transformers puts a blank before a text, unlike the"):
        load(str(file))
