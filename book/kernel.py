"""Kernels that start warm and note what their chapter reads.

A chapter that starts from nothing pays about ten seconds for importing torch, JAX and PyMC. Here
one process, multiprocessing's fork server, imports them once; every kernel is forked from it.
Before a kernel runs its first cell it begins to log, a line each, whatever the chapter reads below
the repository: files opened, folders listed, paths looked for, modules of `gnuq` imported, programs
started; at the end, its peak memory. `inputs.py` turns the log into what the outputs depend on.

Python reports what it opens and lists by audit events; `os.stat` and its kin, which have none, are
wrapped. A library that opens files by itself is not seen: `tests/site/test_inputs.py` compares with
the system calls.
"""

from __future__ import annotations

import inspect
import json
import logging
import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from functools import partialmethod
from importlib.util import source_from_cache
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import Any

from jupyter_client.provisioning.local_provisioner import LocalProvisioner
from traitlets import Unicode

ROOT = Path(__file__).resolve().parents[1]
#: Folders below the root that hold nothing of the project's own.
FOREIGN = ("_build", ".venv", ".git")
#: What several chapters import; of `gnuq` nothing, so that each chapter shows what it imports.
SHARED = (
    "ipykernel.kernelapp", "torch", "pandas", "plotly.graph_objects", "sklearn.linear_model",
    "transformers", "jax", "pymc", "arviz",
)  # fmt: skip
#: Who reads modules and lists where modules may be.
IMPORTERS = {"importlib", "_frozen_importlib_external", "importlib_metadata", "zipfile"}
#: Who reads lines of source for a traceback; PyTensor keeps one with each variable, unseen.
QUOTERS = {"linecache", "tokenize"}
LONGEST = 1024  # characters of a path; IPython asks of any text whether it is a file
PROGRAMS = {"os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.system", "subprocess.Popen"}


def server() -> Any:
    """The context whose processes are forked, warm where the system allows it, else started."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    if sys.platform == "linux":  # elsewhere libraries start threads that no fork survives
        context.set_forkserver_preload(["kernel", *SHARED])
    return context


class Log:
    """The lines that one kernel writes, each once.

    Args:
        path: The log, which is begun anew.
        root: The repository; what lies elsewhere is not logged.
    """

    def __init__(self, path: Path, root: Path) -> None:
        self.root = root
        self.handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
        self.seen: set[tuple[str, str]] = set()

    def write(self, kind: str, what: str) -> None:
        """Add a line, unless it is there."""
        if (kind, what) not in self.seen:
            self.seen.add((kind, what))
            os.write(self.handle, f"{json.dumps([kind, what])}\n".encode())

    def path(self, kind: str, path: object) -> None:
        """Add a line on a path, if it lies in the project."""
        if isinstance(path, str | bytes | os.PathLike) and len(os.fsdecode(path)) < LONGEST:
            inside = os.path.relpath(os.path.abspath(os.fsdecode(path)), self.root)
            if inside.partition(os.sep)[0] not in {"..", *FOREIGN}:
                self.write(kind, Path(inside).as_posix())

    def imported(self, path: object) -> None:
        """Add what is read for Python itself: a module of `gnuq` by its name, else a file.

        What code of `gnuq` is reached is followed by name; a helper beside a chapter, and data that
        a package holds, count as files.
        """
        text = os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else ""
        file = Path(os.path.abspath(source_from_cache(text) if text.endswith(".pyc") else text))
        if file.is_relative_to(self.root / "gnuq") and file.suffix == ".py":
            parts = file.relative_to(self.root).with_suffix("").parts
            self.write("module", ".".join(parts[:-1] if parts[-1] == "__init__" else parts))
        else:
            self.path("file", file)


def reads(mode: object, flags: object) -> bool:
    """Whether what a file holds may be read from it."""
    if isinstance(mode, str):
        return not set(mode) & set("wax")
    return isinstance(flags, int) and not flags & (os.O_WRONLY | os.O_TRUNC)


def for_python_itself(frame: FrameType) -> bool:
    """Whether a frame reads a module to import it, or looks for what is installed."""
    return frame.f_globals.get("__name__", "").partition(".")[0] in IMPORTERS


def for_traceback(frame: FrameType) -> bool:
    """Whether a frame reads lines of source, which `inspect` asks for elsewhere (`watch`)."""
    return frame.f_globals.get("__name__", "") in QUOTERS


def watch(log: Log) -> None:
    """Log from now on what this process reads below the repository."""

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "import" and arguments[0].partition(".")[0] == "gnuq":
            log.write("module", arguments[0])
        elif event in PROGRAMS:
            log.write("program", _command(event, arguments))
        elif event in {"open", "os.listdir", "os.scandir"}:
            frame = sys._getframe(1)
            if for_python_itself(frame):
                if event == "open":
                    log.imported(arguments[0])
            elif event != "open":
                log.path("folder", arguments[0] if arguments[0] is not None else ".")
            elif reads(*arguments[1:3]) and not for_traceback(frame):
                log.path("file", arguments[0])

    sys.addaudithook(note)
    for name in ("stat", "lstat", "access"):
        setattr(os, name, _noted(getattr(os, name), log))
    find = inspect.findsource  # what getsource and its kin call; the lines may come from a cache

    def noted(subject: Any) -> Any:
        log.path("file", inspect.getsourcefile(subject))
        return find(subject)

    inspect.findsource = noted


def _command(event: str, arguments: tuple[Any, ...]) -> str:
    """What is started, as one would type it where that is known."""
    if event != "subprocess.Popen":
        return event
    given = arguments[1]
    return given if isinstance(given, str) else " ".join(map(os.fsdecode, given))


def _noted(function: Callable[..., Any], log: Log) -> Callable[..., Any]:
    def noted(path: Any, *arguments: Any, **options: Any) -> Any:
        log.path("path", path)
        return function(path, *arguments, **options)

    return noted


def run(arguments: list[str], folder: str, log: str, root: str) -> None:
    """Be a kernel until it is shut down.

    Args:
        arguments: Of ipykernel.
        folder: Where the chapter lies; its working folder.
        log: The file for the log.
        root: The repository.
    """
    os.setsid()  # the kernel is interrupted as a group, without its server
    os.chdir(folder)
    # This repository's gnuq, whichever one is installed, and not the build's own modules.
    sys.path[:] = [root, *(path for path in sys.path if path != str(ROOT / "book"))]
    for name in [name for name in sys.modules if name.partition(".")[0] == "gnuq"]:
        del sys.modules[name]  # the build imports some; a chapter that does too must be seen to
    # Only now: the address of the warm process's socket must be short.
    tempfile.tempdir = os.environ["TMPDIR"] = f"{root}/_build/home/tmp"
    Path(tempfile.tempdir).mkdir(parents=True, exist_ok=True)
    without_bars()
    from ipykernel.kernelapp import IPKernelApp

    app = IPKernelApp.instance(parent_handle=os.getppid(), log_level=logging.ERROR)
    app.initialize(arguments)
    written = Log(Path(log), Path(root))
    written.write("process", str(os.getpid()))
    watch(written)
    app.start()
    written.write("peak", str(peak()))


def without_bars() -> None:
    """Draw no progress bars: a page would say how long something took when a cache was empty.

    TQDM_DISABLE, which the build sets, is not heard by the bars of notebooks.
    """
    from tqdm.notebook import tqdm_notebook

    tqdm_notebook.__init__ = partialmethod(tqdm_notebook.__init__, disable=True)


def peak() -> int:
    """Bytes of memory that this process has held at most; 0 where the system does not say."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return int(lines["VmHWM"].split()[0]) * 1024


class Started:
    """A process of multiprocessing, as jupyter_client asks for it: as one of subprocess."""

    stdin = stdout = stderr = None

    def __init__(self, process: BaseProcess) -> None:
        process.start()
        self.process = process
        self.pid = process.pid

    def poll(self) -> int | None:
        """Its exit status, None while it runs."""
        return self.process.exitcode

    def wait(self) -> int | None:
        """Wait until it ends."""
        self.process.join()
        return self.process.exitcode

    def send_signal(self, number: int) -> None:
        """Send a signal, if it still runs."""
        if self.poll() is None and self.pid is not None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)


class Forked(LocalProvisioner):  # type: ignore[misc]
    """Starts a kernel from the warm process instead of from nothing."""

    log_file = Unicode(help="Where the kernel's log goes.")

    async def launch_kernel(self, cmd: list[str], **options: Any) -> Any:
        """Start the kernel; the command's own arguments stand behind `-m ipykernel_launcher`."""
        arguments = cmd[cmd.index("-f") :]
        told = (arguments, options["cwd"], self.log_file, str(ROOT))
        self.process = Started(server().Process(target=run, args=told))
        self.pid, self.pgid = self.process.pid, None
        return self.connection_info
