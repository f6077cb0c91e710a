"""What a chapter's outputs depend on, found and not listed.

Its code: the cells name functions of `gnuq`, these name others, and the syntax trees of all that is
reached are hashed, definition by definition, without comments and docstrings (`gnuq.fingerprint`).
Its files: what a run opened, listed or looked for below the repository (`kernel.py`). Its base: the
Python, the packages that are installed, the environment and the build's own code. A chapter whose
inputs are all as they were when it ran has the outputs that it had; one with any that has changed
is executed again, and the build says which.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from itertools import pairwise
from pathlib import Path

from gnuq.fingerprint import Code
from gnuq.fingerprint.source import Module

CHAPTER = "chapter"  # the name of the module that a chapter's cells make together
COMMIT = "git rev-parse HEAD"
UNKNOWN = "unknown"
#: The build's own code, which decides how a kernel runs.
BUILD = ("book/build.py", "book/execute.py", "book/inputs.py", "book/kernel.py")
#: Variables that say where something lies, and change no output.
PLACES = {"HF_HOME", "HOME", "PATH", "PYTHONPATH", "TMPDIR"}
KINDS = ("file", "folder", "path", "module", "program")  # of a log's lines, as `Trace` has them
Inputs = Mapping[str, str]  # what → its state


@dataclass(frozen=True)
class Trace:
    """What a kernel's log says.

    Attributes:
        files: Opened for reading, relative to the repository.
        folders: Listed.
        paths: Looked for, whether they were there or not.
        modules: Of `gnuq`, imported.
        programs: Started by the chapter, as commands.
        peak: Bytes of memory.
    """

    files: frozenset[str] = frozenset()
    folders: frozenset[str] = frozenset()
    paths: frozenset[str] = frozenset()
    modules: frozenset[str] = frozenset()
    programs: frozenset[str] = frozenset()
    peak: int = 0

    @classmethod
    def read(cls, log: Path) -> Trace:
        """Read a log.

        Raises:
            ValueError: It does not end with the memory: the kernel did not end by itself.
        """
        found: dict[str, set[str]] = defaultdict(set)
        for line in log.read_text(encoding="utf-8").splitlines():
            kind, what = json.loads(line)
            found[kind].add(what)
        if not found["peak"]:
            raise ValueError(f"log: {log} is not whole.")
        return cls(*(frozenset(found[kind]) for kind in KINDS), peak=max(map(int, found["peak"])))


class Package(Code):
    """The source of `gnuq`, and of chapters beside it."""

    def add(self, source: str) -> str:
        """Make a chapter's cells a module: its imports, and one function that holds the rest.

        Args:
            source: Of all its code cells.

        Returns:
            The dotted name of that function.

        Raises:
            ValueError: one name is imported from two places: which of them a cell means is only
                known when it runs.
        """
        name = f"{CHAPTER}{hashlib.sha256(source.encode()).hexdigest()}"
        body = ast.parse(source).body
        imports = [s for s in body if isinstance(s, ast.Import | ast.ImportFrom)]
        bound = sorted(set(Module(name, ast.Module(imports, []), False).imported(imports)))
        for (one, target), (other, second) in pairwise(bound):
            if one == other:
                raise ValueError(
                    f"cells: {one} is imported from {'.'.join(target)} and from "
                    f"{'.'.join(second)}; import one of them by another name."
                )
        cells = ast.parse("def cells(): pass").body
        cells[0].body += [s for s in body if s not in imports]  # type: ignore[attr-defined]
        self._modules[name] = Module(name, ast.Module([*imports, *cells], []), is_package=False)
        return f"{name}.cells"

    def path_of(self, module: str) -> Path | None:
        """A module's file, None if there is none."""
        return self._path(module)

    def holds(self, module: str) -> bool:
        """Whether there is a file for a module."""
        return self._path(module) is not None

    def definitions(self, module: str) -> list[str]:
        """The dotted names of all that a module defines."""
        return [f"{module}.{name}" for name in self._known(module).definitions]

    def written(self, module: str) -> set[str]:
        """The modules that a module's source imports, anywhere in it, with their packages."""
        found = set()
        for _, (target, name) in self._known(module).imported(self._known(module).tree.body):
            inner = f"{target}.{name}"
            parts = (inner if name and self.holds(inner) else target).split(".")
            found |= {".".join(parts[: n + 1]) for n in range(len(parts))}
        return found

    def imports(self, module: str) -> str:
        """A hash of which modules a module imports when it is imported: they run too."""
        targets = self._known(module).imports.values()
        names = {f"{m}.{name}" if self.holds(f"{m}.{name}") else m for m, name in targets}
        return hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()


class Project:
    """The repository as it is when this is made; nothing is read twice.

    Args:
        root: Its folder.
    """

    def __init__(self, root: Path) -> None:
        self.began = time.time()  # before anything is read
        self.root = root
        self.base, self.commit = base(root), commit(root)
        self.package = Package(root)
        self.file = cache(self._file)

    def inputs(self, cells: Iterable[str], trace: Trace) -> dict[str, str]:
        """Everything that the outputs of a chapter's cells depend on.

        Args:
            cells: Sources of its code cells, in order.
            trace: Of its run.

        Returns:
            `code module:name`, `module name`, `file path`, `folder path`, `path path`,
            `program name` and `base` → a hash, or a word.
        """
        reached = self.reached(cells, trace.modules)
        return {
            "base": self.base,
            **{f"code {name}": tree for name, tree in reached.items()},
            **{f"module {name}": self.module(name) for name in trace.modules},
            **{f"file {path}": self.file(path) for path in trace.files},
            **{f"folder {path}": self.folder(path) for path in trace.folders},
            **{f"path {path}": self.path(path) for path in trace.paths - trace.files},
            **{f"program {name}": self.program(name) for name in trace.programs},
        }

    def reached(self, cells: Iterable[str], imported: Iterable[str]) -> dict[str, str]:
        """The definitions of `gnuq` that cells reach → the hashes of their syntax trees.

        What a module does when it is imported counts for every module that the run imported. A
        module that was imported without an import in any source that ran counts whole: who asked
        for it by its name may call anything in it.

        Args:
            cells: Sources of code cells.
            imported: Dotted names of modules.
        """
        cells = self.package.add("\n".join(cells))
        there = [name for name in imported if self.package.holds(name)]
        sources = [cells.rpartition(".")[0], *there]
        written = set().union(*map(self.package.written, sources))
        entries = [cells, *(f"{name}." for name in there)]
        for name in set(there) - written:
            entries += self.package.definitions(name)
        found = self.package.reached(*entries)
        ours = {key: tree for key, tree in found.items() if not key[0].startswith(CHAPTER)}
        modules = sorted({module for module, _ in ours})
        return {
            **{f"{module}:{name}": tree[:16] for (module, name), tree in sorted(ours.items())},
            **{f"{module}:import": self.package.imports(module)[:16] for module in modules},
        }

    def _file(self, path: str) -> str:
        """A file's content, or that it is not there."""
        try:
            return hashlib.sha256((self.root / path).read_bytes()).hexdigest()[:16]
        except OSError:
            return self.path(path)

    def folder(self, path: str) -> str:
        """The names in a folder, or that it is not there."""
        try:
            names = sorted(os.listdir(self.root / path))
        except OSError:
            return self.path(path)
        ours = [name for name in names if name != "__pycache__"]
        return hashlib.sha256("\n".join(ours).encode()).hexdigest()[:16]

    def module(self, name: str) -> str:
        """Whether a module is there."""
        return "module" if self.package.holds(name) else "absent"

    def program(self, command: str) -> str:
        """What a program would say, for the one whose answer is known; of others nothing.

        What a program reads is not seen, so that a chapter that starts one is always executed.
        """
        return self.commit if command == COMMIT else UNKNOWN

    def path(self, path: str) -> str:
        """Whether there is a file, a folder or nothing."""
        there = self.root / path
        return "file" if there.is_file() else "folder" if there.is_dir() else "absent"

    def touched(self, inputs: Inputs) -> list[str]:
        """The inputs that may have changed since this was made: a run may have read other ones.

        A file's change of status is compared, which a copy with the times of the original has too.
        What is not there may have been: then its folder, below `data/`, has changed.

        Args:
            inputs: What `inputs` returns.
        """
        return [name for name in inputs if self._touched(*name.partition(" ")[::2])]

    def _touched(self, kind: str, what: str) -> bool:
        if kind == "code":
            path = self.package.path_of(what.partition(":")[0])
        elif kind in {"file", "folder", "path"}:
            path = self.root / what
        else:
            return False
        if path is None or (kind == "path" and path.is_dir()):
            return False
        if not path.exists():
            folder = next(one for one in path.parents if one.exists())
            path = folder if folder.is_relative_to(self.root / "data") else None
        return path is not None and path.stat().st_ctime >= self.began

    def now(self, recorded: Inputs, cells: Iterable[str]) -> dict[str, str]:
        """The present state of what was recorded for a chapter; its code is followed afresh."""
        kinds: dict[str, set[str]] = defaultdict(set)
        for name in recorded:
            kind, _, what = name.partition(" ")
            kinds[kind].add(what)
        return self.inputs(cells, Trace(*(frozenset(kinds[kind]) for kind in KINDS)))


def base(root: Path) -> str:
    """A hash of what every chapter depends on: Python, packages, environment, the build itself.

    Args:
        root: The repository.
    """
    installed = {f"{found.name}=={found.version}" for found in metadata.distributions()}
    variables = {f"{k}={v}" for k, v in os.environ.items() if k not in PLACES}
    scripts = [(root / name).read_bytes() for name in BUILD if (root / name).is_file()]
    told = [sys.version, *sorted(installed), *sorted(variables)]
    told += [hashlib.sha256(script).hexdigest() for script in scripts]
    return hashlib.sha256("\n".join(told).encode()).hexdigest()[:16]


def commit(root: Path) -> str:
    """The commit that is checked out, or that there is none."""
    asked = subprocess.run(COMMIT.split(), cwd=root, capture_output=True, check=False)
    return asked.stdout.decode().strip() or "no commit"


def changed(before: Inputs, now: Inputs) -> Iterator[str]:
    """The inputs that are not as they were, each by name; what is unknown is never as it was."""
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name) or now[name] == UNKNOWN:
            yield name
