"""The build executes again what it must: its decisions, held against a real run's system calls.

`GNUQ_TRACE=1 make book` lets strace log which files each kernel opened. That knows nothing of
Python's audit events and of the syntax trees, from which the build decides.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import pytest

from gnuq.artefacts import ROOT

sys.path.insert(0, str(ROOT / "book"))
import execute
from inputs import Package

PACKAGE = Package(ROOT)
CALLS = ROOT / "_build" / "calls"
OPENED = re.compile(r'^open(?:at)?\((?:[^,"]*, )?"[^"]*", (O_\S+?)(?:, 0\d+)?\) = \d+<([^>]*)>')
OURS = ("data", "book", "gnuq")
#: A thread or a process, each of which has a file of its own.
STARTED = re.compile(r"^(?:clone3?|v?fork)\(.* = (\d+)$")
#: Compiled code, read, or written by the first import.
MODULE = re.compile(r"(?:(.*)/)?__pycache__/(\w+)\.cpython-\d+\.pyc")

BEGUN = CALLS / "begun"

if not BEGUN.exists() and os.environ.get("GNUQ_TRACE") != "1":
    pytest.skip("needs GNUQ_TRACE=1 make book, on Linux with strace", allow_module_level=True)


def log_path(name: str) -> Path:
    """Where a chapter's kernel wrote."""
    return execute.LOGS / f"{name.replace('/', '.')}.jsonl"


def log_of(name: str) -> list[list[str]]:
    """What a chapter's kernel wrote."""
    return [json.loads(line) for line in log_path(name).read_text().splitlines()]


def traced(name: str) -> bool:
    """Whether the chapter was executed in the build that was traced last."""
    log = log_path(name)
    return log.exists() and log.stat().st_mtime >= BEGUN.stat().st_mtime


ALL = {chapter.name: chapter for chapter in execute.chapters(ROOT, execute.CACHE)}
CHAPTERS = {name: chapter for name, chapter in ALL.items() if traced(name)}


@cache
def opened(name: str) -> frozenset[str]:
    """The files below the root that a chapter's kernel, and all that it started, opened."""
    waiting = [what for kind, what in log_of(name) if kind == "process"]
    found = set()
    while waiting:
        for line in (CALLS / f"of.{waiting.pop()}").read_text(errors="replace").splitlines():
            if started := STARTED.match(line):
                waiting.append(started[1])
            match = OPENED.match(line)
            if match and "O_DIRECTORY" not in match[1]:
                path = Path(match[2])
                if path.is_relative_to(ROOT):
                    found.add(path.relative_to(ROOT).as_posix())
    return frozenset(found)


def imported(name: str) -> Iterator[str]:
    """The modules of `gnuq` whose compiled code a chapter's kernel read or wrote."""
    for path in opened(name):
        if (match := MODULE.match(path)) and path.startswith("gnuq/"):
            folder = (match[1] or "").replace("/", ".")
            yield folder if match[2] == "__init__" else f"{folder}.{match[2]}"


def recorded(name: str) -> dict[str, str]:
    """What the build says that a chapter's outputs depend on."""
    record = CHAPTERS[name].record
    assert record is not None, f"{name} is not executed"
    inputs: dict[str, str] = record.data["inputs"]
    return inputs


def tracked(*folders: str) -> list[str]:
    """The files of some folders that are under version control."""
    command = ["git", "ls-files", *folders]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in done.stdout.splitlines() if (ROOT / name).is_file()]


def test_every_chapter_that_was_executed_was_traced() -> None:
    """The cache says when it got a chapter; a build from nothing executes all."""
    begun = datetime.fromtimestamp(BEGUN.stat().st_mtime, UTC).replace(tzinfo=None)
    records = {name: chapter.record for name, chapter in ALL.items()}
    executed = {name for name, record in records.items() if record and record.created >= begun}
    assert CHAPTERS.keys() == executed
    assert len(ALL) >= 24


def test_a_trace_holds_files_of_ours() -> None:
    for name in CHAPTERS:
        assert len([p for p in opened(name) if p.startswith("gnuq/")]) > 1, name


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_chapter_depends_on_just_the_files_that_it_opened(name: str) -> None:
    """Every file of `data/` and `book/`, and of `gnuq/` but for Python's own reading of modules."""
    decided = {what.removeprefix("file ") for what in recorded(name) if what.startswith("file ")}
    decided -= {path for path in decided if not (ROOT / path).is_file()}
    read = {p for p in opened(name) if p.startswith(OURS) and not MODULE.match(p)}
    seen = {path for path in read if not path.endswith(".py")}
    assert {path for path in decided if not path.endswith(".py")} == seen


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_chapter_depends_on_every_module_that_it_imported(name: str) -> None:
    """On what the module does when it is imported, on what it imports, and on its very presence."""
    inputs, modules = recorded(name), set(imported(name))
    assert modules
    for module in modules:
        assert f"code {module}:" in inputs, module
        assert f"code {module}:import" in inputs, module
        assert inputs[f"module {module}"] == "module", module
    logged = {what for kind, what in log_of(name) if kind == "module"}
    assert modules == {module for module in logged if PACKAGE.holds(module)}


def test_every_file_has_a_decision_that_the_trace_confirms() -> None:
    """For every tracked file: the chapters that would be executed again if it changed.

    A file that no chapter opens or imports must change no chapter; one that some do, all of these.
    """
    used: dict[str, set[str]] = {path: set() for path in tracked(*OURS)}
    decided: dict[str, set[str]] = {path: set() for path in used}
    for name in CHAPTERS:
        package = PACKAGE
        files = {package.path_of(module) for module in imported(name)}
        for path in [*opened(name), *(f.relative_to(ROOT).as_posix() for f in files if f)]:
            used.get(path, set()).add(name)
        for what in recorded(name):
            kind, _, state = what.partition(" ")
            there = package.path_of(state.partition(":")[0]) if kind == "code" else ROOT / state
            if kind in {"code", "file"} and there is not None and there.is_relative_to(ROOT):
                decided.get(there.relative_to(ROOT).as_posix(), set()).add(name)
    python = {path for path in used if path.endswith(".py")}
    missed = {path: used[path] - decided[path] for path in used if used[path] - decided[path]}
    assert not missed
    # What is named in a function that did not run counts too: more may be executed, never less.
    exact = [path for path in used if path not in python]
    assert {p: decided[p] for p in exact} == {p: used[p] for p in exact}
    assert CHAPTERS.keys() != ALL.keys() or sum(bool(used[path]) for path in exact) > 200
