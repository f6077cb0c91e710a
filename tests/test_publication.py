"""What publishes and cites the book: workflows that call the Makefile, one version, one licence."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from gnuq.artefacts import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
README = (ROOT / "README.md").read_text(encoding="utf-8")
every_workflow = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)


def read(path: Path) -> dict[Any, Any]:
    """A workflow; YAML reads its key `on` as True."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def commands(path: Path) -> list[str]:
    """What the steps of a workflow run."""
    steps = [step for job in read(path)["jobs"].values() for step in job["steps"]]
    return [step["run"] for step in steps if "run" in step]


@every_workflow
def test_a_workflow_runs_make_targets_and_nothing_else(path: Path) -> None:
    """Whatever passes there can be repeated with the same command on any machine."""
    for command in commands(path):
        program, target, *settings = command.split()
        assert program == "make"
        assert target in TARGETS
        assert settings in ([], ["PYTHON=python"])


@every_workflow
def test_a_workflow_may_read_and_its_jobs_end(path: Path) -> None:
    found = read(path)
    assert found["permissions"] == {"contents": "read"}
    for name, job in found["jobs"].items():
        assert name == "publish" or job["timeout-minutes"] <= 180


def test_what_is_published_has_been_tested_and_looked_at() -> None:
    found = read(ROOT / ".github" / "workflows" / "book.yml")
    assert found["jobs"]["publish"]["needs"] == ["test", "transformers", "build"]
    assert {"make book", "make test-site"} <= set(commands(WORKFLOWS[0]))
    assert "make test PYTHON=python" in commands(WORKFLOWS[0])


def test_every_chapter_is_executed_once_a_week_without_a_cache() -> None:
    found = read(ROOT / ".github" / "workflows" / "weekly.yml")
    (when,) = found[True]["schedule"]
    assert re.fullmatch(r"\d+ \d+ \* \* [0-6]", when["cron"])
    uses = [s.get("uses", "") for job in found["jobs"].values() for s in job["steps"]]
    assert not [name for name in uses if name.startswith("actions/cache")]
    assert commands(ROOT / ".github" / "workflows" / "weekly.yml") == [
        "make newest PYTHON=python",
        "make weekly PYTHON=python",
    ]
    weekly = MAKEFILE.partition("\nweekly:")[2].partition("\n\n")[0]
    assert "rm -rf _build" in weekly
    for command in ("$(MAKE) test", "$(MAKE) book", "-m weekly", "tests/site", "$(MAKE) student"):
        assert command in weekly


def test_the_citation_names_the_version_the_licence_and_the_paper() -> None:
    assert str(CITATION["version"]) == PROJECT["version"]
    assert CITATION["license"] == PROJECT["license"]
    assert CITATION["references"][0]["url"] == "https://arxiv.org/abs/2603.29466"
    licence = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert licence.startswith(f"{PROJECT['license']} License")


def test_what_the_readme_links_is_there() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)|src=\"(?!http)([^\"]+)\"", README):
        assert (ROOT / "".join(target)).exists(), target


def test_the_commands_of_the_readme_are_targets() -> None:
    for target in re.findall(r"(?:^|`)make ([a-z-]+)", README, re.MULTILINE):
        assert target in TARGETS
