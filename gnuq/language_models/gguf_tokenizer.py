r"""Tokenizers from the metadata of GGUF files.

A byte-level vocabulary (GPT-2's kind) stands in the file whole, but how text is split before the
merges is a mere name, `tokenizer.ggml.pre`. transformers does not know all names, and where it
does not, it splits as GPT-2 does: blanks and newlines before a digit then become other tokens than
the model knows. (For Qwen2 it also leaves out that accents are composed first.) So those are built
here, from names that are known; a vocabulary of SentencePiece's kind is built by transformers.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gnuq.language_models.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

CONTROL, USER_DEFINED = 3, 4  # the kinds of token that stand for no text, and for one whole text
SPECIAL = {"bos": "bos", "eos": "eos", "unknown": "unk", "padding": "pad"}
#: Words with what stands before them, numbers by so many digits, signs with the newlines behind.
PIECES = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,DIGITS}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
DIGITS = {"qwen2": 1, "llama-bpe": 3}
SPLITS = ("smollm", "gpt-2", *DIGITS)
#: How models' authors call the token after which nothing of an answer comes.
ENDS = (
    "</s>", "<eos>", "<|endoftext|>", "<|end_of_text|>", "<|im_end|>", "<|eot_id|>", "<|end|>",
    "<end_of_turn>",
)  # fmt: skip


def tokenizer_of(
    file: Path, told: Mapping[str, Any], longest: int | None
) -> PreTrainedTokenizerFast:
    """The tokenizer that a GGUF file describes.

    Args:
        file: the file.
        told: its metadata.
        longest: the most tokens that the model takes, if the file says.

    Raises:
        ModelError: the file describes another kind of tokenizer.
    """
    from transformers import PreTrainedTokenizerFast

    kind, split = told.get("tokenizer.ggml.model"), told.get("tokenizer.ggml.pre")
    if kind == "gpt2" and split in SPLITS:
        backend = _byte_level(told, split)
    elif kind == "llama":
        backend = _sentencepiece(file, told)
    else:
        raise ModelError(
            f"{file.name}: its tokenizer is {kind!r} with text split as {split!r}, which is not "
            "known here; load the original model, from the hub or as a folder."
        )
    ids = {ours: told.get(f"tokenizer.ggml.{its}_token_id") for its, ours in SPECIAL.items()}
    tokens = told["tokenizer.ggml.tokens"]
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        **{f"{ours}_token": tokens[i] for ours, i in ids.items() if i is not None},
        chat_template=told.get("tokenizer.chat_template"),
        model_max_length=longest,
        clean_up_tokenization_spaces=False,
    )


def ends_of(told: Mapping[str, Any]) -> list[int]:
    """The ids that end an answer: the one that the file names, and others that are called so.

    A file names one, and a model may use two: Qwen2 ends a chat's message with one token, and a
    text with another.
    """
    unknown, end = (told.get(f"tokenizer.ggml.{x}_token_id") for x in ("unknown", "eos"))
    named = {i for i, token in _of_kind(told, CONTROL) if token in ENDS and i != unknown}
    return sorted(named if end is None else named | {end})


def _of_kind(told: Mapping[str, Any], kind: int) -> list[tuple[int, str]]:
    kinds = told.get("tokenizer.ggml.token_type", [])
    return [(i, told["tokenizer.ggml.tokens"][i]) for i, one in enumerate(kinds) if one == kind]


def _byte_level(told: Mapping[str, Any], split: str) -> Any:
    """Byte-level BPE over pieces that no merge crosses."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors

    tokens = told["tokenizer.ggml.tokens"]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    pairs = [(left, right) for left, right in (x.split(" ") for x in told["tokenizer.ggml.merges"])]
    whole = split == "llama-bpe"  # a piece that is a token is not merged together, but taken
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=pairs, ignore_merges=whole))
    if split == "qwen2":
        made.normalizer = normalizers.NFC()
    made.pre_tokenizer = _pieces(split)
    made.decoder = decoders.ByteLevel()
    control = [token for _, token in _of_kind(told, CONTROL)]
    made.add_special_tokens([AddedToken(x, special=True, normalized=False) for x in control])
    made.add_tokens([AddedToken(x, normalized=False) for _, x in _of_kind(told, USER_DEFINED)])
    if told.get("tokenizer.ggml.add_bos_token", whole):
        begin = told["tokenizer.ggml.bos_token_id"]
        made.post_processor = processors.TemplateProcessing(
            single=[tokens[begin], "$A"], special_tokens=[(tokens[begin], begin)]
        )
    return made


def _pieces(split: str) -> Any:
    """How text is split before the merges."""
    from tokenizers import Regex, pre_tokenizers

    if split not in DIGITS:
        pieces = pre_tokenizers.ByteLevel(add_prefix_space=False)
        digits = pre_tokenizers.Digits(individual_digits=True)
        return pre_tokenizers.Sequence([digits, pieces]) if split == "smollm" else pieces
    pattern = Regex(PIECES.replace("DIGITS", str(DIGITS[split])))
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(pattern, behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def _sentencepiece(file: Path, told: Mapping[str, Any]) -> Any:
    """What transformers makes of the file, unless it begins texts otherwise than the file says."""
    from transformers import AutoTokenizer

    made = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).backend_tokenizer
    blank = made.encode("a", add_special_tokens=False).tokens[0].startswith("▁")
    if blank != told.get("tokenizer.ggml.add_space_prefix", True):
        raise ModelError(
            f"{file.name}: transformers puts {'a' if blank else 'no'} blank before a text, unlike "
            "the file; load the original model, from the hub or as a folder."
        )
    return made
