"""A GGUF file becomes a folder that transformers reads fast and whole: weights in float32.

transformers can load a GGUF file, but slowly, and it says nothing where it leaves something out:
tensors that it has no place for, how the rotary embedding is scaled, how the tokenizer splits
text. What it would leave out is refused here.
"""

from __future__ import annotations

import errno
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gnuq.language_models.errors import ModelError
from gnuq.language_models.gguf_tokenizer import ends_of, tokenizer_of

MAGIC = b"GGUF"
#: A shard is copied while it is written, so this bounds what conversion takes beside the weights.
SHARD = 10**9


@dataclass(frozen=True)
class Header:
    """What a GGUF file says of itself.

    Attributes:
        metadata: its entries by name: numbers, texts, or lists of either.
        weights: how many numbers its tensors have in all.
        context: the most tokens that the model takes, if the file says.
    """

    metadata: dict[str, Any]
    weights: int
    context: int | None


def read(file: Path) -> Header:
    """The metadata of a GGUF file, with a look at whether its tensors are all there.

    Raises:
        ModelError: it is no GGUF file, incomplete, one of several parts, or of a model whose
            rotary embedding is scaled.
    """
    from gguf import GGUFReader

    with file.open("rb") as content:
        start = content.read(len(MAGIC))
    if start != MAGIC:
        raise ModelError(f"{file}: not a GGUF file (it begins with {start!r}); give another.")
    try:
        reader = GGUFReader(file)
        metadata = {key: _value(field) for key, field in reader.fields.items()}
        weights = sum(int(tensor.n_elements) for tensor in reader.tensors)
        kind = metadata["general.architecture"]
    except (ValueError, IndexError, KeyError, OverflowError) as error:
        raise ModelError(f"{file}: damaged or incomplete ({error}); get it again.") from error
    if metadata.get("split.count", 1) > 1:
        raise ModelError(f"{file}: one of several parts; join them (llama-gguf-split --merge).")
    if metadata.get(f"{kind}.rope.scaling.type", "none") != "none":
        raise _unfaithful(file, "its rotary embedding is scaled, which transformers overlooks")
    return Header(metadata, weights, metadata.get(f"{kind}.context_length"))


def _value(field: Any) -> Any:
    """One entry of the metadata: a number, a text, or a list of either."""
    text = field.types[-1].name == "STRING"
    values = [
        bytes(x).decode() if text else x[0].item() for x in (field.parts[i] for i in field.data)
    ]
    return values if field.types[0].name == "ARRAY" else values[0]


def _unfaithful(file: Path, why: str) -> ModelError:
    return ModelError(f"{file}: {why}; load the original model, from the hub or as a folder.")


def convert(file: Path, folder: Path) -> None:
    """Read a GGUF file and save it as `from_pretrained` reads it fastest, in float32.

    Takes memory for the weights once, and a shard's besides.

    Args:
        file: the file.
        folder: where model, tokenizer and generation settings go.

    Raises:
        ModelError: not a GGUF file, or one that would not be the same model afterwards.
        OSError: there is no room in the folder.
    """
    import torch
    from transformers import AutoModelForCausalLM

    header = read(file)
    _room(folder, 4 * header.weights)
    tokenizer_of(file, header.metadata, header.context).save_pretrained(folder)
    source = AutoModelForCausalLM.from_pretrained(
        file.parent, gguf_file=file.name, dtype=torch.float32
    )
    _whole(file, header, source)
    config = source.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config  # dequantised, it still says that it is quantised
    # what was loaded refuses to be saved: its weights go into a model that was not
    with torch.device("meta"):
        fresh = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    fresh.load_state_dict(source.state_dict(), assign=True)
    fresh.tie_weights()
    fresh.generation_config = source.generation_config
    if len(ends := ends_of(header.metadata)) > 1:
        fresh.generation_config.eos_token_id = ends
    fresh.save_pretrained(folder, max_shard_size=SHARD)


def _room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(
            errno.ENOSPC, f"it takes {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free"
        )


def _whole(file: Path, header: Header, model: Any) -> None:
    """The model has as many weights as the file: none is left out, and none made up."""
    weights = sum(parameter.numel() for parameter in model.parameters())
    if weights != header.weights:
        raise _unfaithful(
            file, f"it has {header.weights} weights, and transformers makes {weights} of them"
        )
