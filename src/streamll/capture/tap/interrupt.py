"""Ends a read that waits for a silent provider, from any thread, within milliseconds.

Closing a socket from another thread does not wake a thread that reads it; shutting it down does.
So the connection that an LM call reads from must be known: neither lm15 nor httpcore (under LiteLLM)
reports it, so a few of their methods are wrapped (``hooks/places.py`` lists them). Outside a captured
call the wrappers do nothing.

When a call is over its connection returns to a pool and may serve another call at once. Before
that its ``ReadInterrupt`` is disarmed, under a lock, so a late interruption ends no other read.

A shutdown looks like a network error; the tap asks its listener whether the run was cancelled.
Out of reach are connecting, the wait for a free connection, and DSPy's sleep before a retry.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import threading
import time
import weakref
from collections.abc import Awaitable, Callable
from contextvars import ContextVar, Token
from typing import Any, Protocol, TypeVar

from streamll.capture.tap.listener import Guarded
from streamll.flow.timers import Timer, timers

T = TypeVar("T")


class ReadInterrupt:
    """Ends one connection's blocked read when called, until it is disarmed."""

    def __init__(self, end: Callable[[], None]) -> None:
        self._lock = threading.Lock()
        self._end: Callable[[], None] | None = end

    def __call__(self) -> None:
        with self._lock:
            if self._end is not None:
                self._end()

    def disarm(self) -> None:
        with self._lock:
            self._end = None


class InterruptScope:
    """``with`` it: connections opened inside belong to the listener's call. May be re-entered."""

    def __init__(self, listener: Guarded) -> None:
        self.listener = listener
        self.interrupt: ReadInterrupt | None = None
        self._token: Token[InterruptScope | None] | None = None

    def __enter__(self) -> None:
        self._token = _current.set(self)

    def __exit__(self, *_: object) -> None:
        if self._token is not None:
            with contextlib.suppress(ValueError):  # a generator closed from another context
                _current.reset(self._token)

    def connected(self, end: Callable[[], None]) -> ReadInterrupt:
        """Report the connection; raises at once if the call was cancelled before there was one."""
        self.disconnected()
        self.interrupt = ReadInterrupt(end)
        self.listener.connected(self.interrupt)
        self.listener.check()
        return self.interrupt

    def disconnected(self) -> None:
        """The call no longer needs its connection."""
        if self.interrupt is not None:
            self.interrupt.disarm()
            self.interrupt = None
            self.listener.disconnected()


_current: ContextVar[InterruptScope | None] = ContextVar("streamll_interrupt_scope", default=None)


class Silenced(Protocol):
    """Who is told that a read was ended."""

    def give_up(self) -> None: ...


class Grace:
    """``with`` it, around reading in a thread: ends the read a while after ``set``.

    For a reply that may be over, on a line that stays open. The connection is lost by it, which is no
    error: ``reader`` is told.
    """

    def __init__(self, reader: Silenced) -> None:
        self._seconds: float | None = None
        self._reader = reader
        self._expired = False
        self._timer: Timer | None = None

    def set(self, seconds: float | None, *, again: bool = False) -> None:
        """From now on ``seconds``; ``None`` for no limit.

        Where that is as before, the time goes on, unless it begins ``again``.
        """
        if seconds == self._seconds and not (again and seconds):
            return
        self._cancel()
        self._seconds = seconds
        scope = _current.get()
        interrupt = scope.interrupt if scope is not None else None
        if seconds is not None and interrupt is not None:
            end = functools.partial(self._end, interrupt)
            self._timer = timers.at(time.monotonic() + seconds, end)

    def _end(self, interrupt: ReadInterrupt) -> None:
        self._expired = True
        interrupt()

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def __enter__(self) -> Grace:  # noqa: PYI034 - Self needs Python 3.11
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        self._cancel()
        if self._expired:
            self._reader.give_up()
        return self._expired and isinstance(error, Exception)


async def within(awaitable: Awaitable[T], until: float | None) -> T:
    """The result of ``awaitable``, which is cancelled at ``until``: ``asyncio.TimeoutError``.

    ``until`` is in the time of ``time.monotonic()``; ``None`` for no limit.
    """
    seconds = None if until is None else until - time.monotonic()
    time_limit: Any = getattr(asyncio, "timeout", None)  # Python 3.11
    if time_limit is None:
        return await asyncio.wait_for(awaitable, seconds)
    async with time_limit(seconds):
        return await awaitable


# --- lm15 -----------------------------------------------------------------------------------


def lm15_send_request(original: Callable[..., Any]) -> Callable[..., Any]:
    """``_send_request(transport, connection, …)`` of lm15's transports, sync and async."""

    def send_request(transport: Any, connection: Any, *args: Any, **kwargs: Any) -> Any:
        call = _current.get()
        if call is not None:
            call.connected(_read_end(connection))
        return original(transport, connection, *args, **kwargs)

    return send_request


def lm15_make_release(original: Callable[..., Any]) -> Callable[..., Any]:
    """``_make_release(…)`` returns what puts a connection back into its pool; disarm before."""

    def make_release(transport: Any, *args: Any, **kwargs: Any) -> Any:
        release = original(transport, *args, **kwargs)
        call = _current.get()
        interrupt = call.interrupt if call is not None else None
        if interrupt is None:
            return release

        def disarm_and_release(body_consumed: bool) -> Any:
            interrupt.disarm()
            return release(body_consumed)

        return disarm_and_release

    return make_release


def lm15_acquire_slot(original: Callable[..., Any]) -> Callable[..., Any]:
    """``acquire_slot(pool, …)`` waits while all connections are busy: announce that."""

    def acquire_slot(pool: Any, *args: Any, **kwargs: Any) -> Any:
        call = _current.get()
        if call is not None and _exhausted(pool):
            call.listener.waiting("connection")
        return original(pool, *args, **kwargs)

    return acquire_slot


def _exhausted(pool: Any) -> bool:
    slots = getattr(pool, "_slot", None)
    if isinstance(slots, asyncio.Semaphore):
        return slots.locked()
    if isinstance(slots, threading.Semaphore):
        if not slots.acquire(blocking=False):
            return True
        slots.release()
    return False


def _read_end(connection: Any) -> Callable[[], None]:
    """A function that ends a read on one of lm15's connections: a socket, or an asyncio transport."""
    writer = getattr(connection, "writer", None)
    if writer is None:
        return functools.partial(_shut_down, connection.sock)
    loop = asyncio.get_running_loop()

    def abort() -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed, and so is the connection
            loop.call_soon_threadsafe(writer.transport.abort)

    return abort


def _shut_down(connection: socket.socket) -> None:
    # Not connection.shutdown: an SSLSocket's drops its TLS state, which the reader still uses.
    with contextlib.suppress(OSError):
        socket.socket.shutdown(connection, socket.SHUT_RDWR)


def lm15_wait_for(original: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """``wait_for(awaitable, timeout, *, cancel_result=None)`` of lm15's async transport.

    It runs each read in a task of its own, waits for that task, and is woken twice per packet: with
    one token per packet that is the largest cost of a streamed call (`bench/README.md`). Python
    3.11's ``asyncio.timeout`` gives the same guarantees (a cancelled caller stays cancelled, the
    read has ended when the error is raised) with one timer.
    """
    time_limit: Any = getattr(asyncio, "timeout", None)  # Python 3.11
    if time_limit is None:
        return original

    def wait_for(awaitable: Awaitable[Any], timeout: float | None, **more: Any) -> Awaitable[Any]:
        # With ``cancel_result`` a connection is waited for: once per call, with cleanup.
        if more or timeout is None or _current.get() is None:
            return original(awaitable, timeout, **more)
        return within(awaitable, time.monotonic() + timeout)

    return wait_for


# --- httpcore ---------------------------------------------------------------------------------

_interrupts: weakref.WeakKeyDictionary[Any, ReadInterrupt] = weakref.WeakKeyDictionary()


def httpcore_handle_request(original: Callable[..., Any]) -> Callable[..., Any]:
    """``HTTP11Connection.handle_request(connection, request)``."""

    def handle_request(connection: Any, *args: Any, **kwargs: Any) -> Any:
        call = _current.get()
        if call is not None:
            found = connection._network_stream.get_extra_info("socket")  # noqa: SLF001
            if isinstance(found, socket.socket):
                _interrupts[connection] = call.connected(functools.partial(_shut_down, found))
        return original(connection, *args, **kwargs)

    return handle_request


def httpcore_response_closed(original: Callable[..., Any]) -> Callable[..., Any]:
    """``HTTP11Connection._response_closed(connection)``: from here on it may serve another."""

    def response_closed(connection: Any, *args: Any, **kwargs: Any) -> Any:
        interrupt = _interrupts.pop(connection, None)
        if interrupt is not None:
            interrupt.disarm()
        return original(connection, *args, **kwargs)

    return response_closed
