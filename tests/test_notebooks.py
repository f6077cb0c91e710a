"""Chapters are thin, in step with their .ipynb copies, and free of outputs and stray paths."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import jupytext
import pytest

from gnuq.artefacts import ROOT

sys.path.insert(0, str(ROOT / "book"))
import pair

CHAPTERS = pair.paired("md")
CELL_LIMIT = 40
EXERCISE = frozenset({"exercise", "solution"})  # what a reader writes may define


def cells(chapter: Path, *, without: frozenset[str] = frozenset()) -> list[str]:
    """Sources of the code cells that have none of the given tags."""
    found = [cell for cell in jupytext.read(chapter).cells if cell.cell_type == "code"]
    return [cell.source for cell in found if not without & set(cell.metadata.get("tags", []))]


def test_there_are_chapters() -> None:
    assert len(CHAPTERS) >= 2


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_the_pair_is_in_step_and_free_of_outputs(chapter: Path) -> None:
    """`make pair` mends both."""
    copy = json.loads(chapter.with_suffix(".ipynb").read_text())
    text = [c.source for c in jupytext.read(chapter).cells]
    assert ["".join(c["source"]) for c in copy["cells"]] == text
    code = [c for c in copy["cells"] if c["cell_type"] == "code"]
    assert all(c["outputs"] == [] and c["execution_count"] is None for c in code)


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_cells_are_short_and_define_nothing(chapter: Path) -> None:
    for source in cells(chapter):
        lines = [line for line in source.splitlines() if line.strip()]
        assert len(lines) <= CELL_LIMIT, source
        assert "../" not in source, source
    for source in cells(chapter, without=EXERCISE):
        assert not re.search(r"^\s*(def|class) ", source, re.MULTILINE), source


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_every_chapter_starts_with_the_same_guard(chapter: Path) -> None:
    """Colab has no gnuq: the first cell fetches it, or every later one would fail."""
    assert 'find_spec("gnuq") is None' in cells(chapter)[0]
    assert cells(chapter)[0] == cells(CHAPTERS[0])[0]


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_every_figure_states_its_finding(chapter: Path) -> None:
    for source in cells(chapter):
        for call in re.findall(r"^show\((.*?)^\)", source, re.MULTILINE | re.DOTALL):
            assert "alt=" in call
            assert "caption=" in call
