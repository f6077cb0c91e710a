"""Save and load a table together with its provenance: what made it, from what, and when.

A *record* is expensive (one row per grid point or example; parquet); a *result* is cheap (one
small table; csv). Beside each lies `NAME.json` with the provenance and the table's sha256. A
table without its provenance, or whose bytes do not match it, is refused.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "data"
PACKAGES = ("numpy", "scipy", "torch", "pymc", "arviz", "jax", "blackjax")
Kind = Literal["records", "results"]


class ArtefactError(RuntimeError):
    """An artefact is missing, torn, or not the one that its provenance describes."""


@dataclass(frozen=True)
class Artefact:
    """A table and where it came from.

    Attributes:
        frame: the table.
        provenance: commit, package versions, configuration, wall time, sha256.
    """

    frame: pd.DataFrame
    provenance: dict[str, Any]


def save(
    kind: Kind, name: str, frame: pd.DataFrame, *, configuration: dict[str, Any], seconds: float
) -> Path:
    """Write a table and its provenance, each atomically, the provenance last.

    Args:
        kind: `"records"` or `"results"`.
        name: path below `data/<kind>`, without suffix.
        frame: the table.
        configuration: everything that determines the table, as JSON-able values.
        seconds: wall time of the computation.

    Returns:
        The table's path.

    Raises:
        ValueError: an empty table, or a name that leaves `data/`.
    """
    if frame.empty:
        raise ValueError(f"frame: the table for {name!r} is empty; nothing was written.")
    path = _path(kind, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = _encode(kind, frame)
    provenance = {
        "name": name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        **_code(),
        "python": platform.python_version(),
        "packages": _versions(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, no accelerator used",
        "seconds": round(seconds, 1),
        "configuration": configuration,
        "rows": len(frame),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    told = (json.dumps(provenance, indent=1) + "\n").encode()  # fails before anything is written
    _write(path, content)
    _write(path.with_suffix(".json"), told)
    return path


def load(kind: Kind, name: str) -> Artefact:
    """Read a table after checking it against its provenance.

    Raises:
        ArtefactError: it is missing, incomplete, or was changed after it was written.
    """
    path = _path(kind, name)
    if not exists(kind, name):
        raise ArtefactError(
            f"{kind} {name!r}: not found at {path}; compute it with 'python -m gnuq.records'."
        )
    content = path.read_bytes()
    try:
        provenance = json.loads(path.with_suffix(".json").read_text())
        written = provenance["sha256"]
    except (ValueError, KeyError, TypeError) as error:
        raise ArtefactError(
            f"{kind} {name!r}: its provenance file is torn ({error}); restore it from git."
        ) from error
    if hashlib.sha256(content).hexdigest() != written:
        raise ArtefactError(
            f"{kind} {name!r}: {path} is not the file that its provenance describes (torn or "
            "edited); restore both from git, or delete both and compute them again."
        )
    frame = pd.read_parquet(path) if kind == "records" else pd.read_csv(path)
    return Artefact(frame, provenance)


def exists(kind: Kind, name: str) -> bool:
    """Whether the table and its provenance are both there: a run that was cut off is not."""
    path = _path(kind, name)
    return path.exists() and path.with_suffix(".json").exists()


def _path(kind: Kind, name: str) -> Path:
    base = (DATA / kind).resolve()
    path = base / (name + (".parquet" if kind == "records" else ".csv"))
    if not path.resolve().is_relative_to(base):
        raise ValueError(f"name: {name!r} leaves {base}.")
    return path


def _encode(kind: Kind, frame: pd.DataFrame) -> bytes:
    if kind == "results":
        return frame.to_csv(index=False).encode()
    table = pa.Table.from_pandas(frame, preserve_index=False)
    floats = [field.name for field in table.schema if pa.types.is_floating(field.type)]
    sink = pa.BufferOutputStream()
    pq.write_table(
        table,
        sink,
        compression="zstd",
        compression_level=19,
        use_dictionary=[name for name in table.column_names if name not in floats],
        use_byte_stream_split=floats,
    )
    return sink.getvalue().to_pybytes()


def _write(path: Path, content: bytes) -> None:
    """Write to a temporary file in the same folder, then rename: never half a file."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _code() -> dict[str, Any]:
    """The commit, and whether the package differed from it."""

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True
            )
        except (OSError, subprocess.CalledProcessError):
            return None
        return done.stdout.strip()

    status = git("status", "--porcelain", "--", "gnuq")
    return {"commit": git("rev-parse", "HEAD"), "dirty": None if status is None else bool(status)}


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
