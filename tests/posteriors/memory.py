"""A store of chains for tests: it keeps them in memory, and fails when it is told to."""

from __future__ import annotations

import numpy as np


class Memory(dict):
    """Keeps states as a store does, and fails on demand."""

    def __init__(self, fails_after: int | None = None) -> None:
        super().__init__()
        self.left = fails_after

    def save(self, key, arrays):
        if self.left == 0:
            raise KeyboardInterrupt
        self.left = None if self.left is None else self.left - 1
        self[key] = {name: np.copy(array) for name, array in arrays.items()}

    def load(self, key):
        return self.get(key)
