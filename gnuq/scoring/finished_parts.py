"""The finished parts of a file that is being scored: a run that was stopped goes on from them."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd

from gnuq.language_models import texts
from gnuq.scoring.errors import FileError
from gnuq.scoring.fingerprint import fingerprint, tokenizer_fingerprint

#: What determines a part beside the model, its lines and settings.
PACKAGES = ("gnuq", "torch", "transformers")


def folder(target: Path, determined_by: str) -> Path:
    """The folder of finished parts, made if it is not there.

    Args:
        target: the output, beside which it lies.
        determined_by: the lines and settings.
    """
    told = hashlib.sha256(determined_by.encode("utf-8", "backslashreplace")).hexdigest()
    found = target.with_name(f"{target.name}.{told[:12]}.parts")
    found.mkdir(exist_ok=True)
    return found


def of_model(parts: Path, model: Any, tokenizer: Any) -> str:
    """What the names of those parts begin with that this very model has scored.

    A checkpoint may be overwritten under its name. Warns if there are other parts only.
    """
    versions = [metadata.version(package) for package in PACKAGES]
    told = [fingerprint(model), tokenizer_fingerprint(tokenizer), *texts.ends(model, tokenizer)]
    key = hashlib.sha256(repr((told, versions)).encode()).hexdigest()[:12]
    there = [path.name.startswith(key) for path in parts.glob("*.parquet")]
    if there and not any(there):
        warnings.warn(
            f"the model, its tokenizer or {', '.join(PACKAGES)} changed since {len(there)} parts "
            f"in {parts} were scored, so they are not used: the run starts anew.",
            stacklevel=2,
        )
    return key


def read(part: Path) -> pd.DataFrame:
    """One part.

    Raises:
        FileError: it is torn.
    """
    try:
        return pd.read_parquet(part)
    except ValueError as error:  # what Arrow raises for a file that is none of its own
        raise FileError(
            f"--output: {part} is torn ({error}); remove it, and run the same command again."
        ) from error


@contextmanager
def alone(parts: Path) -> Generator[None]:
    """Hold the parts' folder for this process, until it ends in whatever way.

    Raises:
        FileError: another process has it.
    """
    try:
        import fcntl
    except ImportError:  # Windows: two runs of one file are then up to the user
        yield
        return
    with (parts / "lock").open("w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise FileError(f"--output: another run is writing it, in {parts}.") from error
        yield
