"""Questions come from the right file, or an error says how to get it."""

from __future__ import annotations

from pathlib import Path

import pytest

from gnuq.qa import datasets
from gnuq.qa.datasets import DatasetError


def test_a_missing_file_says_where_to_get_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GNUQ_DATA", str(tmp_path))
    with pytest.raises(DatasetError, match=r"there is no .*truthfulqa.csv. Get it from https://"):
        datasets.truthfulqa()
    assert not datasets.available("truthfulqa")


def test_another_file_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "truthfulqa.csv").write_text("Question\nWhat?")
    monkeypatch.setenv("GNUQ_DATA", str(tmp_path))
    with pytest.raises(DatasetError, match="another version of the file"):
        datasets.truthfulqa()


def test_without_a_folder_it_is_the_repositorys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GNUQ_DATA", raising=False)
    assert datasets.folder().parts[-2:] == ("data", "raw")
