"""Exercises in chapters: find them, split them, and leave their solutions out.

An exercise is a heading "### Exercise N: …" with its text, a code cell tagged `exercise` and one
tagged `solution`. The first holds the starting point and, below a line "# Check", assertions that
it fails; the second replaces what stands above that line. A cell of text tagged `solution` is an
answer in words.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jupytext

ROOT = Path(__file__).resolve().parents[2]
CHAPTERS = sorted((ROOT / "notebooks").glob("*.md"))
CHECK = "# Check"


@dataclass(frozen=True)
class Exercise:
    """One exercise.

    Attributes:
        chapter: the notebook's name without its ending.
        start: the starting point, which raises or fails the check.
        check: assertions on the names that the starting point defines.
        solution: what replaces the starting point.
    """

    chapter: str
    start: str
    check: str
    solution: str


def tags(cell: Any) -> list[str]:
    """A cell's tags."""
    return list(cell.metadata.get("tags", []))


def exercises(path: Path) -> list[Exercise]:
    """The exercises of a chapter, in its order.

    Args:
        path: the chapter's Markdown file.

    Raises:
        ValueError: a starting point without a check, or without a solution after it.
    """
    cells = [cell for cell in jupytext.read(path).cells if cell.cell_type == "code"]
    starts = [k for k, cell in enumerate(cells) if "exercise" in tags(cell)]
    return [_exercise(path.stem, cells[k], cells[k + 1 : k + 2]) for k in starts]


def _exercise(chapter: str, start: Any, after: list[Any]) -> Exercise:
    head, line, check = start.source.partition(f"\n{CHECK}\n")
    if not line:
        raise ValueError(f"{chapter}: an exercise has no line {CHECK!r}: {start.source[:60]!r}")
    if not after or "solution" not in tags(after[0]):
        raise ValueError(f"{chapter}: no solution follows the exercise {start.source[:60]!r}")
    return Exercise(chapter, head, check, after[0].source)


def without_solutions(notebook: Any) -> Any:
    """The notebook for students, changed in place: its solutions are taken out."""
    notebook.cells = [cell for cell in notebook.cells if "solution" not in tags(cell)]
    return notebook
