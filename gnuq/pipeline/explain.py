"""Which definitions have changed since a table was made: the names behind a fingerprint."""

from __future__ import annotations

import atexit
import subprocess
from contextlib import ExitStack
from functools import cache
from typing import Any

from gnuq import artefacts
from gnuq.artefacts import ArtefactError
from gnuq.fingerprint import Code, FingerprintError
from gnuq.pipeline.commits import tree_of
from gnuq.pipeline.stages import PACKAGES, Stage, source, split


def changes(stage: Stage, told: dict[str, Any], most: int = 3) -> str:
    """The definitions that differ from the code that a provenance belongs to, to end a sentence.

    That code is the one of the commit that wrote the provenance last, when the table was made or
    when later code was accepted for it; failing that, of the commit in which it was made.

    Args:
        stage: whose code.
        told: the provenance.
        most: name that many.

    Returns:
        ` (gnuq.networks.Prior, …)`, or nothing if git cannot say.
    """
    before = _at(_written(stage)) or _at(str(told.get("commit")))
    if before is None:
        return ""
    try:
        differing = source().differing(before, *stage.entries, choose=stage.choose)
    except FingerprintError:
        return ""
    names = [".".join(filter(None, definition)) for definition in differing]
    if not names:
        return ""
    return f" ({', '.join(names[:most])}{', …' if len(names) > most else ''})"


def _written(stage: Stage) -> str:
    """The last commit that touched the provenance of a stage's first output, or nothing."""
    path = artefacts.path_of(*split(stage.outputs[0])).with_suffix(".json")
    command = ["git", "log", "-1", "--format=%H", "--", str(path)]
    done = subprocess.run(command, cwd=artefacts.ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()


@cache
def _at(commit: str) -> Code | None:
    """The code of a commit, unpacked into a temporary folder; None if git does not have it."""
    try:
        return Code(_FOLDERS.enter_context(tree_of(commit, *PACKAGES)), PACKAGES)
    except ArtefactError:
        return None


#: Commits that were unpacked, until the process ends.
_FOLDERS = ExitStack()
atexit.register(_FOLDERS.close)
