"""Build the website into ``_build/html``: execute the chapters, render the pages, check them.

``make book`` runs this. `execute.py` executes the chapters whose inputs have changed, several at a
time, and `render.py` renders every page; both in the environment that is made here.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import check_site
from filelock import FileLock, Timeout

ROOT = Path(__file__).resolve().parents[1]
OUTPUT = ROOT / "_build"
SITE = OUTPUT / "html"
REJECTED = OUTPUT / "html.rejected"
ICONS = re.compile(r"<script[^>]*/fontawesome\.js[^>]*></script>\s*")
#: What the build takes over from the user's environment, beside GNUQ_*: where things lie, and what
#: some processors need for right results.
KEPT = ("PATH", "TMPDIR", "LD_LIBRARY_PATH", "SYSTEMROOT", "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
CALLS = "trace=open,openat,clone,clone3,fork,vfork"
LIVE = ROOT / "gnuq" / "widgets" / "live"


def environment() -> dict[str, str]:
    """Return the build's environment: everybody's the same, writing only below ``_build``."""
    home = OUTPUT / "home"
    home.mkdir(parents=True, exist_ok=True)
    # A kernel, package or setting of the user's own must neither be used nor written to.
    kept = {key: value for key, value in os.environ.items() if key.startswith("GNUQ_")}
    kept |= {key: os.environ[key] for key in KEPT if key in os.environ}
    kept.pop("GNUQ_TRACE", None)
    models = os.environ.get("HF_HOME", str(Path.home() / ".cache" / "huggingface"))
    # One thread each: as many chapters run at a time as there are cores, and a number must not
    # depend on how many do. NPROC is JAX's; a thread that waits must not keep a core busy.
    threads = {"OMP_NUM_THREADS": "1", "NPROC": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    # A bar says how long something took, on the page, and only when a cache was empty.
    bars = {"TQDM_DISABLE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    ours = {
        "GNUQ_BOOK": "1",
        "HF_HOME": models,  # downloaded models are read from where the user keeps them
        "HOME": str(home),
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        "PYTHONHASHSEED": "0",
        "PYTHONNOUSERSITE": "1",
        # This repository's gnuq, whichever one is installed, and the build's own modules.
        "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "book"))),
        "PYTHONUTF8": "1",
        "TZ": "UTC",
    }
    return kept | threads | bars | ours


def run(module: str, *, before: Sequence[str] = (), options: Sequence[str] = ()) -> int:
    """Run a module of this folder in the build's environment; return its exit status.

    Not as a script: each kernel would import a script again.

    Args:
        module: Its name.
        before: What stands before the command.
        options: What stands after it.
    """
    program = f"import {module}; raise SystemExit({module}.main())"
    command = [*before, sys.executable, "-c", program, *options]
    return subprocess.run(command, cwd=ROOT, env=environment(), check=False).returncode


def tracer() -> list[str]:
    """What logs the files that each kernel opens, by its system calls, for a test.

    Only where GNUQ_TRACE=1 asks for it: it needs Linux and strace.
    """
    calls = OUTPUT / "calls"
    shutil.rmtree(calls, ignore_errors=True)
    if os.environ.get("GNUQ_TRACE") != "1":
        return []
    calls.mkdir(parents=True)
    (calls / "begun").touch()
    return ["strace", "-ff", "--seccomp-bpf", "-qq", "-y", "-e", CALLS, "-o", str(calls / "of")]


def copy_plotly() -> None:
    """Put the installed plotly package's own plotly.js into the site, for ``static/figures.js``.

    Raises:
        FileNotFoundError: If plotly is not installed, or no longer carries the file.
    """
    spec = find_spec("plotly")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("plotly is not installed: run `make book`, which installs it")
    source = Path(spec.origin).parent / "package_data" / "plotly.min.js"
    shutil.copyfile(source, SITE / "_static" / "plotly.min.js")


def copy_live_figures() -> None:
    """Put the live figures' modules and style sheet into the site, for ``static/live.js``."""
    shutil.copytree(LIVE, SITE / "_static" / LIVE.name)


def offer_clean_notebooks() -> None:
    """Let the download button give the chapters' output-free copies.

    Jupyter Book offers the executed notebook, whose figures need this website's script.
    """
    for offered in (SITE / "_sources").rglob("*.ipynb"):
        clean = ROOT / offered.relative_to(SITE / "_sources")
        if clean.is_file():
            shutil.copyfile(clean, offered)


def drop_second_icons() -> None:
    """Leave out the script that draws every icon again: the style sheet's fonts show them all."""
    for page in SITE.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        page.write_text(ICONS.sub("", text), encoding="utf-8")


def make() -> int:
    """Execute, render and check; return 0 if the site is good."""
    status = run("execute", before=tracer()) or run("render")
    if status != 0:
        print("\nThe book was not built: see the first error above.", file=sys.stderr)
        return status
    copy_plotly()
    copy_live_figures()
    offer_clean_notebooks()
    drop_second_icons()
    return check_site.main([str(SITE)])


def main() -> int:
    """Build, alone; a site that is not good, or not finished, is put aside."""
    OUTPUT.mkdir(exist_ok=True)
    status = 130
    try:
        with FileLock(OUTPUT / "lock", timeout=0):
            try:
                status = make()
            finally:
                if status != 0 and SITE.exists():
                    shutil.rmtree(REJECTED, ignore_errors=True)
                    SITE.rename(REJECTED)
                    print(f"What there is of the site is in {REJECTED}.", file=sys.stderr)
    except Timeout:
        print("Another build is under way here; wait for it, or stop it.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return status


if __name__ == "__main__":
    sys.exit(main())
