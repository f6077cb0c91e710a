"""What cannot be scored; each message names the remedy."""

from __future__ import annotations


class ScoreError(ValueError):
    """What cannot be scored, and what to do about it."""


class ExampleError(ScoreError):
    """A prompt or an answer that cannot be scored.

    Attributes:
        reason: what is wrong with it.
    """

    def __init__(self, reason: str, example: int | None = None) -> None:
        where = "" if example is None else f"example {example}: "
        super().__init__(f"{where}{reason}.")
        self.reason = reason


class FileError(ScoreError):
    """An input or output file that cannot be used."""


class CalibrationError(ScoreError):
    """Scores and labels that cannot be fitted, or a calibration of another model."""
