"""The files of a commit, beside those that are checked out."""

from __future__ import annotations

import io
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gnuq import artefacts
from gnuq.artefacts import ArtefactError


@contextmanager
def tree_of(commit: str, *paths: str) -> Iterator[Path]:
    """A commit's files, in a temporary folder.

    Args:
        commit: which.
        paths: the files and folders that are wanted; all if omitted.

    Raises:
        ArtefactError: git does not have them.
    """
    command = ["git", "archive", commit, *paths]
    done = subprocess.run(command, cwd=artefacts.ROOT, capture_output=True, check=False)
    if done.returncode:
        raise ArtefactError(f"--commit: git has no {commit!r} ({done.stderr.decode().strip()}).")
    with tempfile.TemporaryDirectory(prefix="gnuq-") as folder:
        with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
            archive.extractall(folder, filter="data")
        yield Path(folder)
