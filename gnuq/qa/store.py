"""The folder of one run: a table a step, its provenance, and the parts of what goes on."""

from __future__ import annotations

import hashlib
import json
import warnings
from pathlib import Path
from typing import Any

import pandas as pd

from gnuq.artefacts import ArtefactError, Origin, Parts, machine
from gnuq.artefacts.files import ROOT, parquet, write_whole


class FolderParts(Parts):
    """Parts of a step, in the run's own folder; other versions of the packages go on with them.

    Args:
        folder: the run's.
        step: the step's name.
        origin: what determines the step's table.
    """

    def __init__(self, folder: Path, step: str, origin: Origin) -> None:
        told = json.dumps(origin.as_json(), sort_keys=True).encode()
        digest = hashlib.sha256(told).hexdigest()[:16]
        self.folder = folder / "parts" / f"{step}-{digest}"


class Folder:
    """Tables of a run, each written whole or not at all.

    Args:
        path: the folder; it is made.

    Raises:
        ArtefactError: it cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ArtefactError(
                f"--output: cannot make {path} ({error}); name another folder."
            ) from error

    def save(self, name: str, frame: pd.DataFrame, origin: Origin, seconds: float) -> str:
        """Write a table and then its provenance; the table's checksum."""
        content = parquet(frame)
        checksum = hashlib.sha256(content).hexdigest()
        told = {
            "name": name,
            **machine(ROOT),
            "seconds": round(seconds, 1),
            **origin.as_json(),
            "rows": len(frame),
            "sha256": checksum,
        }
        write_whole(self._path(name), content)
        write_whole(self._told(name), (json.dumps(told, indent=1) + "\n").encode())
        return checksum

    def load(self, name: str, origin: Origin) -> tuple[pd.DataFrame, str] | None:
        """A table and its checksum; None unless it is whole and what `origin` would give.

        Where it was computed does not matter. Warns if another model did.
        """
        try:
            told: dict[str, Any] = json.loads(self._told(name).read_text())
            content = self._path(name).read_bytes()
        except (OSError, ValueError):
            return None
        checksum = hashlib.sha256(content).hexdigest()
        wanted = origin.as_json()
        if told.get("model") != wanted["model"]:
            warnings.warn(
                f"{self._path(name)}: it was computed with {told.get('model')}, now it is "
                f"{wanted['model']}: the step starts anew.",
                stacklevel=3,
            )
        same = all(told.get(key) == wanted[key] for key in wanted.keys() - {"device"})
        if not same or told.get("sha256") != checksum:
            return None
        return pd.read_parquet(self._path(name)), checksum

    def _path(self, name: str) -> Path:
        return self.path / f"{name}.parquet"

    def _told(self, name: str) -> Path:
        return self.path / f"{name}.json"
