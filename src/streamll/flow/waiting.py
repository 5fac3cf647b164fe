"""Someone who waits: a thread, or a task on an event loop. Woken once, from anywhere.

``wake`` never blocks. It returns False when nobody can be woken any more (the loop is closed),
so that the caller can wake somebody else. A waiter that stops waiting for another reason
(timeout, cancellation) sets ``gone``.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import Protocol


class Waiter(Protocol):
    """One wait of one reader or producer."""

    gone: bool

    def wake(self) -> bool: ...


class ThreadWaiter:
    """A thread blocked on a lock of its own, which ``wake`` releases."""

    __slots__ = ("_gate", "gone")

    def __init__(self) -> None:
        self._gate = threading.Lock()
        self._gate.acquire()
        self.gone = False

    def wait(self, timeout: float | None) -> bool:
        """True when woken, False when the time is up."""
        return self._gate.acquire(timeout=-1 if timeout is None else max(timeout, 0))

    def wake(self) -> bool:
        self._gate.release()
        return True


class LoopWaiter:
    """A task awaiting a future of its own, which ``wake`` resolves on the task's loop."""

    __slots__ = ("_thread", "gone", "loop", "woken")

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.woken: asyncio.Future[None] = self.loop.create_future()
        self._thread = threading.get_ident()
        self.gone = False

    def wake(self) -> bool:
        try:
            if threading.get_ident() == self._thread:
                self._resolve()  # on the loop's own thread: no need to interrupt its select
            else:
                self.loop.call_soon_threadsafe(self._resolve)
        except RuntimeError:  # the loop is closed
            return False
        return True

    def _resolve(self) -> None:
        if not self.woken.done():
            self.woken.set_result(None)


PATIENCE = 0.2
"""Seconds in which a loop that is alive comes round."""


class Pulse:
    """Whether an event loop turns: one that is blocked may be waiting for whoever asks.

    ``feel`` takes up to ``PATIENCE`` seconds. After that ``has_stopped`` knows at once, until the
    loop has come round again.
    """

    __slots__ = ("_beat", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._beat = threading.Event()
        self._beat.set()

    def feel(self) -> None:
        beat = threading.Event()
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self.loop.call_soon_threadsafe(beat.set)
        self._beat = beat
        beat.wait(PATIENCE)

    def has_stopped(self) -> bool:
        return not self._beat.is_set()


def on_event_loop() -> bool:
    """Whether this thread runs an event loop right now, and therefore must not wait."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
