"""DVC's side: run it, and write into `dvc.lock` the stages that are in order, and no others."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from gnuq import artefacts
from gnuq.artefacts import ArtefactError
from gnuq.pipeline import claims, runs
from gnuq.pipeline.stages import Stage, stages


def dvc(*arguments: str, capture: bool = False) -> subprocess.CompletedProcess[str]:
    """Run DVC in the repository, with this Python first on the path and writing only below it.

    Args:
        arguments: after `dvc`.
        capture: keep what it prints instead of showing it.
    """
    beside = Path(sys.executable).parent
    cache = artefacts.ROOT / ".dvc" / "tmp" / "site"
    environment = os.environ | {
        "PATH": f"{beside}{os.pathsep}{os.environ.get('PATH', '')}",
        "DVC_NO_ANALYTICS": "1",
        "DVC_SITE_CACHE_DIR": str(cache),
    }
    return subprocess.run(
        [sys.executable, "-m", "dvc", *arguments],
        cwd=artefacts.ROOT,
        env=environment,
        capture_output=capture,
        text=True,
        check=False,
    )


def address(stage: Stage) -> str:
    """What DVC calls a stage."""
    alone = stage.group in ("comparisons", "texts", "derived")  # with files of their own to read
    return stage.key if alone else f"{stage.group}@{stage.key}"


def lock(chosen: Iterable[Stage]) -> None:
    """Write stages into `dvc.lock`, and with them those that read their artefacts.

    A provenance file may change without its table; then what reads the table is still up to date,
    and DVC must be told so.

    Raises:
        ArtefactError: a chosen stage is not up to date, or DVC refuses.
    """
    wanted = {stage.name: stage for stage in chosen}
    for stage in wanted.values():
        if not runs.up_to_date(stage):
            raise ArtefactError(f"{stage.name}: it is not up to date; python -m gnuq status.")
    made = {output for stage in wanted.values() for output in stage.outputs}
    for stage in stages().values():  # inputs stand before what reads them
        if made & set(stage.inputs) and runs.up_to_date(stage):
            wanted[stage.name] = stage
            made |= set(stage.outputs)
    claims.write()
    done = dvc("commit", "--force", "--quiet", *map(address, wanted.values()))
    if done.returncode:
        raise ArtefactError("dvc commit failed; its message stands above.")
