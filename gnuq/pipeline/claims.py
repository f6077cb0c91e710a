"""What every stage claims, as the file that DVC reads: `data/stages.json`."""

from __future__ import annotations

import json
from typing import Any

from gnuq import artefacts
from gnuq.artefacts.files import write_whole
from gnuq.pipeline.stages import stages

PATH = artefacts.ROOT / "data" / "stages.json"


def claims() -> dict[str, dict[str, Any]]:
    """Group → key → the stage's name and its claim: code and configuration.

    The inputs are left to DVC, which follows them from file to file.
    """
    found: dict[str, dict[str, Any]] = {}
    for stage in stages().values():
        claim = {"code": stage.code(), "configuration": dict(stage.configuration)}
        told = {"name": stage.name, "claim": claim}
        found.setdefault(stage.group, {})[stage.key] = told
    return found


def write() -> bool:
    """Bring `data/stages.json` into step with the code; return whether it changed."""
    content = (json.dumps(claims(), indent=1, ensure_ascii=False) + "\n").encode()
    if PATH.exists() and PATH.read_bytes() == content:
        return False
    write_whole(PATH, content)
    return True
