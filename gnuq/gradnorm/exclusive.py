"""One pass at a time on a model: it freezes the weights, and judging it thaws them."""

from __future__ import annotations

import threading
from collections.abc import MutableMapping

from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

_LOCKS: MutableMapping[Tensor, threading.RLock] = WeakIdKeyDictionary()
_GUARD = threading.Lock()


def lock_of(model: nn.Module) -> threading.RLock:
    """The lock of a model: of its first weight, which its wrappers share."""
    first = next(model.parameters(), None)
    if first is None:
        return threading.RLock()
    with _GUARD:
        if first not in _LOCKS:
            _LOCKS[first] = threading.RLock()
        return _LOCKS[first]
