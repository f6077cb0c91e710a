"""Where a table comes from: what the computation says, and what the machine says."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("numpy", "scipy", "torch", "pymc", "arviz", "jax", "blackjax", "curvlinops-for-pytorch")


@dataclass(frozen=True)
class Origin:
    """What determines a table.

    Attributes:
        code: fingerprint of the code that the computation reaches (`gnuq.fingerprint`).
        configuration: everything that was decided beforehand, as JSON-able values.
        inputs: name of every artefact that was read, `records/…` or `results/…` → its sha256.
        seed: the seed, where one number says it; None where the configuration holds several.
        dtype: of the arithmetic.
        device: where it ran: `cpu`, or the accelerator's name.
        model: name and revision of a pretrained model.
        dataset: name and revision of a data set that the package does not draw itself.
        tolerance: how far a recomputation on another machine may be off, by quantity.
    """

    code: str
    configuration: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)
    seed: int | None = None
    dtype: str = "float64"
    device: str = "cpu"
    model: str | None = None
    dataset: str | None = None
    tolerance: Mapping[str, float] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The same as plain JSON values, tuples as lists.

        Raises:
            TypeError: the configuration holds what JSON cannot.
        """
        told: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return told


def machine(root: Path) -> dict[str, Any]:
    """When and where a table is made: commit, versions, processor.

    Args:
        root: the repository.

    Returns:
        `dirty` is whether the package differs from the commit; commit and dirty are None outside
        a repository.
    """
    status = _git(root, "status", "--porcelain", "--", "gnuq", "benchmarks")
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _git(root, "rev-parse", "HEAD"),
        "dirty": None if status is None else bool(status),
        "python": platform.python_version(),
        "packages": versions(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }


def _git(root: Path, *arguments: str) -> str | None:
    command = ["git", *arguments]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def versions() -> dict[str, str]:
    """The installed versions of the packages that compute."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
