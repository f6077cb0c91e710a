"""Every test starts from the same random state; models and inputs are in float64.

With GNUQ_SHAPES=1 the shapes and types in gnuq's annotations are checked at every call. Tests of
bad input must then be left out (-m "not bad_input"): the annotations would refuse it first.

Under pytest-xdist each worker has one thread, for there are as many workers as cores, and what is
heavy is built once, by whichever worker comes first (`built_once`).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:  # before torch and JAX read them
    os.environ |= {"OMP_NUM_THREADS": "1", "NPROC": "1"}
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # who waits leaves the core to the others

import psutil
import pytest
import torch
from filelock import FileLock

if os.environ.get("GNUQ_SHAPES") == "1":
    from jaxtyping import install_import_hook

    install_import_hook("gnuq", "beartype.beartype")

torch.set_default_dtype(torch.float64)  # before the test modules build their cases

WORKER = 5 * 2**29  # bytes that a worker may come to hold


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """As many workers as there are cores, and as fit the memory that is free."""
    fit = psutil.virtual_memory().available // WORKER
    return max(1, min(os.cpu_count() or 1, fit))


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def built_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A folder that all workers share: `built_once(name, fill)` fills it for the first that asks.

    The others wait meanwhile. A folder that could not be filled is tried again.
    """
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def build(name: str, fill: Callable[[Path], object]) -> Path:
        folder, done = shared / name, shared / f"{name}.done"
        with FileLock(shared / f"{name}.lock"):
            if not done.exists():
                folder.mkdir(exist_ok=True)
                fill(folder)
                done.touch()
        return folder

    return build


@pytest.fixture(scope="session")
def cache(built_once: Callable[..., Path]) -> Path:
    """A cache with the default model, converted from the file in the installed package."""
    from gnuq.language_models import load

    def convert(folder: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("GNUQ_CACHE", str(folder))
            load(device="cpu")  # about 20 s, nearly all of them the conversion

    return built_once("cache", convert)
