"""One pass at a time on a weight: it is frozen meanwhile, and thawed to be judged."""

from __future__ import annotations

import threading
from collections.abc import Generator, MutableMapping
from contextlib import ExitStack, contextmanager

from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

_LOCKS: MutableMapping[Tensor, threading.RLock] = WeakIdKeyDictionary()
_GUARD = threading.Lock()


@contextmanager
def exclusive(model: nn.Module) -> Generator[None]:
    """Hold all weights of a model for this thread; wrappers and parts of it wait.

    Everyone takes the locks in the same order, so that nobody waits for ever.
    """
    with ExitStack() as stack:
        for weight in sorted(model.parameters(), key=id):
            stack.enter_context(_lock(weight))
        yield


def _lock(weight: Tensor) -> threading.RLock:
    with _GUARD:
        if weight not in _LOCKS:
            _LOCKS[weight] = threading.RLock()
        return _LOCKS[weight]
