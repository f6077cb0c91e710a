"""Several controls change together, and what they choose is shown once."""

from __future__ import annotations


class Settling:
    """Inside a `with` block on it, controls are being set: who observes them waits until its end.

    Attributes:
        active: whether such a block is open.
    """

    def __init__(self) -> None:
        self.active = False

    def __enter__(self) -> None:
        self.active = True

    def __exit__(self, *error: object) -> None:
        self.active = False
