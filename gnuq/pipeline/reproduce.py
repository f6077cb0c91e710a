"""`make reproduce ITEM=…`: bring one item, and what it needs, up to date, and compute it again."""

from __future__ import annotations

import pandas as pd

from gnuq import artefacts, paper
from gnuq.artefacts import ArtefactError
from gnuq.pipeline import claims, lock, runs
from gnuq.pipeline.differences import largest_difference
from gnuq.pipeline.stages import ItemError, Stage, find, split


def main(item: str) -> int:
    """Recompute an item by DVC and say how far it is from what was there.

    Args:
        item: an item of the paper map (`table-5`, `figure-2`, `equation-8`), or a stage.

    Returns:
        DVC's exit status.

    Raises:
        ItemError: nothing is called that, or the item is still open.
    """
    chosen = wanted(item)
    before = {name: _table(name) for stage in chosen for name in stage.outputs}
    claims.write()
    current = [lock.address(stage) for stage in chosen if runs.up_to_date(stage)]
    steps = [["repro", *map(lock.address, chosen)]]  # what is out of date, inputs first
    if current:
        steps.append(["repro", "--force", "--single-item", *current])
    for step in steps:
        done = lock.dvc(*step)
        if done.returncode:
            return done.returncode
    lock.lock(chosen)
    for name, old in before.items():
        new = artefacts.load(*split(name)).frame
        told = "new" if old is None else f"{largest_difference(old, new):.3g} from what was there"
        print(f"{name}: {len(new)} rows, {told}")
    return 0


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
