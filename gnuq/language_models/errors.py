"""What can go wrong while a model loads, told with the model's name and the remedy."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from contextlib import contextmanager

HUB = "https://huggingface.co"
PACKAGES = ("gptqmodel", "bitsandbytes", "accelerate", "gguf", "sentencepiece", "tiktoken")


class ModelError(RuntimeError):
    """A model cannot be loaded; the message names it and the remedy."""


@contextmanager
def explained(name: str, location: str, size: str = "its weights") -> Generator[None]:
    """Turn what transformers and the hub raise inside the block into a `ModelError`.

    Args:
        name: the model, as the user called it.
        location: its repository on the hub, or its folder.
        size: how much memory it needs, for the message when there is not enough.

    Raises:
        ModelError: for a gated, absent or unreachable repository, a missing package, too little
            memory, or files that are not a model's. Any other error passes as it is.
    """
    try:
        yield
    except ModelError:
        raise
    except Exception as error:
        remedy = _remedy(list(_chain(error)), location, size)
        if remedy is None:
            raise
        raise ModelError(f"{name}: {remedy}") from error


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and those it came from: transformers wraps the hub's errors in its own."""
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _remedy(errors: list[BaseException], location: str, size: str) -> str | None:
    """The first cause that is known, and what to do about it; None if none is."""
    return (
        _package(errors[0])
        or _memory(errors, size)
        or _hub(errors, location)
        or _files(errors, location)
    )


def _package(error: BaseException) -> str | None:
    if not isinstance(error, ImportError):
        return None
    told = str(error)
    asked = re.search(r"pip install (?:-\S+ )*['\"`]?([\w-]+)", told)
    named = [asked.group(1)] if asked else [one for one in PACKAGES if one in told.lower()]
    if not named:
        return f"a package is missing ({told}); run: pip install 'gnuq[lm]'"
    return f"the package {named[0]} is missing; run: pip install {named[0]}"


def _memory(errors: list[BaseException], size: str) -> str | None:
    import torch

    for error in errors:
        short = isinstance(error, (MemoryError, torch.OutOfMemoryError))
        refused = isinstance(error, RuntimeError) and re.search(
            r"can't allocate memory|not enough memory|out of memory", str(error)
        )
        if short or refused:
            return (
                f"out of memory: it needs {size} and more to compute with. Pass "
                "quantisation='nf4' or a narrower dtype, free memory, choose another device, or "
                "load a smaller model."
            )
    return None


def _hub(errors: list[BaseException], location: str) -> str | None:
    """A subclass comes before its parent: a gated repository counts as one not found, too."""
    from huggingface_hub import errors as hub

    def among(*kinds: type[BaseException]) -> bool:
        return any(isinstance(error, kinds) for error in errors)

    codes = {_status(error) for error in errors}
    if among(hub.GatedRepoError) or 403 in codes:
        return _gated(location)
    if among(hub.RevisionNotFoundError):
        return f"{HUB}/{location} has no such revision; see {HUB}/{location}/commits/main."
    if among(hub.RepositoryNotFoundError, hub.HFValidationError):
        return (
            f"{HUB}/{location} does not exist, or is private; check the spelling, or log in with "
            "'hf auth login'."
        )
    if 401 in codes:
        return _gated(location)
    offline = (hub.OfflineModeIsEnabled, hub.LocalEntryNotFoundError, ConnectionError, TimeoutError)
    if among(*offline) or any(code == 429 or code >= 500 for code in codes):
        return _unreachable(location)
    return None


def _gated(location: str) -> str:
    return (
        f"{HUB}/{location} is gated; accept its licence on that page, then log in with "
        "'hf auth login' (or set HF_TOKEN)."
    )


def _unreachable(location: str) -> str:
    return (
        f"not on this machine, and {HUB} cannot be reached. Where there is a network, run "
        f"'hf download {location}', and bring its cache here (HF_HOME names the folder; "
        "HF_HUB_OFFLINE=1 then keeps it from asking the network, and must not be set to "
        "download). Or load the default model, which needs no network."
    )


def _status(error: BaseException) -> int:
    """The hub's HTTP status; 0 if the error has none."""
    return int(getattr(getattr(error, "response", None), "status_code", 0) or 0)


def _files(errors: list[BaseException], location: str) -> str | None:
    """What transformers says, in many words, of folders and repositories that lack files."""
    for error in errors:
        told = str(error)
        if not isinstance(error, (OSError, ValueError, NotImplementedError)):
            continue
        if "tokenizer" in told.lower():
            return (
                f"{location} has no usable tokenizer; save it there with "
                "tokenizer.save_pretrained(folder)."
            )
        if "Unrecognized model" in told or "model type" in told:
            return f"{location} is not a model that this transformers knows ({told[:200]})"
        if "no file named" in told or "does not appear to have" in told:
            return (
                f"{location} is incomplete ({told[:200]}); save the model there with "
                "model.save_pretrained(folder), or download it again."
            )
        if re.search("GGUF model|gguf model_type|Dequantization", told):
            return (
                f"transformers cannot read {location} ({told[:200]}); load the original model, "
                "from the hub or as a folder."
            )
    return None
