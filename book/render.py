"""Render every page of the book from the executed chapters.

Sphinx could keep what it has read, but then it would keep a page whose outputs have changed while
its text has not, and forget the warnings of a page that it does not read again. All pages take
about ten seconds, so all are read and written, each time.

Usage: python book/render.py
"""

from __future__ import annotations

import os
import shutil
import sys

from execute import CACHE, ROOT, chapters
from jupyter_book.sphinx import build_sphinx

SITE = ROOT / "_build" / "html"


def main() -> int:
    """Render, with warnings as errors; return 0 if all went well."""
    records = {chapter.name: chapter.record for chapter in chapters(ROOT, CACHE)}
    missing = [name for name, record in records.items() if not (record and record.data)]
    if missing:  # Sphinx would execute them itself, and nobody would know what they read
        print(f"Not executed: {', '.join(missing)}. Run book/execute.py first.", file=sys.stderr)
        return 1
    shutil.rmtree(SITE, ignore_errors=True)  # a page that left the book must leave the site
    settings = {
        "external_toc_path": str(ROOT / "_toc.yml"),
        "latex_individualpages": False,
        "nitpicky": True,
    }
    status = build_sphinx(
        ROOT,
        SITE,
        noconfig=True,
        path_config=ROOT / "_config.yml",
        confoverrides=settings,
        freshenv=True,
        force_all=True,
        warningiserror=True,
        keep_going=True,
        jobs=os.cpu_count() or 1,
    )
    return int(status != 0)


if __name__ == "__main__":
    sys.exit(main())
