"""Every test starts from the same random state; models and inputs are in float64.

With GNUQ_SHAPES=1 the shapes and types in gnuq's annotations are checked at every call. Tests of
bad input must then be left out (-m "not bad_input"): the annotations would refuse it first.

Each test belongs to one of `make test`'s two runs: with shapes (`SHAPED`) or without. `make quick`
leaves out modules that load a pretrained model, sample a posterior or start processes (`SLOW`).

Under pytest-xdist each worker has one thread, for there are as many workers as cores, and what is
heavy is built once, by whichever worker comes first (`built_once`).
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:  # before torch and JAX read them
    os.environ |= {"OMP_NUM_THREADS": "1", "NPROC": "1"}
# What JAX compiles, most of a sampler's test, is kept for other modules, processes and runs.
os.environ |= {
    "JAX_COMPILATION_CACHE_DIR": str(Path(__file__).parents[1] / "_build" / "jax"),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.3",
}
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # who waits leaves the core to the others

import psutil
import pytest
import torch
from filelock import FileLock

CHECKED = os.environ.get("GNUQ_SHAPES") == "1"
if CHECKED:
    from jaxtyping import install_import_hook

    install_import_hook("gnuq", "beartype.beartype")

torch.set_default_dtype(torch.float64)  # before the test modules build their cases

#: Whose tests run with the shapes of annotations checked: modules and folders.
SHAPED = (
    "gradnorm", "walkthrough", "test_estimators.py", "test_networks.py", "test_problems.py",
    "posteriors/test_laplace.py", "posteriors/test_predictive.py", "posteriors/test_conjugate.py",
    "posteriors/test_ensembles.py", "posteriors/test_methods.py",
)  # fmt: skip
#: Whose tests take seconds each.
SLOW = (
    "architectures", "pipeline/test_check.py", "pipeline/test_comparisons.py",
    "pipeline/test_question_answering.py", "pipeline/test_runs.py", "posteriors/test_hmc.py",
    "posteriors/test_joint.py", "posteriors/test_keys.py", "posteriors/test_moments.py",
    "posteriors/test_old_kernel.py", "posteriors/test_streamed.py", "posteriors/test_streaming.py",
    "posteriors/test_whitened.py", "posteriors/test_wide_limit.py", "test_wide_posteriors.py",
    "qa/test_command.py", "qa/test_runs.py", "language_models/test_offline.py",
    "test_benchmarks_scoring.py", "test_build.py", "test_language_results.py", "test_proxy_bias.py",
    "test_question_answering_results.py", "test_results.py", "test_text_proxies.py",
    "test_widgets.py", "walkthrough",
)  # fmt: skip
HERE = Path(__file__).parent
WORKER = 5 * 2**29  # bytes that a worker may come to hold


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """As many workers as there are cores, and as fit the memory that is free."""
    fit = psutil.virtual_memory().available // WORKER
    return max(1, min(os.cpu_count() or 1, fit))


def among(path: Path, names: tuple[str, ...]) -> bool:
    """Whether a test module is one of these, or lies in a folder that is."""
    return any(path.is_relative_to(HERE / name) for name in names)


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """With shapes checked, only the modules that are meant are imported."""
    module = collection_path.name.startswith("test_") and collection_path.suffix == ".py"
    return True if CHECKED and module and not among(collection_path, SHAPED) else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by where they stand, before any is chosen by its marks."""
    for item in items:
        for mark, names in (("shaped", SHAPED), ("slow", SLOW)):
            if among(item.path, names):
                item.add_marker(mark)


def pytest_collection_finish() -> None:
    """What was imported stays: no collection need look at its millions of objects again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True, scope="module")
def _leave_no_memory() -> Iterator[None]:
    """A worker runs dozens of modules; what one has compiled and loaded serves no other."""
    yield
    gc.collect()
    if "jax" in sys.modules:
        sys.modules["jax"].clear_caches()
    if sys.platform == "linux":  # what is free goes back to the system, not to this process alone
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)


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
