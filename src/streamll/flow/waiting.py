"""Waiters: a thread, or a task on an event loop, that any thread can wake once.

``wake`` never blocks. It returns False when the waiter cannot be woken any more (its loop is
closed), so that the caller can wake another. A waiter that stops waiting for another reason
(timeout, cancellation) sets ``gone`` and is passed to ``leave``.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any


class Waiter(ABC):
    """One wait of one reader or producer."""

    __slots__ = ("gone",)
    gone: bool

    @abstractmethod
    def wake(self) -> bool: ...


Leave = Callable[[Waiter], object]


class ThreadWaiter(Waiter):
    """A thread blocked on a lock of its own, which ``wake`` releases."""

    __slots__ = ("_gate",)

    def __init__(self) -> None:
        self._gate = threading.Lock()
        self._gate.acquire()
        self.gone = False

    def wait(self, timeout: float | None, leave: Leave = lambda _: None) -> bool:
        """True when woken, False after ``timeout`` seconds."""
        woken = False
        try:
            woken = self._gate.acquire(timeout=-1 if timeout is None else max(timeout, 0))
        finally:
            if not woken:
                self.gone = True
                leave(self)
        return woken

    def wake(self) -> bool:
        self._gate.release()
        return True


class LoopWaiter(Waiter):
    """A task awaiting a future of its own, which ``wake`` resolves on the task's loop."""

    __slots__ = ("_thread", "loop", "woken")

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.woken: asyncio.Future[None] = self.loop.create_future()
        self._thread = threading.get_ident()
        self.gone = False

    async def wait(self, leave: Leave) -> None:
        try:
            await self.woken
        except BaseException:
            self.gone = True
            leave(self)
            raise

    def wake(self) -> bool:
        try:
            if threading.get_ident() == self._thread:
                if not self.woken.done():  # on the loop's own thread: its select is not waiting
                    self.woken.set_result(None)
            else:
                self.loop.call_soon_threadsafe(self._resolve)
        except RuntimeError:  # the loop is closed
            return False
        return True

    def _resolve(self) -> None:
        if not self.woken.done():
            self.woken.set_result(None)


LOOP_CHECK_S = 0.2
"""A loop that has not run a callback after this long counts as blocked."""


class Pulse:
    """Whether an event loop is running callbacks: a blocked one may be waiting for the very thread
    that asks.

    ``check`` takes up to ``LOOP_CHECK_S`` seconds. After that ``is_blocked`` is known at once, until
    the loop has run a callback again.
    """

    __slots__ = ("_beat", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._beat = threading.Event()
        self._beat.set()

    def check(self) -> None:
        beat = threading.Event()
        try:
            self.loop.call_soon_threadsafe(beat.set)
            running = self.loop.is_running()
        except RuntimeError:  # the loop is closed
            running = False
        if not running:  # nobody waits in it; another loop may go on reading
            beat.set()
        self._beat = beat
        beat.wait(LOOP_CHECK_S)

    def is_blocked(self) -> bool:
        return not self._beat.is_set()


def running_loop() -> asyncio.AbstractEventLoop | None:
    """The event loop that this thread is running right now."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def on_event_loop() -> bool:
    """Whether this thread is running an event loop right now, and so must not block."""
    return running_loop() is not None


def is_async_function(function: Callable[..., Any]) -> bool:
    """Whether it is a coroutine function, or an object whose call is one."""
    while isinstance(function, functools.partial):
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(type(function), "__call__", None)  # noqa: B004 - its function is wanted
    )
