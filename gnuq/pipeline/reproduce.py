"""`make reproduce ITEM=…`: bring one item, and what it needs, up to date, and compute it again."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from gnuq import artefacts, paper
from gnuq.artefacts import ArtefactError
from gnuq.pipeline import runs
from gnuq.pipeline.differences import largest_difference
from gnuq.pipeline.stages import ItemError, Stage, find, split, stages


def main(item: str) -> int:
    """Recompute an item, bring up to date what it reads, and say how far it is from what was there.

    Args:
        item: an item of the paper map (`table-5`, `figure-2`, `equation-8`), or a stage.

    Returns:
        0.

    Raises:
        ItemError: nothing is called that, or the item is still open.
        ArtefactError: an input is missing or torn.
    """
    chosen = wanted(item)
    before = {name: _table(name) for stage in chosen for name in stage.outputs}
    for stage in needed(chosen):
        runs.record(stage, again=stage in chosen)
    for name, old in before.items():
        new = artefacts.load(*split(name)).frame
        told = "new" if old is None else f"{largest_difference(old, new):.3g} from what was there"
        print(f"{name}: {len(new)} rows, {told}")
    return 0


def needed(chosen: Iterable[Stage]) -> list[Stage]:
    """Some stages and those that make what they read, inputs first."""
    makers = {output: stage for stage in stages().values() for output in stage.outputs}
    found: dict[str, Stage] = {}

    def add(stage: Stage) -> None:
        for name in stage.inputs:
            add(makers[name])
        found.setdefault(stage.name, stage)

    for stage in chosen:
        add(stage)
    return list(found.values())


def wanted(item: str) -> list[Stage]:
    """The stages behind an item of the paper map, or of a stage's own name."""
    row = paper.items().get(item)
    if row is None:
        return find(item)
    if row.status == "open":
        raise ItemError(f"item: {item} is still open: {row.reason}")
    return [stage for name in row.artefacts for stage in find(name)]


def _table(name: str) -> pd.DataFrame | None:
    try:
        return artefacts.load(*split(name)).frame
    except ArtefactError:
        return None
