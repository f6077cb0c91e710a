"""SmolLM2's tokenizer from the metadata of its GGUF file.

The file says how it splits text: `tokenizer.ggml.pre` is "smollm", each digit on its own and then
GPT-2's pattern. transformers reads the vocabulary and leaves that out: blanks and newlines before
a digit become other tokens than the model knows (and version 4 adds a first token, and ends at
another).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from gnuq.language_models.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

CONTROL = 3  # the kind of token that stands for no text
SPECIAL = {"bos": "bos", "eos": "eos", "unknown": "unk", "padding": "pad"}


def tokenizer_of(file: Path, longest: int) -> PreTrainedTokenizerFast:
    """The tokenizer that a GGUF file describes.

    Args:
        file: the file.
        longest: the most tokens that the model takes.

    Raises:
        ModelError: the file describes another kind of tokenizer.
    """
    from gguf import GGUFReader
    from transformers import PreTrainedTokenizerFast

    fields = GGUFReader(file).fields
    told = {key.removeprefix("tokenizer."): _value(x) for key, x in fields.items()}
    kind = (told.get("ggml.model"), told.get("ggml.pre"), told.get("ggml.add_bos_token"))
    if kind != ("gpt2", "smollm", False):
        raise ModelError(f"{file.name}: its tokenizer is {kind}, not SmolLM2's; raise an issue.")
    tokens = told["ggml.tokens"]
    return PreTrainedTokenizerFast(
        tokenizer_object=_backend(tokens, told["ggml.merges"], told["ggml.token_type"]),
        **{f"{ours}_token": tokens[told[f"ggml.{its}_token_id"]] for its, ours in SPECIAL.items()},
        chat_template=told["chat_template"],
        model_max_length=longest,
        clean_up_tokenization_spaces=False,
    )


def _value(field: Any) -> Any:
    """One entry of the metadata: a number, a text, or a list of either."""
    text = field.types[-1].name == "STRING"
    values = [
        bytes(x).decode() if text else x[0].item() for x in (field.parts[i] for i in field.data)
    ]
    return values if field.types[0].name == "ARRAY" else values[0]


def _backend(tokens: list[str], merges: list[str], kinds: list[int]) -> Any:
    """Byte-level BPE over pieces that no merge crosses."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    vocabulary = {token: i for i, token in enumerate(tokens)}
    pairs = [(left, right) for left, right in (merge.split(" ") for merge in merges)]
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=pairs))
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    made.decoder = decoders.ByteLevel()
    control = [token for token, kind in zip(tokens, kinds, strict=True) if kind == CONTROL]
    made.add_special_tokens([AddedToken(x, special=True, normalized=False) for x in control])
    return made
