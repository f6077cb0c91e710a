"""`make check`: every artefact belongs to the code, settings and inputs that claim it.

Two witnesses are heard. Each artefact's provenance is compared with its bytes and with what a run
would write now; it names the reason. And each provenance is compared with the committed list of
their checksums, `data/provenance.txt`: a table that was changed together with its provenance is
caught there.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence

from gnuq import artefacts
from gnuq.artefacts import ArtefactError, listing
from gnuq.pipeline import explain, runs
from gnuq.pipeline.stages import Stage, provenance, selected, split, stages


def main() -> int:
    """Check everything, print what is wrong with its remedy; 1 if anything is."""
    began = time.perf_counter()
    wrong = {**strays(), **stale()}
    makers = {output: stage.name for stage in stages().values() for output in stage.outputs}
    for artefact, sentence in unlisted().items():
        wrong.setdefault(makers.get(artefact, artefact), []).append(f"{artefact}: {sentence}.")
    for name, told in wrong.items():
        for sentence in told:
            print(f"{name}: {sentence}", file=sys.stderr)
    count, spent = len(stages()), time.perf_counter() - began
    if wrong:
        print(f"\n{len(wrong)} of {count} stages are not in order ({spent:.0f} s).")
        print("Recompute one: make reproduce ITEM=NAME. If the code was rewritten and no number")
        print("changed: python -m gnuq replay NAME --accept 'why it cannot matter'.")
        return 1
    print(f"{count} stages: every artefact belongs to what claims to have made it ({spent:.0f} s).")
    return 0


def stale() -> dict[str, list[str]]:
    """Stage → what is wrong with its artefacts, by their provenance."""
    found = {stage.name: list(_wrong(stage)) for stage in stages().values()}
    return {name: told for name, told in found.items() if told}


def _wrong(stage: Stage) -> Iterator[str]:
    for name in stage.outputs:
        try:
            told = artefacts.load(*split(name)).provenance
            wanted = stage.origin().as_json()
        except ArtefactError as error:
            yield str(error)
            continue
        for difference in runs.differences(told, wanted):
            because = explain.changes(stage, told) if "code" in difference else ""
            yield f"{name} is out of date: {difference}{because}."
        if told.get("dirty") is not False:
            yield f"{name} is a draft: its code was not committed when it was recorded."


def strays() -> dict[str, list[str]]:
    """Files below `data/` that no stage writes."""
    known = {output for stage in stages().values() for output in stage.outputs}
    return {
        f"data/{name}": ["no stage writes it; delete it, or add its stage to gnuq.pipeline.stages"]
        for name in artefacts.names()
        if name not in known
    }


def unlisted() -> dict[str, str]:
    """Artefact → how its provenance differs from the committed list."""
    data, there = artefacts.files.DATA, set(artefacts.names())
    known = listing.listed(data)
    gone = f"it is gone, and {listing.NAME} lists it; restore it from git, or delete its line"
    other = (
        f"its provenance is not the one that {listing.NAME} lists (edited by hand?); restore it "
        "from git, or record it again"
    )
    found = dict.fromkeys(known.keys() - there, gone)
    for name in there:
        path = data / f"{name}.json"
        if path.exists() and known.get(name) != listing.checksum(path):
            found[name] = other
    return found


def status(items: Sequence[str]) -> int:
    """List stages: up to date or why not, and what the last run took.

    Args:
        items: as for `stages.selected`.
    """
    for stage in selected(items):
        told = next(_wrong(stage), "up to date")
        print(f"{stage.name}: {told}{_seconds(stage)}")
    return 0


def _seconds(stage: Stage) -> str:
    try:
        return f" (took {provenance(stage.outputs[0])['seconds']:.0f} s)"
    except ArtefactError:
        return ""
