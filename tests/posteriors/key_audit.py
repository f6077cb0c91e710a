"""Which random numbers a sampler uses: none may be used twice.

`jax.random`'s functions are replaced by ones that report every key, by a callback from the compiled
code, so that what is seen is what runs. A key k stands for a sequence of numbers, its *words*
(k, 0), (k, 1), …: a draw of n numbers takes the first n of them, and the child i of a fold or of a
split is made of word i. So `fold_in(k, 1)` and `split(k)[1]` are one key, and a scalar drawn from k
is made of the bits of its child 0.
"""

from __future__ import annotations

import math
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np

DRAWS = ("normal", "uniform", "bernoulli", "exponential", "bits", "randint", "permutation")
WATCHED = ("split", "fold_in", *DRAWS)


class Uses:
    """The keys that were used, and how."""

    def __init__(self) -> None:
        self.drawn: Counter[bytes] = Counter()
        self.numbers: dict[bytes, int] = defaultdict(int)
        self.used: set[bytes] = set()
        self.children: dict[bytes, set[tuple[int, bytes]]] = defaultdict(set)

    def draw(self, key: Any, count: int) -> None:
        """Some numbers were drawn from a key."""
        name = np.asarray(key).tobytes()
        self.used.add(name)
        self.drawn[name] += 1
        self.numbers[name] = max(count, self.numbers[name])

    def descend(self, key: Any, index: Any, children: Any) -> None:
        """A key was folded with a number, or split."""
        name = np.asarray(key).tobytes()
        self.used.add(name)
        numbers = np.atleast_1d(np.asarray(index))
        rows = np.asarray(children).reshape(len(numbers), -1)
        pairs = zip(numbers, rows, strict=True)
        self.children[name] |= {(int(i), row.tobytes()) for i, row in pairs}

    @property
    def twice(self) -> list[str]:
        """Why a number was used twice, for every key of which one was."""
        found = [f"{n} draws from one key" for n in self.drawn.values() if n > 1]
        for name, count in self.numbers.items():
            taken = [i for i, child in self.children[name] if i < count and child in self.used]
            found += [f"child {i} of a key from which {count} are drawn" for i in taken]
        return found


@contextmanager
def watched() -> Iterator[Uses]:
    """Report every use of a key by what is compiled and run inside."""
    uses, replaced = Uses(), []
    functions = {getattr(jax.random, name): name for name in WATCHED}
    for module in list(sys.modules.values()):
        name = getattr(module, "__name__", "")
        if module is not jax.random and name.split(".")[0] not in ("blackjax", "gnuq"):
            continue
        for bound, value in list(vars(module).items()):
            if callable(value) and getattr(value, "__hash__", None) and value in functions:
                replaced.append((module, bound, value))
    try:
        for module, bound, value in replaced:
            setattr(module, bound, _reporting(value, functions[value], uses))
        yield uses
        jax.effects_barrier()
    finally:
        for module, bound, value in replaced:
            setattr(module, bound, value)


def _reporting(function: Callable, name: str, uses: Uses) -> Callable:
    def reporting(key: Any, *arguments: Any, **named: Any) -> Any:
        found, data = function(key, *arguments, **named), jax.random.key_data(key)
        if name in DRAWS:
            count = math.prod(np.shape(found))
            jax.debug.callback(lambda seen: uses.draw(seen, count), data)
        else:
            children = jax.random.key_data(found)
            index = np.arange(np.shape(found)[0]) if name == "split" else arguments[0]
            jax.debug.callback(uses.descend, data, index, children)
        return found

    return reporting
