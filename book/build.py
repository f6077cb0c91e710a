"""Build the website into ``_build/html``: execute the chapters, render the pages, check them.

``make book`` runs this. Jupyter Book alone would republish old numbers: its notebook cache looks at
a chapter's cells only, not at the code and data that they use, and Sphinx skips pages that it has
seen, warnings included. So the cache is emptied whenever a fingerprint of code, data and packages
changes, and every build renders every page afresh.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import check_site

ROOT = Path(__file__).resolve().parents[1]
OUTPUT = ROOT / "_build"
SITE = OUTPUT / "html"
CACHE = OUTPUT / ".jupyter_cache"
ICONS = re.compile(r"<script[^>]*/fontawesome\.js[^>]*></script>\s*")
LIVE = ROOT / "gnuq" / "widgets" / "live"
WATCHED = (
    "gnuq/**/*.py",
    "book/teaching/quizzes/*.yml",
    "data/records/**/*",
    "data/results/**/*",
    "requirements.lock",
)


def fingerprint(root: Path) -> str:
    """Return a SHA-256 of all that a chapter's numbers depend on, except the chapter itself.

    Args:
        root: The repository. Both names and contents count; so does the Python version.
    """
    digest = hashlib.sha256(sys.version.encode())
    for path in _watched(root):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"\n{path.relative_to(root).as_posix()} {content}".encode())
    return digest.hexdigest()


def _watched(root: Path) -> Iterator[Path]:
    for pattern in WATCHED:
        yield from sorted(path for path in root.glob(pattern) if path.is_file())


def drop_stale_cache(root: Path, cache: Path) -> bool:
    """Empty the cache of executed notebooks unless it belongs to the present fingerprint.

    Args:
        root: The repository.
        cache: The cache's folder; made if it is not there.

    Returns:
        Whether the cache was kept.
    """
    stamp = cache / "fingerprint"
    present = fingerprint(root)
    if stamp.is_file() and stamp.read_text(encoding="ascii") == present:
        return True
    shutil.rmtree(cache, ignore_errors=True)
    cache.mkdir(parents=True)
    # Before the build, not after: a build that is cut short leaves notebooks of this fingerprint.
    stamp.write_text(present, encoding="ascii")
    return False


def environment() -> dict[str, str]:
    """Return the build's environment: everybody's the same, writing only below ``_build``."""
    home = OUTPUT / "home"
    (home / "tmp").mkdir(parents=True, exist_ok=True)
    # A kernel, package or setting of the user's own must neither be used nor written to.
    dropped = ("JUPYTER", "IPYTHON", "PYTHON", "XDG_", "MPL", "PYTENSOR_", "NUMBA_")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(dropped)}
    models = os.environ.get("HF_HOME", str(Path.home() / ".cache" / "huggingface"))
    return kept | {
        "GNUQ_BOOK": "1",
        "HF_HOME": models,  # downloaded models are read from where the user keeps them
        "HOME": str(home),
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        "PYTHONHASHSEED": "0",
        "PYTHONNOUSERSITE": "1",
        "PYTHONUTF8": "1",
        "TMPDIR": str(home / "tmp"),
        "TZ": "UTC",
    }


def render() -> int:
    """Execute and render the book under warnings as errors; return Jupyter Book's exit status."""
    shutil.rmtree(SITE, ignore_errors=True)  # a page that left the book must leave the site
    program = "from jupyter_book.cli.main import main; main()"
    command = [sys.executable, "-c", program, "build", str(ROOT)]
    flags = ["--path-output", str(ROOT), "--all", "-W", "-n", "--keep-going"]
    return subprocess.run(command + flags, cwd=ROOT, env=environment(), check=False).returncode


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


def main() -> int:
    """Build and check; return 0 if the site is good."""
    kept = drop_stale_cache(ROOT, CACHE)
    print("Executed chapters:", "kept, code and data are unchanged" if kept else "none kept")
    status = render()
    if status != 0:
        print("\nThe book was not built: see the first error above.", file=sys.stderr)
        return status
    copy_plotly()
    copy_live_figures()
    offer_clean_notebooks()
    drop_second_icons()
    return check_site.main([str(SITE)])


if __name__ == "__main__":
    sys.exit(main())
