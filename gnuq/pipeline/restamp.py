"""`python -m gnuq restamp`: a record whose claim was written by older code gets the present claim.

A record of hours may be finished by code that is older than the code that it lands on, and the way
in which code is fingerprinted may change. Nothing is taken on trust: the old claim is computed by
the older commit's own code and must be the one in the provenance; and that commit's source must do
what the present source does, by content.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from gnuq import artefacts
from gnuq.artefacts import ArtefactError
from gnuq.fingerprint import Code
from gnuq.pipeline.commits import tree_of
from gnuq.pipeline.stages import PACKAGES, Stage, selected, split

#: Prints the claims of all stages, finished or not, of the code that it runs in.
_CLAIMS = """
import json
from gnuq.pipeline.stages import stages, unfinished
every = [*stages().values(), *unfinished().values()]
print(json.dumps({stage.name: stage.code() for stage in every}))
"""


def main(items: Sequence[str], commit: str | None) -> int:
    """Restamp the stages that the items mean, where their claim is another; always 0.

    Args:
        items: as for `stages.selected`.
        commit: whose code the claims belong to; of each record its own, if omitted.

    Raises:
        ArtefactError: an old claim does not hold, or the code does something else now.
    """
    waiting: dict[str, list[Stage]] = {}
    for stage in selected(items):
        told = artefacts.load(*split(stage.outputs[0])).provenance
        if told["code"] != stage.code():
            waiting.setdefault(commit or str(told["commit"]), []).append(stage)
    for before, stages in waiting.items():
        with tree_of(before) as root:
            claims, code = claims_in(root), Code(root, PACKAGES)
            for stage in stages:
                _demand_same(stage, code, claims, before)
        for stage in stages:
            _write(stage, before)
        print(f"{before[:12]}: {len(stages)} stages belong to the code as it stands", flush=True)
    return 0


def claims_in(root: Path) -> dict[str, str]:
    """Stage → fingerprint, as the code in a folder computes it."""
    command = [sys.executable, "-c", _CLAIMS]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ArtefactError(f"the claims of {root} cannot be computed: {done.stderr[-500:]}")
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return found


def _demand_same(stage: Stage, before: Code, claims: dict[str, str], commit: str) -> None:
    for name in stage.outputs:
        told = artefacts.load(*split(name)).provenance
        if told["code"] != claims.get(stage.name):
            raise ArtefactError(f"{name}: its claim is not that of {commit[:12]}; record it again.")
    if before.fingerprint(*stage.entries, choose=stage.choose) != stage.code():
        raise ArtefactError(
            f"{stage.name}: its code does something else than at {commit[:12]}; replay it, and "
            "accept it if it agrees, or record it again."
        )


def _write(stage: Stage, commit: str) -> None:
    for name in stage.outputs:
        told = artefacts.load(*split(name)).provenance
        entry = {
            "was": told["code"],
            "commit": commit,
            "when": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        artefacts.restamp(*split(name), told | {"code": stage.code(), "restamped": entry})
