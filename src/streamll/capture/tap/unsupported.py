"""Remembers which requests an engine or LM refuses to stream, so that each is tried once.

``what`` identifies a kind of request to its owner: the model, or the URL. The memory belongs to the
owner: another LM (another address, another key) tries again, and nothing outlives its owner. One
without weak references is tried each time.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from typing import Any

_lock = threading.Lock()
_known: weakref.WeakKeyDictionary[Any, set[str]] = weakref.WeakKeyDictionary()


def remember(owner: Any, what: str) -> None:
    with contextlib.suppress(TypeError), _lock:
        _known.setdefault(owner, set()).add(what)


def knows(owner: Any, what: str) -> bool:
    if _known:
        with contextlib.suppress(TypeError), _lock:
            return what in _known.get(owner, ())
    return False
