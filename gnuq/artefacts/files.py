"""Reading and writing tables with their provenance, whole or not at all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from gnuq.artefacts import listing
from gnuq.artefacts.origin import Origin, machine
from gnuq.artefacts.whole import write_whole

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "data"
Kind = Literal["records", "results"]
SUFFIX = {"records": ".parquet", "results": ".csv"}


class ArtefactError(RuntimeError):
    """An artefact is missing, torn, or not the one that its provenance describes."""


@dataclass(frozen=True)
class Artefact:
    """A table and where it came from.

    Attributes:
        frame: the table.
        provenance: code, commit, package versions, configuration, wall time, sha256.
    """

    frame: pd.DataFrame
    provenance: dict[str, Any]


def save(
    kind: Kind,
    name: str,
    frame: pd.DataFrame,
    *,
    origin: Origin,
    seconds: float,
    report: Mapping[str, Any] | None = None,
    made: Mapping[str, Any] | None = None,
) -> Path:
    """Write a table and its provenance, each atomically, the provenance last.

    A table that is there already, from the same origin and equal to the last byte, is left alone.

    Args:
        kind: `"records"` or `"results"`.
        name: path below `data/<kind>`, without suffix.
        frame: the table.
        origin: what determines the table.
        seconds: wall time of the computation.
        report: what the computation says about itself, as JSON-able values.
        made: what `machine` said when the computation began; now, if omitted.

    Returns:
        The table's path.

    Raises:
        ValueError: an empty table, or a name that leaves `data/`.
        TypeError: an origin or report that JSON cannot hold.
    """
    if frame.empty:
        raise ValueError(f"frame: the table for {name!r} is empty; nothing was written.")
    path = path_of(kind, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = _encode(kind, frame)
    told = {
        "name": name,
        **(made or machine(ROOT)),
        "seconds": round(seconds, 1),
        **origin.as_json(),
        "report": dict(report or {}),
        "rows": len(frame),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    encoded = _told(told)  # fails before anything is written
    if _same(path, content, told):
        return path
    write_whole(path, content)
    _write_provenance(kind, name, encoded)
    return path


def _write_provenance(kind: Kind, name: str, encoded: bytes) -> None:
    path = path_of(kind, name).with_suffix(".json")
    write_whole(path, encoded)
    listing.enter(DATA, f"{kind}/{name}", path)


def _same(path: Path, content: bytes, told: Mapping[str, Any]) -> bool:
    """Whether the table and what determines it are there already, and from a clean commit."""
    try:
        before = json.loads(path.with_suffix(".json").read_text())
        same = path.read_bytes() == content
    except (OSError, ValueError):
        return False
    decisive = [f.name for f in fields(Origin)] + ["sha256"]
    equal = all(before.get(key) == told[key] for key in decisive)
    return same and equal and before.get("dirty") is False


def load(kind: Kind, name: str) -> Artefact:
    """Read a table after checking it against its provenance.

    Raises:
        ArtefactError: it is missing, incomplete, or was changed after it was written.
    """
    told, path = provenance(kind, name), path_of(kind, name)
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != told["sha256"]:
        raise ArtefactError(
            f"{kind}/{name}: {path} is not the file that its provenance describes (torn or "
            "edited); restore both from git, or delete both and compute them again."
        )
    frame = pd.read_parquet(path) if kind == "records" else pd.read_csv(path)
    return Artefact(frame, told)


def provenance(kind: Kind, name: str) -> dict[str, Any]:
    """What an artefact's provenance file says; the table itself is not read.

    Raises:
        ArtefactError: either file is missing, or the provenance is torn.
    """
    if not exists(kind, name):
        raise ArtefactError(
            f"{kind}/{name}: not found at {path_of(kind, name)}; compute it with "
            f"'python -m gnuq record {kind}/{name}'."
        )
    try:
        told: dict[str, Any] = json.loads(path_of(kind, name).with_suffix(".json").read_text())
        told["sha256"].lower()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtefactError(
            f"{kind}/{name}: its provenance file is torn ({error}); restore it from git."
        ) from error
    return told


def restamp(kind: Kind, name: str, told: Mapping[str, Any]) -> None:
    """Replace an artefact's provenance; the table must be the one that it already described.

    Raises:
        ArtefactError: the table is missing or torn.
        ValueError: the new provenance describes another table.
    """
    known = load(kind, name).provenance
    if told["sha256"] != known["sha256"]:
        raise ValueError(f"told: its sha256 is not that of {kind}/{name}.")
    _write_provenance(kind, name, _told(told))


def exists(kind: Kind, name: str) -> bool:
    """Whether the table and its provenance are both there: a run that was cut off is not."""
    path = path_of(kind, name)
    return path.exists() and path.with_suffix(".json").exists()


def names() -> list[str]:
    """Every file below `data/records` and `data/results`, as `records/…` or `results/…`.

    Tables and provenance files count once; a file of another kind keeps its suffix.
    """
    found = set()
    for kind in get_args(Kind):
        for path in (DATA / kind).rglob("*"):
            if path.is_file():
                known = path.suffix in (SUFFIX[kind], ".json")
                shown = path.with_suffix("") if known else path
                found.add(shown.relative_to(DATA).as_posix())
    return sorted(found)


def path_of(kind: Kind, name: str) -> Path:
    """Where a table lies; its provenance lies beside it, with the suffix `.json`.

    Raises:
        ValueError: the name leaves `data/`.
    """
    base = (DATA / kind).resolve()
    path = base / (name + SUFFIX[kind])
    if not path.resolve().is_relative_to(base):
        raise ValueError(f"name: {name!r} leaves {base}.")
    return path


def _told(provenance: Mapping[str, Any]) -> bytes:
    return (json.dumps(provenance, indent=1, ensure_ascii=False) + "\n").encode()


def _encode(kind: Kind, frame: pd.DataFrame) -> bytes:
    return frame.to_csv(index=False).encode() if kind == "results" else parquet(frame)


def parquet(frame: pd.DataFrame) -> bytes:
    """A table as a parquet file's bytes, floats split by byte, which halves them."""
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
    content: bytes = sink.getvalue().to_pybytes()
    return content
