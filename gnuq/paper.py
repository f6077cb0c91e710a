"""The paper's tables, figures and equations, and the numbers that its text still holds.

They stand in `book/paper_map.yml`, one row an item, with the function that computes it here, the
artefact that holds our numbers, and the place in the book. Printed pairs keep the order of the
paper's columns, whose heads were lost. We read them as (Pearson, Spearman); the prose of
Appendix F.2.4 suggests the opposite for Table 10, so the book shows both readings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any, Literal

import yaml

from gnuq import artefacts

PATH = artefacts.ROOT / "book" / "paper_map.yml"
#: What the paper numbers: 15 tables, 8 figures, 14 equations.
COUNTS = {"table": 15, "figure": 8, "equation": 14}

Pair = tuple[float, float]
#: A table of correlations: problem → comparison (or class) → pair.
Table = Mapping[str, Mapping[str, Pair]]


@dataclass(frozen=True)
class Item:
    """One row of the paper map.

    Attributes:
        item: `table-5`, `figure-2`, `equation-8`.
        title: what it is.
        section: where the paper has it.
        status: whether the book shows it.
        reason: why it is open, if it is.
        functions: dotted names of what computes it.
        artefacts: where our numbers lie.
        anchor: page and label in the book.
        printed: the paper's numbers.
        note: what a reader must know to compare.
    """

    item: str
    title: str
    section: str
    status: Literal["shown", "open"]
    reason: str = ""
    functions: tuple[str, ...] = ()
    artefacts: tuple[str, ...] = ()
    anchor: str = ""
    printed: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    note: str = ""

    @property
    def label(self) -> str:
        """As the paper writes it: Table 5, Figure 2, Eq. (8)."""
        kind, _, number = self.item.partition("-")
        return f"Eq. ({number})" if kind == "equation" else f"{kind.capitalize()} {number}"


@cache
def items() -> dict[str, Item]:
    """Every item by name, tables first, then figures, then equations.

    Raises:
        ValueError: a row that is not complete, or items missing, twice or unknown.
    """
    rows = [_item(row) for row in yaml.safe_load(PATH.read_text(encoding="utf-8"))]
    wanted = [f"{kind}-{n}" for kind, count in COUNTS.items() for n in range(1, count + 1)]
    found = [row.item for row in rows]
    if found != wanted:
        wrong = sorted(set(wanted) ^ set(found)) or "their order, or one stands twice"
        raise ValueError(f"{PATH.name}: the items are not those of the paper: {wrong}.")
    return {row.item: row for row in rows}


def printed(item: str) -> Table:
    """The numbers that the paper prints for a table of correlations.

    Args:
        item: `table-5` to `table-10`.

    Raises:
        ValueError: the item has no printed pairs.
    """
    rows = items()[item].printed if item in items() else {}
    if not rows or not all(isinstance(v, list) for row in rows.values() for v in row.values()):
        raise ValueError(f"item: the paper's text holds no table of correlations as {item!r}.")
    return {k: {name: (pair[0], pair[1]) for name, pair in row.items()} for k, row in rows.items()}


def _item(row: dict[str, Any]) -> Item:
    known = {f.name for f in fields(Item)}
    unknown = sorted(row.keys() - known)
    if unknown:
        raise ValueError(f"{PATH.name}: {row.get('item')}: unknown key {unknown[0]!r}.")
    lists: dict[str, Any] = {k: tuple(row[k]) for k in ("functions", "artefacts") if k in row}
    values: dict[str, Any] = {**row, **lists}
    missing = [name for name in ("item", "title", "section", "status") if not row.get(name)]
    if missing:
        raise ValueError(f"{PATH.name}: {row.get('item', row)}: it needs {missing[0]!r}.")
    made = Item(**values)
    needed = ("functions", "artefacts", "anchor") if made.status == "shown" else ("reason",)
    if made.status not in ("shown", "open"):
        raise ValueError(f"{PATH.name}: {made.item}: status {made.status!r}; shown or open.")
    for name in needed:
        if not getattr(made, name):
            raise ValueError(f"{PATH.name}: {made.item} is {made.status}: it needs {name!r}.")
    return made
