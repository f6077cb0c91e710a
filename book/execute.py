"""Execute the chapters whose inputs have changed, several at a time, into jupyter-cache.

Jupyter Book's own cache compares a chapter's cells only, so that it would republish an old number
after a change in code or data. Here every executed chapter is kept with its inputs (`inputs.py`),
and one with an input that has changed is taken out of the cache and executed again. Each gets one
thread, so that its numbers do not depend on how many run beside it.

Usage: python book/execute.py [--list]   (the second only says what would be executed, and why)
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import build
import yaml
from inputs import UNKNOWN, Project, Trace, changed
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn, JupyterCacheAbstract
from jupyter_cache.cache.db import NbCacheRecord
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning import KernelProvisionerFactory
from myst_nb.core.read import is_myst_markdown_notebook, read_myst_markdown_notebook
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / "_build" / ".jupyter_cache"
LOGS = ROOT / "_build" / "kernels"
TIMEOUT = 900  # seconds for one cell, on a busy machine
GIB = 2**30
LARGEST = 3 * GIB  # what one kernel may hold
TOGETHER = 4 * GIB  # what all may hold beside the warm process
USUAL = 3 * GIB // 2  # what a chapter is taken to hold until it has run once
WRITING = threading.RLock()  # held while the cache is changed


@dataclass
class Chapter:
    """One executed page of the book.

    Attributes:
        path: The Markdown file.
        cache: Where executed chapters are kept.
        project: The repository as it is now.
    """

    path: Path
    cache: JupyterCacheAbstract
    project: Project

    @property
    def name(self) -> str:
        """The page's name, relative to the repository."""
        return self.path.relative_to(ROOT).with_suffix("").as_posix()

    @cached_property
    def notebook(self) -> Any:
        """Its cells, read as Sphinx will read them."""
        text = self.path.read_text(encoding="utf-8")
        return read_myst_markdown_notebook(text, add_source_map=True, path=self.path)

    @property
    def cells(self) -> list[str]:
        """Sources of the cells that are executed."""
        code = [cell for cell in self.notebook.cells if cell.cell_type == "code"]
        return [c.source for c in code if "skip-execution" not in c.metadata.get("tags", [])]

    @property
    def record(self) -> Any | None:
        """What the cache has of these very cells, None if nothing that can be read.

        A record of a build that was killed, or for whose outputs the disk was full, is removed.
        """
        try:
            found = self.cache.match_cache_notebook(self.notebook)
        except KeyError:
            return None
        try:
            self.cache.get_cache_bundle(found.pk)
        except (KeyError, OSError, ValueError):  # what is no JSON is a ValueError too
            self._remove(found)
            return None
        return found

    def reasons(self) -> list[str]:
        """Why it must be executed: the inputs that have changed; empty if none has."""
        record = self.record
        if record is None:
            return ["its cells"]
        before = record.data.get("inputs", {})
        return list(changed(before, self._named(self.project.now(before, self.cells))))

    def _named(self, inputs: dict[str, str]) -> dict[str, str]:
        """Inputs with the chapter's own name: it decides the folder in which its cells run."""
        return inputs | {"chapter": self.name}

    def forget(self) -> None:
        """Take it out of the cache: what is kept there was made from other inputs."""
        if (record := self.record) is not None:
            self._remove(record)

    def _remove(self, record: Any) -> None:
        """The record first: one without its file would be taken for an executed chapter."""
        with WRITING:
            NbCacheRecord.remove_records([record.pk], self.cache.db)
            shutil.rmtree(self.cache.path / "executed" / record.hashkey, ignore_errors=True)

    def execute(self) -> tuple[float, int]:
        """Execute it and keep it, with its inputs; return seconds and bytes of memory.

        Raises:
            CellExecutionError: A cell failed.
            CellTimeoutError: A cell took too long.
            DeadKernelError: The kernel died.
            MemoryError: It held more than a chapter may.
            ValueError: Its log is not whole, or its imports cannot be told apart.
        """
        log = LOGS / f"{self.name.replace('/', '.')}.jsonl"
        start = time.perf_counter()
        client = NotebookClient(
            self.notebook,
            km=_manager(log),
            timeout=TIMEOUT,
            record_timing=False,
            resources={"metadata": {"path": str(self.path.parent)}},
        )
        client.execute(cleanup_kc=True)
        seconds, trace = time.perf_counter() - start, Trace.read(log)
        if trace.peak > LARGEST:
            raise MemoryError(f"it held {trace.peak / GIB:.1f} GiB; a chapter may hold 3.")
        inputs = self._named(self.project.inputs(self.cells, trace))
        inputs |= dict.fromkeys(self.project.touched(inputs), UNKNOWN)
        told = {"execution_seconds": seconds, "inputs": inputs, "peak": trace.peak}
        bundle = CacheBundleIn(self.notebook, str(self.path), data=told)
        with WRITING:
            self.cache.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)
        return seconds, trace.peak


def _manager(log: Path) -> AsyncKernelManager:
    """A kernel that is forked from the warm process and writes a log."""
    entry = EntryPoint("forked", "kernel:Forked", KernelProvisionerFactory.GROUP_NAME)
    KernelProvisionerFactory.provisioners[entry.name] = entry
    manager = AsyncKernelManager(kernel_name="python3")
    manager.shutdown_wait_time = 60  # seconds; a kernel that is killed leaves half a log
    config = {"log_file": str(log)}
    manager.kernel_spec.metadata = {
        "kernel_provisioner": {"provisioner_name": entry.name, "config": config}
    }
    return manager


def pages(root: Path) -> list[Path]:
    """The book's pages, in order: the files of its table of contents.

    Args:
        root: The repository.
    """
    toc = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))
    return [root / f"{name}.md" for name in _files(toc)]


def _files(toc: Any) -> Iterator[str]:
    """The pages in a table of contents, however deep."""
    if isinstance(toc, dict):
        yield from (toc[key] for key in ("root", "file") if key in toc)
    for below in toc.values() if isinstance(toc, dict) else toc if isinstance(toc, list) else ():
        yield from _files(below)


def chapters(root: Path, cache: Path) -> list[Chapter]:
    """The pages that hold code cells.

    Args:
        root: The repository.
        cache: The folder of executed chapters.
    """
    kept, project = get_cache(cache), Project(root)
    kept.list_cache_records()  # makes the cache's tables, before several threads would
    executed = [p for p in pages(root) if is_myst_markdown_notebook(p.read_text(encoding="utf-8"))]
    return [Chapter(path, kept, project) for path in executed]


@dataclass
class Memory:
    """A budget of memory that chapters take from before they run.

    Attributes:
        free: Bytes that are left.
    """

    free: int = TOGETHER

    def __post_init__(self) -> None:
        """Nobody waits yet."""
        self.changes = threading.Condition()

    def take(self, wanted: int) -> int:
        """Wait until so much is free; whoever wants more than there is gets all of it."""
        wanted = min(wanted, TOGETHER)
        with self.changes:
            self.changes.wait_for(lambda: self.free >= wanted)
            self.free -= wanted
        return wanted

    def give(self, taken: int) -> None:
        """Give it back."""
        with self.changes:
            self.free += taken
            self.changes.notify_all()


class Book:
    """The chapters of one build, with what earlier runs of them took.

    Args:
        cache: The folder of executed chapters; what runs took is kept beside them.
    """

    def __init__(self, cache: Path) -> None:
        cache.mkdir(parents=True, exist_ok=True)
        self.chapters, self.costs = chapters(ROOT, cache), cache / "costs.json"
        self.known: dict[str, tuple[float, int]] = {}
        with contextlib.suppress(OSError, ValueError):  # a first build, or one that was cut off
            self.known = json.loads(self.costs.read_text(encoding="utf-8"))
        self.memory, self.lock = Memory(), threading.Lock()

    def stale(self) -> Iterator[tuple[Chapter, list[str]]]:
        """The chapters that must be executed, and why."""
        for chapter in self.chapters:
            if reasons := chapter.reasons():
                yield chapter, reasons

    def execute(self, wanted: Sequence[Chapter]) -> bool:
        """Execute chapters, the longest first, as many at a time as there are cores.

        Returns:
            Whether all succeeded.
        """
        order = sorted(wanted, key=lambda c: -self.known.get(c.name, (0.0, 0))[0])
        pool = ThreadPoolExecutor(os.cpu_count() or 1)
        done = list(pool.map(self._attempt, order))
        part = self.costs.with_suffix(".part")
        part.write_text(json.dumps(self.known, indent=1), encoding="utf-8")
        part.replace(self.costs)
        return all(done)

    def _attempt(self, chapter: Chapter) -> bool:
        taken = self.memory.take(self.known.get(chapter.name, (0.0, 0))[1] or USUAL)
        try:
            chapter.forget()
            seconds, peak = chapter.execute()
        except Exception as error:  # the other chapters go on
            told = f"{chapter.name}: not executed\n{type(error).__name__}: {error}"
            print(f"\n{told}", file=sys.stderr, flush=True)
            return False
        finally:
            self.memory.give(taken)
        print(f"{seconds:6.0f} s {peak / GIB:5.2f} GiB  {chapter.name}", flush=True)
        with self.lock:
            self.known[chapter.name] = seconds, peak
        return True


def shortened(reasons: Sequence[str]) -> str:
    """Why a chapter is executed, on one line."""
    more = len(reasons) - 3
    return ", ".join(reasons[:3]) + (f" and {more} more" if more > 0 else "")


def main(arguments: list[str] | None = None) -> int:
    """Execute what must be; return 0 if every chapter is in the cache."""
    parser = argparse.ArgumentParser(description="Execute the chapters whose inputs have changed.")
    parser.add_argument("--list", action="store_true", help="only say which, and why")
    options = parser.parse_args(arguments)
    if os.environ.get("GNUQ_BOOK") != "1":  # by hand: the build's environment, and no other
        return build.run("execute", options=["--list"] if options.list else [])
    LOGS.mkdir(parents=True, exist_ok=True)
    book = Book(CACHE)
    stale = list(book.stale())
    print(f"Chapters to execute: {len(stale)} of {len(book.chapters)}")
    for chapter, reasons in stale:
        print(f"  {chapter.name}: {shortened(reasons)}", flush=True)
    if options.list:
        return 0
    try:
        return 0 if book.execute([chapter for chapter, _ in stale]) else 1
    except KeyboardInterrupt:  # without waiting for the chapters that run; their kernels end too
        print("Stopped. What is executed is kept: make book goes on.", file=sys.stderr, flush=True)
        with WRITING:
            os._exit(130)


if __name__ == "__main__":
    sys.exit(main())
