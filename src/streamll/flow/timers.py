"""Timers: calls at a later time, all on one thread of the process.

The thread starts with the first timer and ends a while after the last. Callbacks run on it, one
after the other, so they must be short and may not block; what they raise is logged.
"""

from __future__ import annotations

import heapq
import itertools
import os
import threading
import time
from collections.abc import Callable

from streamll.core.errors import logger

IDLE_TIMEOUT_S = 1.0
"""How long the thread stays without a timer."""

MAX_WAIT_S = 86400.0
"""A thread cannot wait for any number of seconds."""


class Timer:
    """A call to come. ``cancel`` drops it, unless it is being made already."""

    __slots__ = ("_callback",)

    def __init__(self, callback: Callable[[], None]) -> None:
        self._callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self._callback = None

    def fire(self) -> None:
        callback, self._callback = self._callback, None
        if callback is not None:
            try:
                callback()
            except Exception:
                logger.exception("a timer's callback raised")


class Timers:
    """A heap of timers and the thread that fires them."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._heap: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._thread: threading.Thread | None = None

    def at(self, when: float, callback: Callable[[], None]) -> Timer:
        """Call ``callback`` at ``when`` (``time.monotonic()``)."""
        timer = Timer(callback)
        with self._changed:
            heapq.heappush(self._heap, (when, next(self._order), timer))
            self._changed.notify()
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(
                    target=self._run, name="streamll timers", daemon=True
                )
                self._thread.start()
        return timer

    def _run(self) -> None:
        while (timer := self._next_due()) is not None:
            timer.fire()

    def _next_due(self) -> Timer | None:
        """Wait until a timer is due; None, which ends the thread, when there is none to wait for."""
        with self._changed:
            while True:
                remaining = self._heap[0][0] - time.monotonic() if self._heap else IDLE_TIMEOUT_S
                if remaining <= 0:
                    return heapq.heappop(self._heap)[2]
                if not self._changed.wait(min(remaining, MAX_WAIT_S)) and not self._heap:
                    self._thread = None
                    return None


timers = Timers()

if hasattr(os, "register_at_fork"):  # the thread and the lock stay in the parent
    os.register_at_fork(after_in_child=timers.__init__)  # type: ignore[misc]
