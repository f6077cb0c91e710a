"""`make check` passes on what is committed, and fails, naming the item, on every kind of change."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gnuq.artefacts import ROOT

RECORD, TORN = "hmc/wave/unit-1/seed-0", "hmc/xor/unit-1/seed-0"


def git(*arguments: str, root: Path = ROOT) -> str:
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True)
    return done.stdout


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone of the repository with the working tree's changes, committed."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    there = tmp_path_factory.mktemp("clone") / "gnuq"
    git("clone", "--quiet", "--shared", str(ROOT), str(there))
    for line in git("ls-files", "-m", "-o", "-d", "--exclude-standard").splitlines():
        (there / line).unlink(missing_ok=True)
        if (ROOT / line).is_file():
            (there / line).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / line, there / line)
    git("add", "--all", root=there)
    name = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    git(*name, "commit", "--quiet", "--allow-empty", "--message", "as it is", root=there)
    return there


def check(root: Path) -> tuple[int, str]:
    environment = os.environ | {"PYTHONPATH": str(root)}
    command = [sys.executable, "-m", "gnuq", "check"]
    done = subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def flip_a_digit(root: Path) -> None:
    _flip(root / "data" / "results" / "table-5.csv")


def _flip(path: Path) -> None:
    text = path.read_text()
    digit = re.search(r"\.(\d)", text)
    assert digit
    place = digit.start(1)
    path.write_text(text[:place] + str((int(text[place]) + 1) % 10) + text[place + 1 :])


def flip_a_byte(root: Path) -> None:
    path = root / "data" / "records" / f"{TORN}.parquet"
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)


def replaced(file: str, old: str, new: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        path = root / file
        text = path.read_text()
        assert text.count(old) == 1, f"{old!r} in {file}"
        path.write_text(text.replace(old, new))

    return change


def forge(root: Path) -> None:
    """Change a result and its provenance alike: only the list of checksums can tell."""
    from hashlib import sha256

    path = root / "data" / "results" / "table-8.csv"
    before = sha256(path.read_bytes()).hexdigest()
    _flip(path)
    after = sha256(path.read_bytes()).hexdigest()
    told = path.with_suffix(".json")
    told.write_text(told.read_text().replace(before, after))


def draft(root: Path) -> None:
    replaced("data/results/table-6.json", '"dirty": false', '"dirty": true')(root)


def lose(root: Path) -> None:
    for suffix in (".json", ".parquet"):
        (root / "data" / "records" / "hmc" / "rings" / "unit-1" / f"seed-1{suffix}").unlink()


def stray(root: Path) -> None:
    (root / "data" / "results" / "notes.csv").write_text("a,b\n1,2\n")


LINE = '"line": _Recipe("regression", 1, 0.3'
#: What is changed → the change, and what must be said of it. Each is of another stage.
CHANGES: dict[str, tuple[Callable[[Path], None], list[str]]] = {
    "a digit of a result": (flip_a_digit, ["table-5: ", "torn or edited"]),
    "a byte of a record": (flip_a_byte, [f"{TORN}: ", "torn or edited"]),
    "a result and its provenance alike": (forge, ["table-8: ", "its provenance is not the one"]),
    "a constant": (
        replaced("gnuq/posteriors/hmc.py", "minval=0.5", "minval=0.4"),
        [f"{RECORD}: ", "its code has changed since (gnuq.posteriors.hmc._transition)"],
    ),
    "a setting": (
        replaced("gnuq/problems.py", LINE, LINE + "1"),
        ["hmc/line/fan-in/seed-0: ", "its setting noise was 0.3, now 0.31"],
    ),
    "a printed number": (
        replaced("book/paper_map.yml", "[0.72, 0.93]", "[0.72, 0.94]"),
        ["table-7: ", "its setting printed"],
    ),
    "a draft": (draft, ["table-6: ", "is a draft"]),
    "a lost record": (lose, ["hmc/rings/unit-1/seed-1: ", "not found"]),
    "a stray file": (stray, ["data/results/notes", "no stage writes it"]),
}


@pytest.fixture(scope="module")
def said_of_changes(clone: Path) -> str:
    """What `make check` says of a clone in which all of that has changed."""
    try:
        for change, _ in CHANGES.values():
            change(clone)
        status, said = check(clone)
    finally:
        restore(clone)
    assert status == 1, said
    return said


def restore(clone: Path) -> None:
    git("reset", "--quiet", "--hard", root=clone)
    git("clean", "--quiet", "--force", "-d", "data", root=clone)


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_found_and_named(said_of_changes: str, change: str) -> None:
    """On one line, the stage and what is wrong with it."""
    lines = said_of_changes.splitlines()
    assert [line for line in lines if all(text in line for text in CHANGES[change][1])]


def test_what_changes_nothing_passes(clone: Path) -> None:
    """Docstrings and comments of the functions that made everything."""
    for file in ("gnuq/posteriors/hmc.py", "gnuq/results/tables.py", "gnuq/protocol.py"):
        path = clone / file
        text = path.read_text().replace('"""The ', '"""The very ', 1)
        path.write_text(text.replace("\n\n\ndef ", "\n\n\n# a comment\ndef ", 1))
    try:
        status, said = check(clone)
        changed = git("status", "--porcelain", root=clone).split()
    finally:
        git("reset", "--quiet", "--hard", root=clone)
    assert status == 0, said
    assert len(changed) == 2 * 3  # nothing but the three files
