"""pyproject.toml, requirements.lock and environment.yml tell the same story."""

from __future__ import annotations

import tomllib
from importlib import metadata

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

from gnuq.artefacts import ROOT

NAMED_BY_THE_USER = {
    "jupyter-book", "jupytext", "ipywidgets", "torch", "pymc", "arviz", "transformers",
    "bitsandbytes", "plotly", "scikit-learn",
}  # fmt: skip
LINES = {"3.11": {"pymc": "5.28", "arviz": "0.23"}, "3.12": {"pymc": "6.", "arviz": "1."}}

project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
locked = [
    Requirement(line)
    for line in (ROOT / "requirements.lock").read_text().splitlines()
    if line.strip() and not line.startswith("#")
]


def required() -> list[Requirement]:
    """Every requirement of the package that the lock must cover."""
    extras = project["optional-dependencies"]
    lists = [
        project["dependencies"],
        *(extras[k] for k in ("posteriors", "lm", "chapters", "book", "dev")),
    ]
    found = [Requirement(text) for one in lists for text in one]
    return [requirement for requirement in found if requirement.name != "gnuq"]


def pins(python: str) -> dict[str, Version]:
    """What the lock installs for one Python, by name."""
    environment = {"python_version": python, "python_full_version": f"{python}.0"}
    environment |= {"sys_platform": "linux", "platform_machine": "x86_64"}
    return {
        r.name.lower(): Version(next(iter(r.specifier)).version)
        for r in locked
        if r.marker is None or r.marker.evaluate(environment)
    }


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_the_lock_satisfies_every_requirement(python: str) -> None:
    found = pins(python)
    for requirement in required():
        if requirement.marker and not requirement.marker.evaluate({"python_version": python}):
            continue
        assert requirement.name in found, f"{requirement.name} is not locked for {python}"
        assert requirement.specifier.contains(found[requirement.name], prereleases=True)


@pytest.mark.parametrize("python", LINES)
def test_one_line_of_pymc_and_arviz_per_python(python: str) -> None:
    for name, prefix in LINES[python].items():
        assert str(pins(python)[name]).startswith(prefix)


def test_every_line_of_the_lock_is_a_pin() -> None:
    for requirement in locked:
        assert [s.operator for s in requirement.specifier] == ["=="], str(requirement)


def test_the_lock_leaves_the_choice_of_cuda_to_torch() -> None:
    """A CPU build of torch must not drag in gigabytes; a CUDA build pins its own."""
    heavy = ("nvidia-", "cuda-", "triton")
    assert not [r.name for r in locked if r.name.startswith(heavy)]


def test_the_packages_that_the_user_named_are_all_there() -> None:
    assert {requirement.name for requirement in required()} >= NAMED_BY_THE_USER


def test_conda_installs_the_lock_and_the_package() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    (pip,) = [d["pip"] for d in environment["dependencies"] if isinstance(d, dict)]
    assert pip == ["-r requirements.lock", "-e ."]
    (python,) = [d for d in environment["dependencies"] if str(d).startswith("python=")]
    version = python.removeprefix("python=")
    assert version == "3.12"
    assert version in LINES
    assert Version(version) in Requirement(f"x{project['requires-python']}").specifier


def test_this_environment_is_the_locked_one() -> None:
    import platform

    expected = pins(".".join(platform.python_version_tuple()[:2]))
    for name in ("numpy", "scipy", "pymc", "arviz", "plotly", "jupyter-book"):
        assert Version(metadata.version(name)) == expected[name]


def test_nothing_in_the_project_names_a_private_place() -> None:
    """Lock and configuration hold no index addresses, so that they install anywhere."""
    for name in ("requirements.lock", "pyproject.toml", "environment.yml", "Makefile"):
        text = (ROOT / name).read_text()
        assert "--index-url" not in text
        assert "--find-links" not in text
