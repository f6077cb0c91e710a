"""A table is what its provenance says, or it is refused; nothing is half-written."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gnuq import artefacts
from gnuq.artefacts import ArtefactError, Origin, Parts, files

ORIGIN = Origin(code="f" * 64, configuration={"seed": 3}, inputs={"records/x": "a"}, seed=3)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "DATA", tmp_path)


def frame() -> pd.DataFrame:
    values = np.linspace(0, 1, 7)
    return pd.DataFrame({"p": values.astype(np.float32), "n": np.arange(7), "q": values / 3})


def save(kind: artefacts.Kind, name: str = "a/b") -> Path:
    return artefacts.save(kind, name, frame(), origin=ORIGIN, seconds=1.5, report={"r": 1})


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
    assert told["code"] == "f" * 64
    assert told["inputs"] == {"records/x": "a"}
    assert (told["seed"], told["dtype"], told["device"]) == (3, "float64", "cpu")
    assert {"model", "dataset", "tolerance"} <= told.keys()
    assert told["report"] == {"r": 1}
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
    with pytest.raises(artefacts.ArtefactError, match=r"not found.*gnuq record records/a/b"):
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
        artefacts.save("results", "a/b", frame() * 2, origin=ORIGIN, seconds=0)
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
    bad = Origin(code="f", configuration={"x": {1}})
    with pytest.raises(TypeError):
        artefacts.save("results", "a/b", frame() * 2, origin=bad, seconds=0)
    pd.testing.assert_frame_equal(
        artefacts.load("results", "a/b").frame, frame(), check_dtype=False
    )


def test_provenance_is_readable_json() -> None:
    told = json.loads(save("records").with_suffix(".json").read_text())
    assert {"created", "commit", "packages", "configuration", "sha256"} <= told.keys()


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="frame.*empty"):
        artefacts.save("results", "x", frame()[:0], origin=ORIGIN, seconds=0)
    with pytest.raises(ValueError, match="name.*leaves"):
        artefacts.load("results", "../../etc/passwd")


def test_parts_come_back_in_order_and_belong_to_their_origin(tmp_path: Path) -> None:
    parts, other = Parts("a", ORIGIN), Parts("a", Origin(code="e" * 64))
    keys = ["hmc/x", "hmc/y"]
    parts.save("hmc/y", frame() * 2)
    assert parts.missing(keys) == ["hmc/x"]
    assert other.missing(keys) == keys
    with pytest.raises(ArtefactError, match="hmc/x"):
        parts.load(keys)
    parts.save("hmc/x", frame())
    expected = pd.concat([frame(), frame() * 2], ignore_index=True)
    pd.testing.assert_frame_equal(parts.load(keys), expected, check_dtype=False)
    parts.discard()
    assert list(tmp_path.iterdir()) == []


def test_a_part_cannot_leave_its_folder_or_be_empty() -> None:
    with pytest.raises(ValueError, match="key.*leaves"):
        Parts("a", ORIGIN).save("../x", frame())
    with pytest.raises(ValueError, match="frame.*empty"):
        Parts("a", ORIGIN).save("x", frame()[:0])


def test_provenance_is_restamped_only_for_the_same_table() -> None:
    save("results")
    told = artefacts.provenance("results", "a/b")
    artefacts.restamp("results", "a/b", told | {"code": "0" * 64})
    assert artefacts.load("results", "a/b").provenance["code"] == "0" * 64
    with pytest.raises(ValueError, match="sha256"):
        artefacts.restamp("results", "a/b", told | {"sha256": "0"})


def test_names_lists_tables_once_and_strangers_as_they_are(tmp_path: Path) -> None:
    save("results")
    save("records")
    (tmp_path / "records" / "a" / "notes.txt").write_text("x")
    assert artefacts.names() == ["records/a/b", "records/a/notes.txt", "results/a/b"]


def test_the_same_table_from_the_same_origin_is_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clean = artefacts.machine(files.ROOT) | {"dirty": False}
    path = artefacts.save("results", "a", frame(), origin=ORIGIN, seconds=1, made=clean)
    before = path.with_suffix(".json").read_text()
    artefacts.save("results", "a", frame(), origin=ORIGIN, seconds=2)
    assert path.with_suffix(".json").read_text() == before
    other = Origin(code="0" * 64)
    artefacts.save("results", "a", frame(), origin=other, seconds=2)
    assert artefacts.provenance("results", "a")["code"] == "0" * 64
