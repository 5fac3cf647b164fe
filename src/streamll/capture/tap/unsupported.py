"""Remembers which (engine, model) pairs refuse to stream, so that each is tried once.

The memory belongs to the engine or LM that asked: another LM (another address, another key) tries
again, and nothing outlives its owner.
"""

from __future__ import annotations

import threading
import weakref
from typing import Any


class StreamingUnsupported:
    """``what`` identifies a kind of request to its owner: the model, or the URL."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: weakref.WeakKeyDictionary[Any, set[str]] = weakref.WeakKeyDictionary()

    def remember(self, owner: Any, what: str) -> None:
        try:
            with self._lock:
                self._known.setdefault(owner, set()).add(what)
        except TypeError:
            return  # an owner without weak references is tried each time

    def knows(self, owner: Any, what: str) -> bool:
        if not self._known:
            return False
        try:
            with self._lock:
                return what in self._known.get(owner, ())
        except TypeError:
            return False
