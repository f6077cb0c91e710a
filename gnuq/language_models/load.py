"""Loading a language model, at a known revision and quantised in a known way."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from gnuq.language_models import quantise, sources
from gnuq.language_models.errors import ModelError, explained
from gnuq.language_models.registry import DEFAULT, Dtype, LanguageModel
from gnuq.language_models.sources import Source

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

BYTES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2, None: 4}


@dataclass(frozen=True)
class Loaded:
    """A model in evaluation mode, its tokenizer, and exactly which model it is.

    Attributes:
        model: the model; which of its parameters want a gradient is as transformers has it.
        tokenizer: its tokenizer.
        name: the name in the registry, the repository on the hub, the folder, or the GGUF file's
            name without its ending.
        revision: the commit on the hub that was loaded; `sha256:` of the GGUF file that the model
            was converted from; None for a folder.
        quantisation: how the weights are stored; None if as `dtype`.
        dtype: the type of the weights that are not quantised, and of the computation.
        entry: the registry's entry; None for other models.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    name: str
    revision: str | None
    quantisation: str | None
    dtype: str
    entry: LanguageModel | None


def load(
    name: str | None = None,
    *,
    revision: str | None = None,
    quantisation: str | None = None,
    dtype: str | torch.dtype | None = None,
    device: str | torch.device | None = None,
) -> Loaded:
    """Load a model and its tokenizer; code in its repository is never run.

    Args:
        name: a name of the registry (`MODELS`), a folder, a GGUF file, or a repository on the
            Hugging Face hub ("organisation/model"); None for the default model, which needs no
            network. A GGUF file is dequantised to float32 once and kept in the user's cache.
        revision: a commit on the hub, or `sha256:` of a GGUF file; the registry's if omitted.
            Where neither says one, the current commit is loaded, and a warning names it.
        quantisation: "nf4", "fp4" or "int8" (bitsandbytes quantises while loading, every linear
            layer but the head), "awq" for a checkpoint that is so, "none" for none; the
            registry's, or the checkpoint's own, if omitted.
        dtype: "float32", "bfloat16", "float16" or "float64"; the registry's, or the checkpoint's
            own, if omitted. Half precision loses digits of a gradient norm.
        device: the first GPU if there is one, else the CPU, if omitted; "auto" spreads the model
            over all GPUs.

    Returns:
        The model with everything that identifies it, for the record.

    Raises:
        ValueError: an unknown name, revision, quantisation or dtype.
        ModelError: the model cannot be loaded; the message names it and the remedy.
    """
    source = sources.source(DEFAULT if name is None else name, revision)
    place = _place(device)
    with explained(source.name, source.location, _size(source.entry, dtype)), _quiet(source):
        commit = _commit(source)
        config = _config(source, commit)
        how = quantise.chosen(source.name, quantisation, source.entry, config)
        number = _dtype(source, dtype, config)
        tokenizer = _tokenizer(source, commit)
        quantised = quantise.configuration(how, config, number)
        model = _model(source, commit, config, quantised, number, place)
        quantise.verified(source.name, how, model)
    if not source.folder and source.revision is None:
        warnings.warn(
            f"{source.name}: its revision is not pinned; this is {commit}. Pass "
            f"revision={commit!r} to load the same again.",
            stacklevel=2,
        )
    told = source.revision if source.folder else commit
    shown = str(number).removeprefix("torch.")
    return Loaded(model, tokenizer, source.name, told, how, shown, source.entry)


def device_name(device: str | torch.device | None = None) -> str:
    """Where `load` puts a model, as provenance names it: "cpu", or the accelerator's name.

    Args:
        device: as for `load`.

    Raises:
        ValueError: there is no such device here.
    """
    import torch

    place = _place(device)
    if place == "auto":
        place = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.cuda.get_device_name(place) if place.type == "cuda" else str(place.type)


def _place(device: Any) -> Any:
    """A device, or "auto"."""
    import torch

    if device == "auto":
        return device
    try:
        place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError as error:
        raise ValueError(f"device: {device!r} is none; say cpu, cuda, cuda:1 or auto.") from error
    if place.type == "meta":
        raise ValueError("device: meta holds no weights; say cpu, cuda, cuda:1 or auto.")
    if place.type == "cuda" and (place.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device: there is no {place} here; say cpu.")
    return place


def _size(entry: LanguageModel | None, dtype: Any) -> str:
    """The memory for the weights, in words."""
    if entry is None:
        return "its weights"
    width = BYTES.get(str(dtype or entry.dtype).removeprefix("torch."), 4)
    return f"about {entry.parameters * width / 1e9:.1f} GB for weights that are not quantised"


@contextmanager
def _quiet(source: Source) -> Generator[None]:
    """No progress bars where nothing is downloaded."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled() and source.folder
    if shown:
        logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _commit(source: Source) -> str:
    """The commit that a revision names now, so that all files come from the same; of a folder, any.

    The hub's cache keeps each commit's files in a folder that has its name.
    """
    from transformers.utils import cached_file

    file: str | None = f"{source.location}/config.json"
    if not source.folder:
        file = cached_file(source.location, "config.json", revision=source.revision)
    if file is None or not Path(file).is_file():
        raise ModelError(
            f"{source.name}: it has no config.json, so it is no model; save one with "
            "model.save_pretrained(folder) and tokenizer.save_pretrained(folder)."
        )
    return "main" if source.folder else Path(file).parent.name


def _config(source: Source, commit: str) -> Any:
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(source.location, revision=commit)


def _dtype(source: Source, asked: Any, config: Any) -> torch.dtype:
    """The type that was asked for, or the registry's, or the checkpoint's."""
    import torch

    own = source.entry.dtype if source.entry else getattr(config, "dtype", None) or "float32"
    shown = str(asked or own).removeprefix("torch.")
    if shown not in get_args(Dtype):
        raise ValueError(f"dtype: {shown!r} is none of {', '.join(get_args(Dtype))}.")
    found: torch.dtype = getattr(torch, shown)
    return found


def _tokenizer(source: Source, commit: str) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(source.location, revision=commit)


def _model(
    source: Source, commit: str, config: Any, quantised: Any, dtype: torch.dtype, place: Any
) -> Any:
    import transformers

    causal = source.entry.kind == "causal" if source.entry else _predicts(config)
    kind = transformers.AutoModelForCausalLM if causal else transformers.AutoModel
    on_cpu = place != "auto" and place.type == "cpu"
    direct = not on_cpu or quantised is not None or quantise.stored(config) is not None
    settings: dict[str, Any] = {"revision": commit, "dtype": dtype}
    if quantised is not None:  # transformers takes None for "unquantised, whatever is stored"
        settings["quantization_config"] = quantised
    if direct:
        settings["device_map"] = place if place == "auto" else {"": place}
    with warnings.catch_warnings():  # transformers warns that AWQ's kernel was chosen
        warnings.filterwarnings("ignore", "You passed `quantization_config`")
        model = kind.from_pretrained(source.location, **settings).eval()
    # one line for each layer and pass, to say that an 8-bit layer computes in float16
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
    if source.folder and source.revision is not None:  # scores name the model, not the cache
        model.config._name_or_path = source.name
    return model


def _predicts(config: Any) -> bool:
    """Whether the checkpoint is of a causal language model; so too if it does not say."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    classes = set(config.architectures or [])
    return not classes or bool(classes & set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values()))
