"""Make the students' website and notebooks, without a solution: ``make student``.

The tracked files are copied to ``_build/student/src``, the solutions taken out of every chapter
there, and the book is built from the copy. ``_build/student/html`` and ``_build/student/notebooks``
appear only if no solution is left in either: by its cell's tag, or by a line that only it has.

Usage: python book/teaching/student.py [--notebooks]   (the second leaves the website out)
"""

from __future__ import annotations

import argparse
import html
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import exercises
import jupytext
import yaml

STUDENT = exercises.ROOT / "_build" / "student"
READABLE = {".html", ".ipynb", ".md", ".txt", ".js", ".json"}
TAGGED = re.compile(r'class="[^"]*\btag_solution\b')
MARKUP = re.compile(r"<[^>]*>")
#: What splits a text cell where its rendering may differ from its source: all but plain words.
BROKEN = re.compile(r"\$[^$]*\$|`[^`]*`|<[^>]*>|\([^)]*\)|[^\w ]")
#: Characters that a line needs to be told from everybody's.
DISTINCT = 16


def tracked(root: Path) -> list[Path]:
    """The files under version control that are there, relative to the repository.

    Args:
        root: the repository.

    Raises:
        RuntimeError: it is no git repository, or git is missing.
    """
    command = ["git", "-C", str(root), "ls-files", "-z"]
    try:
        listed = subprocess.run(command, check=True, capture_output=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise RuntimeError(f"root: git cannot list the files of {root}; use a clone.") from error
    names = [Path(name) for name in listed.decode().split("\0") if name]
    return [name for name in names if (root / name).is_file()]


def copy_tracked(root: Path, source: Path) -> None:
    """Copy the tracked files, as they are now, to a folder that is made anew."""
    shutil.rmtree(source, ignore_errors=True)
    for name in tracked(root):
        target = source / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(root / name, target)


def strip(source: Path, notebooks: Path) -> list[Path]:
    """Take the solutions out of the copied chapters, and write them as notebooks too.

    Args:
        source: the copy; its chapters and their ``.ipynb`` copies are rewritten.
        notebooks: where the notebooks to hand out go; made anew.

    Returns:
        The notebooks to hand out.
    """
    shutil.rmtree(notebooks, ignore_errors=True)
    notebooks.mkdir(parents=True)
    written = []
    for chapter in sorted((source / "notebooks").glob("*.md")):
        notebook = exercises.without_solutions(jupytext.read(chapter))
        jupytext.write(notebook, chapter, fmt="md:myst")
        notebook.metadata.pop("jupytext", None)  # no Markdown lies beside it to be kept in step
        handed = notebooks / f"{chapter.stem}.ipynb"
        jupytext.write(notebook, handed)
        shutil.copyfile(handed, chapter.with_suffix(".ipynb"))
        written.append(handed)
    return written


def without_launch_buttons(config: Path) -> None:
    """Take out the buttons that open the repository's own chapters, solutions and all."""
    settings = yaml.safe_load(config.read_text(encoding="utf-8"))
    settings.pop("launch_buttons", None)
    settings.setdefault("html", {}).update(use_repository_button=False, use_issues_button=False)
    config.write_text(yaml.safe_dump(settings, allow_unicode=True), encoding="utf-8")


def marks(chapters: Iterable[Path], source: Path) -> dict[str, str]:
    """What gives a solution away: lines that stand in it and nowhere in the students' sources.

    Args:
        chapters: the chapters with their solutions.
        source: the copy without them.

    Returns:
        Line, as `dense` leaves it → the chapter's name.
    """
    kinds = ("notebooks/*.md", "book/**/*.md", "book/teaching/quizzes/*.yml")
    pages = [page for kind in kinds for page in source.glob(kind)]
    known = dense(" ".join(page.read_text(encoding="utf-8") for page in pages))
    return {
        line: chapter.stem
        for chapter in chapters
        for cell in jupytext.read(chapter).cells
        if "solution" in exercises.tags(cell)
        for line in _lines(cell)
        if len(line) >= DISTINCT and line not in known
    }


def _lines(cell: Any) -> Iterator[str]:
    parts = cell.source.splitlines() if cell.cell_type == "code" else BROKEN.split(cell.source)
    return (dense(part) for part in parts)


def dense(text: str) -> str:
    """Text without white space, which highlighting and typesetting may change."""
    return "".join(text.split())


def leaks(folder: Path, marked: dict[str, str]) -> list[str]:
    """Where a solution shows in a folder of pages or notebooks; empty if nowhere.

    Args:
        folder: the built website, or the notebooks.
        marked: what `marks` returns.
    """
    found = []
    for path in sorted(p for p in folder.rglob("*") if p.suffix in READABLE and p.is_file()):
        name, text = path.relative_to(folder).as_posix(), path.read_text(encoding="utf-8")
        if path.suffix == ".ipynb":
            cells = json.loads(text)["cells"]
            tagged = any("solution" in c["metadata"].get("tags", []) for c in cells)
            text = "\n".join("".join(cell["source"]) for cell in cells)
        else:
            tagged = TAGGED.search(text) is not None
        plain = dense(html.unescape(MARKUP.sub("", text)) if path.suffix == ".html" else text)
        if tagged:
            found.append(f"{name}: a cell tagged solution")
        found += [f"{name}: a line of {marked[m]}'s solutions" for m in marked if m in plain]
    return list(dict.fromkeys(found))


def refuse(found: list[str]) -> None:
    """Stop if anything was found.

    Raises:
        RuntimeError: it names the files and the remedy.
    """
    if found:
        raise RuntimeError(
            "Nothing is handed out, for solutions are left in\n  "
            + "\n  ".join(found)
            + "\nTag every cell of a solution, and of its explanation, 'solution'."
        )


def build(source: Path) -> Path:
    """Build the copy's website; return its folder.

    Raises:
        RuntimeError: the build failed; what it printed stands above.
    """
    done = subprocess.run([sys.executable, str(source / "book" / "build.py")], check=False)
    if done.returncode != 0:
        raise RuntimeError("The students' book was not built: see the first error above.")
    return source / "_build" / "html"


def publish(source: Path, target: Path) -> None:
    """Move a checked folder to where it is handed out, in place of an older one."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.move(source, target)


def main(arguments: list[str] | None = None) -> int:
    """Make everything; return 0 if it can be handed out."""
    parser = argparse.ArgumentParser(description="The students' website and notebooks.")
    parser.add_argument("--notebooks", action="store_true", help="leave the website out")
    chosen = parser.parse_args(arguments)
    source, staged = STUDENT / "src", STUDENT / "src" / "_build" / "notebooks"
    for name in ("html", "notebooks"):
        shutil.rmtree(STUDENT / name, ignore_errors=True)
    try:
        copy_tracked(exercises.ROOT, source)
        written = strip(source, staged)
        without_launch_buttons(source / "_config.yml")
        marked = marks(exercises.CHAPTERS, source)
        refuse(leaks(staged, marked))
        if not chosen.notebooks:
            site = build(source)
            refuse(leaks(site, marked))
            publish(site, STUDENT / "html")
        publish(staged, STUDENT / "notebooks")
    except RuntimeError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    print(f"\n{len(written)} notebooks without solutions: {STUDENT / 'notebooks'}")
    if not chosen.notebooks:
        print(f"The website without solutions: {STUDENT / 'html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
