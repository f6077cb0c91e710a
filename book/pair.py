"""Bring each chapter's Markdown and its ``.ipynb`` copy into step, and empty the copy's outputs.

``make pair`` runs this. Whichever of the two was saved last wins. Outputs stay out of the
repository: they would go stale beside the code that made them.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[1]
PAIRED = (
    "notebooks/*",
    "book/teaching/lecture_*",
    "book/discrepancies",
    "book/exact_classes",
    "book/paper_map",
)


def paired(ending: str) -> list[Path]:
    """The notebooks of one ending, ``md`` or ``ipynb``."""
    return [path for kind in PAIRED for path in sorted(ROOT.glob(f"{kind}.{ending}"))]


def empty(path: Path) -> None:
    """Remove outputs and execution counts from a notebook, if it has any."""
    notebook = nbformat.read(path, as_version=4)
    ran = [cell for cell in notebook.cells if cell.get("outputs") or cell.get("execution_count")]
    for cell in ran:
        cell.outputs, cell.execution_count = [], None
    if ran:
        nbformat.write(notebook, path)


def main() -> None:
    """Synchronise the pairs, then empty the copies."""
    chapters = map(str, paired("md"))
    subprocess.run([sys.executable, "-m", "jupytext", "--sync", *chapters], check=True)
    for path in paired("ipynb"):
        empty(path)


if __name__ == "__main__":
    main()
