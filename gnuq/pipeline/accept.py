"""`make replay`: replay stages, say how far off they are, and accept rewritten code if asked to."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime

from gnuq import artefacts
from gnuq.artefacts import ArtefactError
from gnuq.pipeline import runs
from gnuq.pipeline.replay import Replay, replay
from gnuq.pipeline.stages import Stage, selected, split


def main(items: Sequence[str], because: str | None = None) -> int:
    """Replay the stages that the items mean, print what was found; 1 if any is off.

    Args:
        items: as for `stages.selected`.
        because: accept the present code where a replay passes, for this reason.
    """
    results: list[Replay] = []
    for stage in selected(items):
        began = time.perf_counter()
        results.append(found := replay(stage))
        told = ", ".join(f"{name} {value:.3g}" for name, value in found.found.items())
        verdict = found.note or (told + ("" if found.passed else "  ← too far"))
        spent = time.perf_counter() - began
        print(f"{stage.name}: {found.rows} rows, {verdict} ({spent:.0f} s)", flush=True)
        if because is not None and found.rows and found.passed:
            accept(stage, found, because)
    failed = [found.stage for found in results if not found.passed]
    for quantity in dict.fromkeys(name for found in results for name in found.found):
        worst = max((f for f in results if quantity in f.found), key=lambda f: f.found[quantity])
        print(f"{quantity}: at most {worst.found[quantity]:.3g} ({worst.stage})")
    print(f"{len(results)} replayed, {len(failed)} too far off: {', '.join(failed) or 'none'}")
    return int(bool(failed))


def accept(stage: Stage, found: Replay, because: str) -> None:
    """Write the present code's fingerprint into the provenance of a stage's outputs.

    Args:
        stage: which; nothing but its code may have changed.
        found: a replay of it that passed.
        because: why the change cannot matter, for the reader of the provenance.

    Raises:
        ArtefactError: the replay failed, compared nothing, or more than the code has changed.
        ValueError: no reason.
    """
    if not because.strip():
        raise ValueError("because: give the reason why the change of code cannot matter.")
    if not (found.passed and found.rows):
        raise ArtefactError(f"{stage.name}: the replay does not confirm it; record it again.")
    wanted = stage.origin().as_json()
    for name in stage.outputs:
        told = artefacts.load(*split(name)).provenance
        if told["code"] == wanted["code"]:
            continue
        other = runs.differences(told | {"code": wanted["code"]}, wanted)
        if other:
            raise ArtefactError(f"{name}: more than its code has changed ({other[0]}).")
        entry = {
            "code": told["code"],
            "when": datetime.now(UTC).isoformat(timespec="seconds"),
            "because": because,
            "rows": found.rows,
            "replay": {key: float(f"{value:.3g}") for key, value in found.found.items()},
        }
        history = [*told.get("accepted", []), entry]
        now = {key: wanted[key] for key in ("code", "tolerance")}
        artefacts.restamp(*split(name), told | now | {"accepted": history})
