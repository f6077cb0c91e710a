"""Wall time, CPU time and memory of the commands that continuous integration runs.

Usage: .venv/bin/python benchmarks/commands.py [--root FOLDER] [--json FILE] TARGET ...

Each argument is a target of the Makefile in the root, such as test, check, book or test-site. For
each, one line is printed: seconds on the clock, seconds of CPU, the resident memory of its largest
process, and the memory of all its processes together, in which a page that several share counts
once (proportional set size, on Linux). Memory is sampled twice a second. ``--json`` keeps the
numbers, and names the largest processes. The machine decides: compare numbers of one machine only,
and let nothing else run on it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import resource
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
GIB = 1 << 30
INTERVAL = 0.5  # seconds between two samples of memory


@dataclass
class Usage:
    """What one command took."""

    command: str
    status: int = 0
    wall: float = 0.0
    """Seconds on the clock."""
    cpu: float = 0.0
    """Seconds of CPU, user and system, of the command and of all its children."""
    total: float = 0.0
    """GiB of all processes together, at their largest."""
    processes: dict[str, float] = field(default_factory=dict)
    """GiB resident, at its largest, of every process above half a GiB, by its command line."""

    def sample(self, root: psutil.Process) -> None:
        """Look at the memory of all processes below one."""
        together = 0
        for process in (root, *root.children(recursive=True)):
            try:
                memory = process.memory_full_info()
                name = " ".join(process.cmdline())[-120:]
            except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
                continue
            together += getattr(memory, "pss", memory.rss)
            if memory.rss > GIB / 2:
                key = f"{process.pid} {name}"
                self.processes[key] = max(self.processes.get(key, 0.0), memory.rss / GIB)
        self.total = max(self.total, together / GIB)


def cpu_of_children() -> float:
    """Return the seconds of CPU of all children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(target: str, root: Path, log: Path) -> Usage:
    """Run one target to its end, its output in a file."""
    usage = Usage(target)
    before, start = cpu_of_children(), time.perf_counter()
    with log.open("wb") as output:
        command = ["make", target]
        running = psutil.Popen(command, cwd=root, stdout=output, stderr=subprocess.STDOUT)
        while running.poll() is None:
            with contextlib.suppress(psutil.NoSuchProcess):
                usage.sample(psutil.Process(running.pid))
            time.sleep(INTERVAL)
    usage.status = running.wait()
    usage.wall = time.perf_counter() - start
    usage.cpu = cpu_of_children() - before
    return usage


def main() -> int:
    """Measure the targets one after the other; return 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("targets", nargs="+")
    parser.add_argument("--root", type=Path, default=ROOT)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    print("target      wall s   CPU s   largest GiB   together GiB", flush=True)
    measured = []
    for target in arguments.targets:
        log = arguments.root / "_build" / f"{target}.log"
        log.parent.mkdir(exist_ok=True)
        usage = measure(target, arguments.root, log)
        measured.append(usage)
        largest = max(usage.processes.values(), default=0.0)
        failed = f"   failed: {log}" if usage.status else ""
        print(
            f"{target:10} {usage.wall:7.0f} {usage.cpu:7.0f} {largest:13.2f} {usage.total:14.2f}"
            + failed,
            flush=True,
        )
        if arguments.json:
            arguments.json.write_text(json.dumps([asdict(one) for one in measured], indent=1))
    return int(any(one.status for one in measured))


if __name__ == "__main__":
    sys.exit(main())
