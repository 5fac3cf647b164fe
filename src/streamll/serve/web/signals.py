"""Hearing of SIGTERM and SIGINT before the server does.

A server tells its application that it stops when all readers have left, which they do when they
are told. uvicorn, granian and hypercorn all leave Python's signal handlers in place that can be
called from another one: directly, or because the event loop hears of signals by itself.
"""

from __future__ import annotations

import functools
import signal
import threading
from collections.abc import Callable
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT)
Handler = Callable[[int, Any], Any]


class StopSignals:
    """Calls ``hear(number)`` at each of ``SIGNALS``, then, if it says so, what was called before."""

    def __init__(self, hear: Callable[[int], bool]) -> None:
        self._hear = hear
        self._handlers: dict[int, tuple[Handler, Handler]] = {}
        """Ours, and the one before it."""

    def install(self) -> None:
        """Begin, also where another handler has taken the place. Only the main thread can.

        A signal without a handler in Python ends the process, as before.
        """
        if threading.current_thread() is not threading.main_thread():
            return
        for number in SIGNALS:
            before = signal.getsignal(number)
            if callable(before) and before is not self._handlers.get(number, (None,))[0]:
                handler = functools.partial(self._on_signal, before)
                self._handlers[number] = handler, before
                signal.signal(number, handler)

    def remove(self) -> None:
        for number, (handler, before) in self._handlers.items():
            if signal.getsignal(number) is handler:
                signal.signal(number, before)

    def _on_signal(self, before: Handler, number: int, frame: Any) -> None:
        if self._hear(number):
            before(number, frame)
