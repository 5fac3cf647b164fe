"""Ending a read that waits for a silent provider, from any thread, within milliseconds.

Closing a socket from another thread does not wake a thread that reads it; shutting it down
does. So whoever opens a connection for an LM call must say which one it is. Neither lm15 nor
httpcore (under LiteLLM) has a place to hear that, so a few of their methods are wrapped. The
wrappers look at one context variable: outside a captured call they do nothing.

A connection goes back to a pool when a call is over and may serve another call at once. Its
``_Line`` is cut before that, under a lock: a late interruption ends nobody else's read.

What a shutdown causes looks like a network error; the tap asks its listener whether it was
the run that was cancelled (``listener.check``). Out of reach: connecting, the wait for a free
connection (that one is announced), DSPy's sleep before a retry.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import threading
import weakref
from collections.abc import Callable
from contextvars import ContextVar, Token
from typing import Any

from streamll.capture.tap.listener import Guarded


class _Line:
    """The way to end one connection's blocked read, until it is cut."""

    def __init__(self, end: Callable[[], None]) -> None:
        self._lock = threading.Lock()
        self._end: Callable[[], None] | None = end

    def end(self) -> None:
        with self._lock:
            if self._end is not None:
                self._end()

    def cut(self) -> None:
        with self._lock:
            self._end = None


class _Call:
    """The captured call of this context and the connection it uses at the moment."""

    def __init__(self, listener: Guarded) -> None:
        self.listener = listener
        self.line: _Line | None = None

    def connected(self, end: Callable[[], None]) -> _Line:
        """Tell the listener; raise at once if it had been cancelled before there was a line."""
        self.cut()
        line = self.line = _Line(end)
        self.listener.connected(line.end)
        self.listener.check()
        return line

    def cut(self) -> None:
        if self.line is not None:
            self.line.cut()
            self.line = None
            self.listener.disconnected()


_current: ContextVar[_Call | None] = ContextVar("streamll_interruptible_call", default=None)


def in_captured_call() -> bool:
    """Whether this is inside a call that can be ended from outside."""
    return _current.get() is not None


class Interruptible:
    """``with`` it: connections opened inside belong to the listener. May be entered again."""

    def __init__(self, listener: Guarded) -> None:
        self._call = _Call(listener)
        self._token: Token[_Call | None] | None = None

    def __enter__(self) -> None:
        self._token = _current.set(self._call)

    def __exit__(self, *_: object) -> None:
        if self._token is not None:
            with contextlib.suppress(ValueError):  # a generator closed from another context
                _current.reset(self._token)

    def over(self) -> None:
        """The call needs its connection no more."""
        self._call.cut()


# --- lm15 -----------------------------------------------------------------------------------


def lm15_send_request(original: Callable[..., Any]) -> Callable[..., Any]:
    """``_send_request(transport, connection, …)`` of lm15's transports, sync and async."""

    def send_request(transport: Any, connection: Any, *args: Any, **kwargs: Any) -> Any:
        call = _current.get()
        if call is not None:
            call.connected(_ending(connection))
        return original(transport, connection, *args, **kwargs)

    return send_request


def lm15_make_release(original: Callable[..., Any]) -> Callable[..., Any]:
    """``_make_release(…)`` gives the callable that puts a connection back; cut the line first."""

    def make_release(transport: Any, *args: Any, **kwargs: Any) -> Any:
        release = original(transport, *args, **kwargs)
        call = _current.get()
        line = call.line if call is not None else None
        if line is None:
            return release

        def cut_and_release(body_consumed: bool) -> Any:
            line.cut()
            return release(body_consumed)

        return cut_and_release

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


def _ending(connection: Any) -> Callable[[], None]:
    """What ends a read on one of lm15's connections: a socket's, or an asyncio transport's."""
    writer = getattr(connection, "writer", None)
    if writer is None:
        return functools.partial(_shut_down, connection.sock)
    loop = asyncio.get_running_loop()

    def abort() -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed, and so is the connection
            loop.call_soon_threadsafe(writer.transport.abort)

    return abort


def _shut_down(connection: socket.socket) -> None:
    # Not connection.shutdown: an SSLSocket's forgets its TLS state, under the reader's feet.
    with contextlib.suppress(OSError):
        socket.socket.shutdown(connection, socket.SHUT_RDWR)


# --- httpcore ---------------------------------------------------------------------------------

_lines: weakref.WeakKeyDictionary[Any, _Line] = weakref.WeakKeyDictionary()


def httpcore_handle_request(original: Callable[..., Any]) -> Callable[..., Any]:
    """``HTTP11Connection.handle_request(connection, request)``."""

    def handle_request(connection: Any, *args: Any, **kwargs: Any) -> Any:
        call = _current.get()
        if call is not None:
            found = connection._network_stream.get_extra_info("socket")  # noqa: SLF001
            if isinstance(found, socket.socket):
                _lines[connection] = call.connected(functools.partial(_shut_down, found))
        return original(connection, *args, **kwargs)

    return handle_request


def httpcore_response_closed(original: Callable[..., Any]) -> Callable[..., Any]:
    """``HTTP11Connection._response_closed(connection)``: from here on it may serve another."""

    def response_closed(connection: Any, *args: Any, **kwargs: Any) -> Any:
        line = _lines.pop(connection, None)
        if line is not None:
            line.cut()
        return original(connection, *args, **kwargs)

    return response_closed
