"""Where runs of hours stand: files that are committed, so that any machine can go on."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from gnuq.artefacts import files
from gnuq.artefacts.origin import Origin


class Checkpoints:
    """The state of one record's chains, kept below `data/checkpoints` until the record is saved.

    The folder is named by the hash of the origin: code, settings, inputs. Unlike `Parts`, other
    versions of the packages go on with the same chains, since a run of hours outlives them.

    Args:
        name: the record's name.
        origin: what determines it.
    """

    def __init__(self, name: str, origin: Origin) -> None:
        told = json.dumps(origin.as_json(), sort_keys=True).encode()
        digest = hashlib.sha256(told).hexdigest()[:16]
        self.folder: Path = files.DATA / "checkpoints" / name / digest

    def save(self, key: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Replace one chain's state, whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
        files.write_whole(self._path(key), buffer.getvalue())

    def load(self, key: str) -> dict[str, np.ndarray] | None:
        """One chain's state, or None where it has not begun.

        Raises:
            ArtefactError: the file is torn.
        """
        path = self._path(key)
        if not path.exists():
            return None
        try:
            with np.load(path) as kept:
                return dict(kept)
        except (OSError, ValueError, EOFError) as error:
            raise files.ArtefactError(
                f"{path} is torn ({error}); delete it, and the chain begins anew."
            ) from error

    def discard(self) -> None:
        """Delete the states, once the record is saved, and folders that this leaves empty."""
        shutil.rmtree(self.folder, ignore_errors=True)
        folder = self.folder.parent
        while folder != files.DATA and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
            folder = folder.parent

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.npz"
