"""Where shards of a step are computed: in this process, or on a Ray cluster.

A shard is a pure function of the run, its questions and the tables before it, random numbers
included, so that who computes it, when, and how often it was tried does not show in the result.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import pandas as pd

from gnuq.qa.settings import Run
from gnuq.qa.steps import STEPS, Tables

#: By key, the ids of a shard's questions.
Shards = Mapping[str, Sequence[str]]
#: How often Ray tries a shard again whose worker died.
RETRIES = 5
#: Settings of the environment that workers elsewhere need too.
PASSED = ("GNUQ_DATA", "GNUQ_MODELS", "GNUQ_CACHE", "HF_HUB_OFFLINE", "OMP_NUM_THREADS")


class Workers(Protocol):
    """What computes the shards of a step."""

    def __call__(
        self, run: Run, step: str, shards: Shards, tables: Tables
    ) -> Iterator[tuple[str, pd.DataFrame]]:
        """Keys and rows, in the order in which they are finished."""
        ...


class WorkersError(RuntimeError):
    """No workers can be had; the message says why."""


def here(run: Run, step: str, shards: Shards, tables: Tables) -> Iterator[tuple[str, pd.DataFrame]]:
    """One shard after the other, in this process."""
    for key, ids in shards.items():
        yield key, STEPS[step].rows(run, ids, tables)


@contextmanager
def on_ray(address: str, *, cpus: float = 1, gpus: float = 0) -> Iterator[Workers]:
    """Workers of a Ray cluster, while the block lasts.

    The cluster's machines need this package, and the data and models where this one has them. A
    worker loads a model once and keeps it; a shard whose worker dies is computed again.

    Args:
        address: of the cluster: `auto`, `ray://HOST:10001`, or `local` to start one here.
        cpus: cores that one shard takes; the number of workers follows.
        gpus: accelerators, or a share of one, that one shard takes.

    Raises:
        WorkersError: Ray is not installed, or the cluster does not answer.
    """
    try:
        import ray
    except ImportError as error:
        raise WorkersError("--ray: Ray is not installed; run: pip install 'gnuq[ray]'") from error
    passed = {name: os.environ[name] for name in PASSED if name in os.environ}
    try:
        ray.init(address=address, runtime_env={"env_vars": passed}, log_to_driver=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise WorkersError(
            f"--ray: no cluster answers at {address!r} ({error}); start one with 'ray start "
            "--head', or say local."
        ) from error
    shard = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=RETRIES)(_shard)
    try:
        yield _Cluster(ray, shard)
    finally:
        ray.shutdown()


class _Cluster:
    """Shards as Ray's tasks.

    Args:
        ray: the module, connected.
        shard: the remote function.
    """

    def __init__(self, ray: Any, shard: Any) -> None:
        self.ray, self.shard = ray, shard

    def __call__(
        self, run: Run, step: str, shards: Shards, tables: Tables
    ) -> Iterator[tuple[str, pd.DataFrame]]:
        there = self.ray.put(dict(tables))
        waiting = {
            self.shard.remote(run, step, list(ids), there): key for key, ids in shards.items()
        }
        while waiting:
            done, _ = self.ray.wait(list(waiting), num_returns=1)
            yield waiting.pop(done[0]), self._result(done[0])

    def _result(self, reference: Any) -> pd.DataFrame:
        try:
            found: pd.DataFrame = self.ray.get(reference)
        except self.ray.exceptions.RayTaskError as error:
            raise error.cause from error
        except self.ray.exceptions.WorkerCrashedError as error:
            raise WorkersError(
                f"--ray: a shard's worker died {RETRIES + 1} times, for want of memory perhaps; "
                "give each shard more cores, which leaves fewer at once. What was finished is kept."
            ) from error
        return found


def _shard(run: Run, step: str, ids: list[str], tables: Tables) -> pd.DataFrame:
    return STEPS[step].rows(run, ids, tables)
