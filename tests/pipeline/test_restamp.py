"""A record that older code made gets the present claim only if both do the same."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gnuq import artefacts
from gnuq.artefacts import ROOT, ArtefactError, files
from gnuq.pipeline import restamp
from gnuq.pipeline.stages import PACKAGES, stages

NAME = "table-5"


@pytest.fixture
def older(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A table whose claim is "old", and a commit's files: a copy of the code as it stands."""
    saved = artefacts.load("results", NAME)
    (tmp_path / "data" / "results").mkdir(parents=True)
    content = artefacts.path_of("results", NAME).read_bytes()
    monkeypatch.setattr(files, "DATA", tmp_path / "data")
    artefacts.path_of("results", NAME).write_bytes(content)
    told = saved.provenance | {"code": "old", "commit": "abc"}
    artefacts.path_of("results", NAME).with_suffix(".json").write_bytes(files._told(told))
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / "tree" / package)

    @contextmanager
    def tree_of(commit: str) -> Iterator[Path]:
        assert commit == "abc"
        yield tmp_path / "tree"

    monkeypatch.setattr(restamp, "tree_of", tree_of)
    monkeypatch.setattr(restamp, "claims_in", lambda root: {NAME: "old"})
    return tmp_path / "tree"


def test_what_does_the_same_is_restamped_and_says_so(older: Path) -> None:
    path = older / "gnuq" / "results" / "tables.py"
    path.write_text("# another comment\n" + path.read_text())
    assert restamp.main([NAME], None) == 0
    told = artefacts.provenance("results", NAME)
    assert told["code"] == stages()[NAME].code()
    assert told["restamped"]["was"] == "old"
    assert told["restamped"]["commit"] == "abc"
    before = artefacts.path_of("results", NAME).with_suffix(".json").read_bytes()
    restamp.main([NAME], None)
    assert artefacts.path_of("results", NAME).with_suffix(".json").read_bytes() == before


def test_what_does_something_else_is_not(older: Path) -> None:
    path = older / "gnuq" / "results" / "tables.py"
    text = path.read_text()
    assert "def table(" in text
    path.write_text(text.replace(".mean()", ".median()"))
    assert path.read_text() != text
    with pytest.raises(ArtefactError, match="something else than at abc"):
        restamp.main([NAME], None)
    assert artefacts.provenance("results", NAME)["code"] == "old"


def test_a_claim_that_the_older_code_does_not_make_is_refused(
    older: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restamp, "claims_in", lambda root: {NAME: "another"})
    with pytest.raises(ArtefactError, match="its claim is not that of abc"):
        restamp.main([NAME], None)


def test_a_commits_files_and_claims_are_its_own() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    with restamp.tree_of("HEAD") as root:
        assert (root / "gnuq" / "__main__.py").is_file()
    assert restamp.claims_in(ROOT)[NAME] == stages()[NAME].code()
    with (
        pytest.raises(ArtefactError, match="--commit: git has no 'none'"),
        restamp.tree_of("none"),
    ):
        pass
