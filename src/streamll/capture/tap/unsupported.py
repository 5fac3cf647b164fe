"""Which servers do not take which models' requests as streams: asked once, remembered.

The memory hangs on the engine or LM that asked, so another LM (another address, another key)
asks again, and nothing outlives its owner.
"""

from __future__ import annotations

import threading
import weakref
from typing import Any


class StreamingUnsupported:
    """``what`` names a request's kind to its owner: the model, or where it is sent."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: weakref.WeakKeyDictionary[Any, set[str]] = weakref.WeakKeyDictionary()

    def remember(self, owner: Any, what: str) -> None:
        try:
            with self._lock:
                self._known.setdefault(owner, set()).add(what)
        except TypeError:
            return  # an owner that cannot be remembered asks again each time

    def knows(self, owner: Any, what: str) -> bool:
        if not self._known:
            return False
        try:
            with self._lock:
                return what in self._known.get(owner, ())
        except TypeError:
            return False
