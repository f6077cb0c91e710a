"""Posts of four newsgroups in two domains, and the choice among them: Appendix A.1.

The posts are those of 20 Newsgroups, split by date. Our records were made from a file of them in
which signatures, quotations, addresses and posts under ten words are left out too. Where that file
is not at hand, scikit-learn downloads the posts: other cuts of the same texts, so other numbers.
"""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gnuq.qa.datasets import Dataset, DatasetError, folder

#: The paper's two domains, and the groups that they consist of.
DOMAINS: dict[str, tuple[str, ...]] = {
    "science": ("sci.med", "sci.space"),
    "sports": ("rec.sport.hockey", "rec.sport.baseball"),
}
#: How many posts of each domain `choose` takes for what, and from which part of the corpus.
ROLES = {"training": ("train", 400), "fresh": ("train", 200), "test": ("test", 100)}
COLUMNS = ("split", "category", "id", "body")
FILE = Dataset(
    "newsgroups",
    "newsgroups_4.jsonl.gz",
    "ed18393d1df119763501815006f2122533529874d18490101c22e733937d2aca",
    "whoever made the records; it is not public",
)
DOWNLOADED = "20 Newsgroups as scikit-learn downloads it"
#: Posts with fewer words are left out.
WORDS = 10


def posts() -> pd.DataFrame:
    """Every post once: split (train or test), category, id (the file's number), body, domain.

    Read from the file in `GNUQ_DATA` (or `data/raw`); without either, downloaded by scikit-learn.

    Raises:
        DatasetError: `GNUQ_DATA` is set and has no such file, the file is another one, or nothing
            can be downloaded.
    """
    table = pd.DataFrame(_fetched() if revision() == DOWNLOADED else _saved())
    table = table[[len(body.split()) >= WORDS for body in table["body"]]]
    domains = {group: domain for domain, groups in DOMAINS.items() for group in groups}
    table = table.assign(domain=table["category"].map(domains))
    # a post sent to two groups would stand in both, perhaps on either side of the split
    ordered = table.sort_values(["category", "id"]).drop_duplicates("body")
    return ordered.reset_index(drop=True)


def revision() -> str:
    """Which texts `posts` reads on this machine, for provenance."""
    chosen = bool(os.environ.get("GNUQ_DATA"))
    return FILE.revision if chosen or (folder() / FILE.file).is_file() else DOWNLOADED


def choose(table: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Draw the experiment's texts: for each domain 400 to train on, 200 more of that time, 100 new.

    Args:
        table: as `posts` returns it; the order of its rows does not matter.
        seed: of the draw.

    Returns:
        Chosen rows with a further column role: `training`, `fresh` (of the training period, not
        trained on) or `test` (of the later period). No row has two roles.

    Raises:
        ValueError: a column is missing, or a domain has too few posts.
    """
    missing = [name for name in (*COLUMNS, "domain") if name not in table]
    if missing:
        raise ValueError(f"table: it has no column {missing[0]!r}; take what posts() returns.")
    generator, parts = np.random.default_rng(seed), []
    ordered = table.sort_values(["category", "id"])
    for domain in DOMAINS:
        for split in ("train", "test"):
            there = ordered[(ordered["domain"] == domain) & (ordered["split"] == split)]
            roles = [role for role, (part, n) in ROLES.items() if part == split for _ in range(n)]
            if len(there) < len(roles):
                raise ValueError(
                    f"table: {len(there)} posts of {domain} in {split}, {len(roles)} needed; "
                    "take what posts() returns."
                )
            rows = generator.permutation(len(there))[: len(roles)]
            parts.append(there.iloc[rows].assign(role=roles))
    return pd.concat(parts, ignore_index=True)


def _saved() -> pd.DataFrame:
    path = folder() / FILE.file
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise DatasetError(
            f"{FILE.name}: there is no {path}. Put it there, or unset GNUQ_DATA: scikit-learn then "
            "downloads the posts, cut a little differently."
        ) from error
    found = hashlib.sha256(content).hexdigest()
    if found != FILE.sha256:
        raise DatasetError(
            f"{FILE.name}: {path} has the checksum {found[:12]}…, not {FILE.sha256[:12]}…: it is "
            "another file, and the records would not match."
        )
    return pd.read_json(io.BytesIO(content), lines=True, compression="gzip")


def _fetched() -> list[dict[str, Any]]:
    from sklearn.datasets import fetch_20newsgroups

    groups, rows = [group for names in DOMAINS.values() for group in names], []
    for split in ("train", "test"):
        try:
            bunch = fetch_20newsgroups(
                subset=split, categories=groups, remove=("headers", "footers", "quotes")
            )
        except OSError as error:
            raise DatasetError(
                f"{FILE.name}: scikit-learn could not download 20 Newsgroups ({error}). Try again "
                "with a network, or bring its folder ~/scikit_learn_data here."
            ) from error
        for body, label, name in zip(bunch.data, bunch.target, bunch.filenames, strict=True):
            category, number = bunch.target_names[label], int(Path(str(name)).name)
            rows.append({"split": split, "category": category, "id": number, "body": body})
    return rows
