"""The lectures: one idea a slide, notes on each, and live figures that there are."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path

import jupytext
import pytest

from gnuq.artefacts import ROOT
from gnuq.widgets import live_figures

LECTURES = sorted((ROOT / "book" / "teaching").glob("lecture_*.md"))
NOTES = re.compile(r'<details class="gnuq-notes">.*?</details>', re.DOTALL)
MOST_WORDS = 40
every_lecture = pytest.mark.parametrize("path", LECTURES, ids=lambda path: path.stem)


@dataclass
class Slide:
    """A section: its heading, its text with the notes, and the code of its cells."""

    title: str
    text: str = ""
    code: str = ""


def slides(path: Path) -> list[Slide]:
    found: list[Slide] = []
    for cell in jupytext.read(path).cells:
        if cell.cell_type == "code":
            found[-1].code += cell.source + "\n"
            continue
        before, *sections = re.split(r"^#{1,2} (.*)", cell.source, flags=re.MULTILINE)
        if before.strip():
            found[-1].text += before
        found += [Slide(*pair) for pair in zip(sections[::2], sections[1::2], strict=True)]
    return found


def captions(code: str) -> str:
    keywords = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.keyword)]
    return " ".join(ast.literal_eval(k.value) for k in keywords if k.arg == "caption")


def words(slide: Slide) -> int:
    text = NOTES.sub(" ", slide.text) + captions(slide.code)
    text = re.sub(r"\$\$.*?\$\$", " ", text, flags=re.DOTALL)
    text = re.sub(r"\]\([^)]*\)", " ", re.sub(r"\$[^$]*\$", " x ", text))
    return len(re.findall(r"\w[\w’'.-]*", text))


def test_there_are_two_lectures() -> None:
    assert [path.stem for path in LECTURES] == ["lecture_1", "lecture_2"]


@every_lecture
def test_a_slide_is_short_and_has_notes(path: Path) -> None:
    for slide in slides(path):
        assert words(slide) <= MOST_WORDS, slide.title
        assert len(NOTES.findall(slide.text)) == 1, slide.title


@every_lecture
def test_a_slide_has_at_most_one_figure_or_formula(path: Path) -> None:
    for slide in slides(path):
        shown = len(re.findall(r"^(?:show|live_figures\.\w+)\(", slide.code, re.MULTILINE))
        formulas = slide.text.count("$$") // 2
        assert shown + formulas <= 1, slide.title


@every_lecture
def test_live_figures_and_links_lead_somewhere(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for name in re.findall(r"live_figures\.(\w+)\(", text):
        assert callable(getattr(live_figures, name))
    for link in re.findall(r"\]\(([^)#]+\.md)\)", text):
        assert (path.parent / link).is_file(), link


@every_lecture
def test_no_cell_shows_its_code(path: Path) -> None:
    for cell in jupytext.read(path).cells:
        if cell.cell_type == "code":
            assert set(cell.metadata["tags"]) <= {"remove-cell", "remove-input"}


def test_the_guide_names_slides_by_their_numbers() -> None:
    """The 90 minutes rely on them."""
    first, second = ([slide.title for slide in slides(path)] for path in LECTURES)
    assert first[6] == "When does the tangent hold?"
    assert first[11] == "Three maps while you drag"
    assert second[1] == "Three columns that every table needs"
    assert second[10] == "No constant makes it a variance"
