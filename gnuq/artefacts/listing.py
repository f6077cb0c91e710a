"""`provenance.txt`: the checksum of every provenance file, a line each.

A provenance says the checksum of its table. This list, committed beside them, says the checksum of
each provenance: a table that was changed together with its provenance does not pass, and one that
is lost is missed. Whoever writes a provenance through this package writes its line.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from filelock import FileLock

from gnuq.artefacts.whole import write_whole

NAME = "provenance.txt"


def listed(data: Path) -> dict[str, str]:
    """Artefact, `records/…` or `results/…` → the checksum of its provenance file.

    Args:
        data: the folder that has the list.
    """
    path = data / NAME
    lines = path.read_text().splitlines() if path.exists() else []
    return {name: told for told, name in (line.split("  ", 1) for line in lines)}


def enter(data: Path, artefact: str, provenance: Path) -> None:
    """Write the line of one artefact, once its provenance is written."""
    path = data / NAME
    with FileLock(path.with_suffix(".lock")):
        known = listed(data) | {artefact: checksum(provenance)}
        lines = [f"{known[name]}  {name}\n" for name in sorted(known)]
        write_whole(path, "".join(lines).encode())


def checksum(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
