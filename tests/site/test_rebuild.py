"""Files are really changed, the book is built again, and its pages are read: no old number is left.

A copy of the repository is built from the executed chapters of the original. In the small form all
changes but one are made at once; `weekly` makes each alone, and says which chapters it executes.
"""

from __future__ import annotations

import hashlib
import html
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gnuq.artefacts import ROOT

sys.path.insert(0, str(ROOT / "book"))
sys.path.insert(0, str(ROOT / "book" / "teaching"))
import build
import student

#: Always executed in the copy, which is no repository: it asks git for the commit.
ASKS_GIT = "book/paper_map"
COSTS = "data/results/method-costs"
Change = Callable[[Path], None]


def swap(file: str, old: str, new: str) -> Change:
    """Replace a text that stands in a file just once."""

    def change(root: Path) -> None:
        text = (root / file).read_text(encoding="utf-8")
        assert text.count(old) == 1, f"{old!r} in {file}"
        (root / file).write_text(text.replace(old, new), encoding="utf-8")

    return change


def turn_round(root: Path) -> None:
    """Every verdict of the hand check becomes its opposite."""
    path = root / "data" / "qa_by_hand.csv"
    swapped = {"true": "false", "false": "true"}
    path.write_text(
        re.sub(r"\b(true|false)$", lambda m: swapped[m[1]], path.read_text(), flags=re.M)
    )


def dearer(root: Path) -> None:
    """A result and, as a new run would write it, the checksum in its provenance."""
    table, told = root / f"{COSTS}.csv", root / f"{COSTS}.json"
    before = hashlib.sha256(table.read_bytes()).hexdigest()
    rows = re.sub(
        r"(?m)^(gradient norm,[^,]*),[^,]*,rings-4$", r"\1,4321.0,rings-4", table.read_text()
    )
    table.write_text(rows)
    after = hashlib.sha256(table.read_bytes()).hexdigest()
    told.write_text(told.read_text().replace(before, after))


#: What is changed → the change, the chapters that it executes, and where what must be read.
CHANGES: dict[str, tuple[Change, set[str], list[tuple[str, str]]]] = {
    "verdicts": (
        turn_round,
        {"notebooks/g_question_answering", "book/discrepancies"},
        [("notebooks/g_question_answering.html", "It agrees on 9% (")],
    ),
    "a result": (
        dearer,
        {"notebooks/04_1_methods"},
        [("notebooks/04_1_methods.html", "the norm of all four classes costs 4321")],
    ),
    "a quiz": (
        swap("book/teaching/quizzes/05_limitations.yml", "Nothing at all, for", "Nothing, since"),
        {"notebooks/05_limitations"},
        [("notebooks/05_limitations.html", "Nothing, since two squared norms")],
    ),
    "a figure's words": (
        swap("gnuq/figures/text_proxies.py", '"log-ratio of two variances"', '"log of a ratio"'),
        {"notebooks/a_1_proxy_text"},
        [("notebooks/a_1_proxy_text.html", "log of a ratio")],
    ),
    "a comment": (
        swap("gnuq/figures/style.py", "from __future__", "# A comment.\nfrom __future__"),
        set(),
        [],
    ),
    "a sentence of prose": (
        swap("book/notation.md", "The chapters and the code use", "Chapters and code share"),
        set(),
        [("book/notation.html", "Chapters and code share the paper")],
    ),
    "a sentence of a chapter": (
        swap("notebooks/03_2_isotropy.md", "\n## Exercises\n", "\nA new line.\n\n## Exercises\n"),
        set(),
        [("notebooks/03_2_isotropy.html", "A new line.")],
    ),
    "a reference": (
        swap("book/references.bib", "Modern, and Comprehensive", "Modern, and Quite Comprehensive"),
        set(),
        [("book/bibliography.html", "modern, and quite comprehensive")],
    ),
    "a style sheet": (
        swap("book/static/theme.css", "/* The book's typography", "/* Its typography"),
        set(),
        [("_static/theme.css", "/* Its typography")],
    ),
    "a live figure": (
        swap("gnuq/widgets/live/network.js", "Small multilayer", "Very small multilayer"),
        set(),
        [("_static/live/network.js", "Very small multilayer")],
    ),
    "an extension": (
        swap("book/equations.py", '"Computed by "', '"Worked out by "'),
        set(),
        [
            ("notebooks/02_background.html", "Worked out by"),
            ("notebooks/03_4_sequences.html", "Worked out by"),
        ],
    ),
    "the contents": (
        swap("_toc.yml", "caption: Before you start", "caption: First of all"),
        set(),
        [("book/notation.html", "First of all"), ("notebooks/e_regression.html", "First of all")],
    ),
}
#: Executes the paper map and prints its outputs.
ONE = """
import sys
sys.path.insert(0, {book!r})
import execute
book = execute.Book(execute.CACHE)
(chapter,) = [c for c in book.chapters if c.name == "book/paper_map"]
assert book.execute([chapter])
print(chapter.cache.merge_match_into_notebook(chapter.notebook)[1])
"""
TITLE = "Correlation with MCMC as the network grows, nine sizes"
RETITLED = swap("book/paper_map.yml", TITLE, "A new title")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The tracked files as they are, with the executed chapters of the built book."""
    there = tmp_path / "gnuq"
    student.copy_tracked(ROOT, there)
    shutil.copytree(build.OUTPUT / ".jupyter_cache", there / "_build" / ".jupyter_cache")
    return there


def built(root: Path, script: str = "build.py", *options: str) -> str:
    """Run a script of the copy's build; what it printed."""
    command = [sys.executable, str(root / "book" / script), *options]
    environment = {k: v for k, v in os.environ.items() if k != "GNUQ_TRACE"}  # the book's own
    done = subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def executed(said: str) -> set[str]:
    """The chapters that a build says it must execute."""
    return set(re.findall(r"^  (\S+): ", said, flags=re.M))


def text_of(root: Path, name: str) -> str:
    """What stands in a file of the built website; of a page, the words."""
    text = (root / "_build" / "html" / name).read_text(encoding="utf-8")
    if not name.endswith(".html"):
        return text
    plain = html.unescape(re.sub(r"<(?!/?script)[^>]*>", "", text))
    return re.sub(r"\s+", " ", plain)


def holds(root: Path, places: list[tuple[str, str]]) -> None:
    """Every text stands where it must."""
    for name, words in places:
        found = text_of(root, name)
        assert words.lower() in found.lower(), (name, words)


def test_what_was_changed_is_on_the_pages_and_nothing_else_is_executed(copy: Path) -> None:
    expected = {ASKS_GIT}
    for change, chapters, _ in CHANGES.values():
        change(copy)
        expected |= chapters
    assert executed(built(copy)) == expected
    for _, _, places in CHANGES.values():
        holds(copy, places)


def test_a_new_title_in_the_paper_map_reaches_every_chapter_that_reads_it(copy: Path) -> None:
    before = executed(built(copy, "execute.py", "--list"))
    RETITLED(copy)
    after = executed(built(copy, "execute.py", "--list"))
    assert before == {ASKS_GIT}
    assert {"book/paper_map", "book/discrepancies", "notebooks/04_1_2_scaling"} < after
    assert len(after) < 15
    command = [sys.executable, "-c", ONE.format(book=str(copy / "book"))]
    environment = build.environment() | {"PYTHONPATH": f"{copy}{os.pathsep}{copy / 'book'}"}
    done = subprocess.run(
        command, cwd=copy, env=environment, capture_output=True, text=True, check=False
    )
    assert "A new title" in done.stdout, done.stdout + done.stderr
    assert TITLE not in done.stdout


@pytest.mark.weekly
@pytest.mark.parametrize("name", CHANGES)
def test_each_change_alone(copy: Path, name: str) -> None:
    change, chapters, places = CHANGES[name]
    change(copy)
    assert executed(built(copy)) == {ASKS_GIT} | chapters
    holds(copy, places)


@pytest.mark.weekly
def test_a_new_title_of_the_paper_map_is_on_its_page(copy: Path) -> None:
    RETITLED(copy)
    built(copy)
    assert "A new title" in text_of(copy, "book/paper_map.html")
    assert TITLE not in text_of(copy, "book/paper_map.html")
