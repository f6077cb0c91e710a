"""Posts come from the right file or from scikit-learn; the draw is fair and repeatable."""

from __future__ import annotations

import gzip
import hashlib
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from gnuq.qa import newsgroups
from gnuq.qa.datasets import DatasetError

GROUPS = [group for groups in newsgroups.DOMAINS.values() for group in groups]
BODY = "one two three four five six seven eight nine ten"


def table(n: int = 320) -> pd.DataFrame:
    """As many posts of each group in each part, all different."""
    rows = [
        {"split": split, "category": group, "id": i, "body": f"{BODY} {group} {split} {i}"}
        for split in ("train", "test")
        for group in GROUPS
        for i in range(n)
    ]
    domains = {group: domain for domain, names in newsgroups.DOMAINS.items() for group in names}
    frame = pd.DataFrame(rows)
    return frame.assign(domain=frame["category"].map(domains))


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small file that the checksum belongs to, in the folder of `GNUQ_DATA`."""
    rows = [
        {"split": "train", "category": "sci.med", "id": 1, "body": BODY},
        {"split": "test", "category": "sci.space", "id": 1, "body": BODY},  # sent to both
        {"split": "train", "category": "sci.space", "id": 2, "body": "too short"},
        {"split": "test", "category": "rec.sport.hockey", "id": 3, "body": f"{BODY} eleven"},
    ]
    path = tmp_path / newsgroups.FILE.file
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(newsgroups, "FILE", replace(newsgroups.FILE, sha256=digest))
    monkeypatch.setenv("GNUQ_DATA", str(tmp_path))
    return path


def test_every_post_stands_once_and_has_ten_words(file: Path) -> None:
    found = newsgroups.posts()
    assert list(zip(found["category"], found["domain"], strict=True)) == [
        ("rec.sport.hockey", "sports"),
        ("sci.med", "science"),
    ]
    assert newsgroups.revision().startswith("newsgroups ")


def test_another_file_is_refused(file: Path) -> None:
    file.write_bytes(gzip.compress(b"{}"))
    with pytest.raises(DatasetError, match="it is another file"):
        newsgroups.posts()


def test_a_missing_file_says_what_else_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GNUQ_DATA", str(tmp_path))
    with pytest.raises(DatasetError, match=r"there is no .*gz. Put it there, or unset GNUQ_DATA"):
        newsgroups.posts()


@pytest.fixture
def no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GNUQ_DATA", raising=False)
    monkeypatch.setattr(newsgroups, "folder", lambda: tmp_path)


def test_without_the_file_scikit_learn_downloads(
    no_file: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(*, subset: str, categories: list[str], remove: tuple[str, ...]) -> Any:
        assert remove == ("headers", "footers", "quotes")
        names = sorted(categories)
        return SimpleNamespace(
            data=[f"{BODY} {subset} {name}" for name in names],
            target=range(len(names)),
            target_names=names,
            filenames=np.array(
                [f"/data/{subset}/{name}/{7000 + i}" for i, name in enumerate(names)]
            ),
        )

    monkeypatch.setattr("sklearn.datasets.fetch_20newsgroups", fetch)
    found = newsgroups.posts()
    assert newsgroups.revision() == newsgroups.DOWNLOADED
    assert len(found) == 8
    assert set(found["category"]) == set(GROUPS)
    space = found[(found["category"] == "sci.space") & (found["split"] == "test")]
    assert list(space["id"]) == [7003]
    assert list(space["body"]) == [f"{BODY} test sci.space"]


def test_without_a_network_the_error_says_so(
    no_file: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(**_: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("sklearn.datasets.fetch_20newsgroups", fetch)
    with pytest.raises(DatasetError, match="could not download .*no route to host"):
        newsgroups.posts()


def test_the_draw_has_the_papers_sizes_and_no_text_twice() -> None:
    found = newsgroups.choose(table(), seed=0)
    sizes = found.groupby(["domain", "role"]).size()
    assert set(sizes.index.get_level_values("domain")) == {"science", "sports"}
    for role, (split, n) in newsgroups.ROLES.items():
        assert (sizes.xs(role, level="role") == n).all()
        assert set(found.loc[found["role"] == role, "split"]) == {split}
    assert not found["body"].duplicated().any()


def test_the_draw_depends_on_the_seed_alone() -> None:
    first = newsgroups.choose(table(), seed=3)
    shuffled = table().sample(frac=1, random_state=0)
    pd.testing.assert_frame_equal(first, newsgroups.choose(shuffled, seed=3))
    assert set(first["body"]) != set(newsgroups.choose(table(), seed=4)["body"])


@pytest.mark.bad_input
def test_a_table_that_will_not_do_is_named() -> None:
    with pytest.raises(ValueError, match="no column 'body'"):
        newsgroups.choose(table().drop(columns="body"), seed=0)
    with pytest.raises(ValueError, match="20 posts of science in train, 600 needed"):
        newsgroups.choose(table(10), seed=0)
