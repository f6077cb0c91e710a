"""The error stream of the command line: progress, and warnings in one line."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any


@contextmanager
def warnings_in_one_line() -> Generator[None]:
    """Warnings on the error stream, without the lines of code that raised them."""

    def show(message: Warning | str, *where: Any, **more: Any) -> None:
        print(f"python -m gnuq score: {message}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.showwarning = show  # type: ignore[assignment]
        yield


class bar:  # noqa: N801
    """A progress bar on the error stream, which is no part of the output."""

    def __enter__(self) -> Callable[[int, int], None]:
        from tqdm import tqdm

        self.bar = tqdm(unit="answer", file=sys.stderr, disable=None)
        return self._update

    def _update(self, done: int, of: int) -> None:
        self.bar.total = of
        self.bar.update(done - self.bar.n)

    def __exit__(self, *error: object) -> None:
        self.bar.close()
