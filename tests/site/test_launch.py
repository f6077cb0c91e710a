"""A chapter's buttons lead to its notebook, and the notebook runs where nothing is installed."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from tests.site.serving import ROOT, built
from tests.site.visits import pages

SETTINGS = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
REPOSITORY = SETTINGS["repository"]["url"]
BRANCH = SETTINGS["repository"]["branch"]
PLACE = f"{urlsplit(REPOSITORY).path}/blob/{BRANCH}/"  # on Colab: /github + this + the notebook
BINDER = f"/v2/gh{urlsplit(REPOSITORY).path}/{BRANCH}"
LINK = re.compile(r'<a\b[^>]*?\bhref="([^"]+)"([^>]*)>', re.DOTALL)


@cache
def links(page: str) -> list[tuple[str, str]]:
    """Return the addresses of a page's links, each with the attributes that follow it."""
    return LINK.findall((built() / page).read_text(encoding="utf-8"))


def launched(page: str) -> dict[str, str]:
    """Return the notebook that each launch button of a page opens, as a path of the repository."""
    found = {}
    for address in [urlsplit(address) for address, _ in links(page)]:
        if address.hostname == "colab.research.google.com":
            found["Colab"] = address.path.removeprefix(f"/github{PLACE}")
        elif address.hostname == "mybinder.org":
            assert address.path == BINDER
            found["Binder"] = parse_qs(address.query)["urlpath"][0].removeprefix("lab/tree/")
    return found


def downloads(page: str) -> list[Path]:
    """Return the notebooks that a page offers for download, as files of the website."""
    offered = [href for href, rest in links(page) if "btn-download-notebook-button" in rest]
    return [(built() / page).parent.joinpath(href).resolve() for href in offered]


CHAPTERS = [page for page in pages() if page.startswith("notebooks/")]
RUNNING = [page for page in pages() if launched(page)]  # a prose page has nothing to launch
every_running_page = pytest.mark.parametrize("page", RUNNING)


def first_cell(page: str) -> str:
    """Return the source of the first code cell of a page's notebook."""
    notebook = json.loads((ROOT / page).with_suffix(".ipynb").read_text(encoding="utf-8"))
    return "".join(
        next(cell for cell in notebook["cells"] if cell["cell_type"] == "code")["source"]
    )


def test_every_chapter_can_be_launched() -> None:
    assert CHAPTERS
    assert set(CHAPTERS) <= set(RUNNING)


@every_running_page
def test_colab_and_binder_open_the_notebook_of_the_page(page: str) -> None:
    notebook = str(Path(page).with_suffix(".ipynb"))
    assert launched(page) == {"Colab": notebook, "Binder": notebook}
    assert (ROOT / notebook).is_file()


@every_running_page
def test_the_download_is_the_notebook_without_outputs(page: str) -> None:
    (offered,) = downloads(page)
    assert offered.read_bytes() == (ROOT / page).with_suffix(".ipynb").read_bytes()


@every_running_page
def test_a_notebook_starts_with_the_same_guard(page: str) -> None:
    """Colab has no gnuq: the first cell fetches it, or every later one would fail."""
    assert 'find_spec("gnuq") is None' in first_cell(page)
    assert first_cell(page) == first_cell(CHAPTERS[0])


class Commands:
    """Stands for ``subprocess.run``: keeps the commands, and clones an empty folder."""

    def __init__(self) -> None:
        self.all: list[list[str]] = []

    def __call__(self, command: list[str], *, check: bool) -> None:
        """Keep a command; one that is not checked could fail unseen."""
        assert check
        self.all.append(command)
        if command[0] == "git":
            Path(command[-1]).mkdir()


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Commands:
    """An empty folder, a path of modules that may change, and no command that is carried out."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    commands = Commands()
    monkeypatch.setattr(subprocess, "run", commands)
    return commands


def test_the_guard_does_nothing_where_gnuq_is_installed(commands: Commands) -> None:
    before = [*sys.path]
    exec(first_cell(CHAPTERS[0]), {})
    assert commands.all == []
    assert sys.path == before


def test_the_guard_fetches_and_installs_the_book_elsewhere(
    commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    exec(first_cell(CHAPTERS[0]), {})
    clone, package, models = commands.all
    folder = Path(clone[-1])
    assert clone[:2] == ["git", "clone"]
    assert REPOSITORY in clone
    assert folder.name != "gnuq"  # an empty folder of that name would pass for the package
    assert sys.path[0] == str(folder)  # an editable install is seen by the next process only
    assert models[-1] == f"{folder}/requirements-models.txt"
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    wanted = package[-1].removeprefix(f"{folder}[").removesuffix("]")
    assert wanted in extras


def test_the_guard_can_be_run_again_after_a_failure(
    commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    exec(first_cell(CHAPTERS[0]), {})
    exec(first_cell(CHAPTERS[0]), {})
    assert [command[0] for command in commands.all].count("git") == 1
