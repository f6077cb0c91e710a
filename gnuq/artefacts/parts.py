"""The finished parts of a run that is still going: a run that was killed resumes from them."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from gnuq.artefacts import files
from gnuq.artefacts.origin import Origin, versions


class Parts:
    """Parts of one table, kept below `data/parts` until the table is saved.

    Their folder is named by the hash of the origin and of the packages' versions. So the parts of
    other code, settings, inputs or packages are never mixed in, and a run that resumes gives the
    table that an uninterrupted one would.

    Args:
        name: the table's name.
        origin: what determines the table.
    """

    def __init__(self, name: str, origin: Origin) -> None:
        told = json.dumps([origin.as_json(), versions()], sort_keys=True).encode()
        self.folder: Path = files.DATA / "parts" / name / hashlib.sha256(told).hexdigest()[:16]

    def missing(self, keys: Sequence[str]) -> list[str]:
        """Those of the keys that are not there yet, in order."""
        return [key for key in keys if not self._path(key).exists()]

    def save(self, key: str, frame: pd.DataFrame) -> None:
        """Keep one part, whole or not at all.

        Raises:
            ValueError: an empty part, or a key that leaves the folder.
        """
        if frame.empty:
            raise ValueError(f"frame: the part {key!r} is empty; nothing was written.")
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_whole(path, files.parquet(frame))

    def load(self, keys: Sequence[str]) -> pd.DataFrame:
        """The parts one below the other, in the order of the keys.

        Raises:
            ArtefactError: one is missing.
        """
        absent = self.missing(keys)
        if absent:
            raise files.ArtefactError(
                f"{self.folder}: part {absent[0]!r} is not there yet; run its stage again "
                "(python -m gnuq record), which resumes."
            )
        frames = [pd.read_parquet(io.BytesIO(self._path(key).read_bytes())) for key in keys]
        return pd.concat(frames, ignore_index=True)

    def discard(self) -> None:
        """Delete the parts, once the table is saved, and folders that this leaves empty."""
        shutil.rmtree(self.folder, ignore_errors=True)
        folder = self.folder.parent
        while folder != files.DATA and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
            folder = folder.parent

    def _path(self, key: str) -> Path:
        path = self.folder / f"{key}.parquet"
        if not path.resolve().is_relative_to(self.folder.resolve()):
            raise ValueError(f"key: {key!r} leaves {self.folder}.")
        return path
