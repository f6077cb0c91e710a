"""A table is what its provenance says, or it is refused; nothing is half-written."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gnuq import artefacts


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artefacts, "DATA", tmp_path)


def frame() -> pd.DataFrame:
    values = np.linspace(0, 1, 7)
    return pd.DataFrame({"p": values.astype(np.float32), "n": np.arange(7), "q": values / 3})


def save(kind: artefacts.Kind, name: str = "a/b") -> Path:
    return artefacts.save(kind, name, frame(), configuration={"seed": 3}, seconds=1.5)


@pytest.mark.parametrize("kind", ["records", "results"])
def test_what_was_saved_comes_back(kind: artefacts.Kind) -> None:
    save(kind)
    loaded = artefacts.load(kind, "a/b")
    pd.testing.assert_frame_equal(loaded.frame, frame(), check_dtype=kind == "records")
    told = loaded.provenance
    assert told["configuration"] == {"seed": 3}
    assert told["rows"] == 7
    assert told["seconds"] == pytest.approx(1.5)
    assert told["packages"]["torch"]
    assert isinstance(told["dirty"], bool)
    assert len(told["commit"]) == 40


@pytest.mark.parametrize("kind", ["records", "results"])
def test_one_changed_byte_is_refused(kind: artefacts.Kind) -> None:
    path = save(kind)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(artefacts.ArtefactError, match=r"a/b.*torn or edited.*restore"):
        artefacts.load(kind, "a/b")


def test_a_table_without_provenance_counts_as_missing() -> None:
    save("records").with_suffix(".json").unlink()
    assert not artefacts.exists("records", "a/b")
    with pytest.raises(artefacts.ArtefactError, match=r"not found.*gnuq\.records"):
        artefacts.load("records", "a/b")


def test_a_write_that_is_cut_off_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save("results")
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        artefacts.save("results", "a/b", frame() * 2, configuration={}, seconds=0)
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert sorted(p.name for p in path.parent.iterdir()) == ["b.csv", "b.json"]


@pytest.mark.parametrize("torn", ["", "{", "[]", "{}"])
def test_a_torn_provenance_file_is_refused(torn: str) -> None:
    save("results").with_suffix(".json").write_text(torn)
    with pytest.raises(artefacts.ArtefactError, match="provenance file is torn"):
        artefacts.load("results", "a/b")


def test_a_configuration_that_cannot_be_written_leaves_the_old_artefact() -> None:
    save("results")
    with pytest.raises(TypeError):
        artefacts.save("results", "a/b", frame() * 2, configuration={"x": {1}}, seconds=0)
    pd.testing.assert_frame_equal(
        artefacts.load("results", "a/b").frame, frame(), check_dtype=False
    )


def test_provenance_is_readable_json() -> None:
    told = json.loads(save("records").with_suffix(".json").read_text())
    assert {"created", "commit", "packages", "configuration", "sha256"} <= told.keys()


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="frame.*empty"):
        artefacts.save("results", "x", frame()[:0], configuration={}, seconds=0)
    with pytest.raises(ValueError, match="name.*leaves"):
        artefacts.load("results", "../../etc/passwd")
