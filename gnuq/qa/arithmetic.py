"""Small sums: questions whose answers are judged without a judge, for calibration."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

WORDS = {"+": "plus", "-": "minus", "*": "times"}
LARGEST = 12


@dataclass(frozen=True)
class Sum:
    """One question: a + b, a − b (never below nought) or a · b, of numbers up to 12."""

    a: int
    operation: str
    b: int

    @property
    def question(self) -> str:
        """In words."""
        return f"What is {self.a} {WORDS[self.operation]} {self.b}?"

    @property
    def result(self) -> int:
        """The right answer."""
        made = {"+": self.a + self.b, "-": self.a - self.b, "*": self.a * self.b}
        return made[self.operation]

    def correct(self, answer: str) -> bool:
        """Whether the last number in an answer is the result."""
        numbers = re.findall(r"-?\d+", answer.replace(",", ""))
        return bool(numbers) and int(numbers[-1]) == self.result


def draw(number: int) -> Sum:
    """The question of that number: operations in turn, both numbers drawn at random."""
    a, b = np.random.default_rng(number).integers(1, LARGEST + 1, size=2).tolist()
    operation = list(WORDS)[number % len(WORDS)]
    return Sum(max(a, b), operation, min(a, b)) if operation == "-" else Sum(a, operation, b)
