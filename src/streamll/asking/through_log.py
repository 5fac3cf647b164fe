"""Answers that come through a run's log, for programs that no server runs.

An answer is an entry of the log outside any run, ``server.answer`` (docs/wire.md). While questions
are open in runs that a log gets, one thread of this process follows that log, from before the first
of them was written there. ``streamll serve`` follows its own log by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import os
import threading
import time
from collections.abc import Mapping
from concurrent import futures
from concurrent.futures import Future
from typing import Any, NamedTuple

from streamll.asking.here import asked_here
from streamll.asking.messages import ANSWER, hear
from streamll.core.errors import WireError, logger
from streamll.core.events import Event
from streamll.core.wire import decode_batch, encode
from streamll.flow.bridge import Background
from streamll.flow.timers import Timer, timers
from streamll.flow.waiting import LoopWaiter

READ_TIMEOUT_S = 30.0
"""How often a log without news is asked anew; what comes, comes at once."""

RETRY_S = 0.5
START_S = 5.0
"""How long a question waits until its log is followed. Of a log that is away longer, an answer may be
missed that comes in the moment when it is back."""

LINGER_S = 5.0
"""How long a log is followed behind the last question: an agent mostly has another."""


class Place(NamedTuple):
    """A log that answers may come through."""

    url: str
    target: str


class Listener(Background):
    """Follows one log on a thread of its own, as long as somebody needs it."""

    def __init__(self, place: Place) -> None:
        super().__init__("streamll answers", contextvars.Context())  # it is no part of a run
        self.ready: Future[None] = Future()
        """Done once nothing is missed that is written to the log."""
        self.users = 0
        self.ending: Timer | None = None
        self._place = place
        self.start_loop(self._follow)

    async def _follow(self) -> None:
        from streamll.brokers.opening import open_source
        from streamll.brokers.source import SourceOptions
        from streamll.core.urls import without_password

        options = SourceOptions(target=self._place.target, read_timeout=READ_TIMEOUT_S)
        source = open_source(self._place.url, options)
        failed = False
        try:
            while True:
                try:
                    await source.connect()
                    failed = False
                    if not self.ready.done():
                        self.ready.set_result(None)
                    while True:
                        for entry in await source.read():
                            if ANSWER.encode() in entry.body:
                                await self._hear(entry.body)
                except Exception as error:  # noqa: BLE001 - brokers fail in their own ways
                    if not failed:
                        where, failed = without_password(self._place.url), True
                        text = "cannot hear answers through %s (%s); it is tried again"
                        logger.warning(text, where, type(error).__name__)
                    await asyncio.sleep(RETRY_S)
        finally:
            await source.close()

    async def _hear(self, body: bytes) -> None:
        from streamll.brokers.copying import append
        from streamll.core.urls import without_password

        refusals: list[Event] = []
        with contextlib.suppress(WireError):
            for event in decode_batch(body):
                if event.run_id is None and event.event_type == ANSWER:
                    hear(event.data, refusals.append)
        for refusal in refusals:
            try:
                await append(self._place.url, self._place.target, encode(refusal))
            except Exception as error:  # noqa: BLE001 - who answered has the ``answer`` event, or nothing
                text = "cannot say through %s why an answer was not taken (%s)"
                where = without_password(self._place.url)
                logger.warning(text, where, type(error).__name__)


_listeners: dict[Place, Listener] = {}
_lock = threading.Lock()


class Listening:
    """That the logs are followed which these receivers write a run to, from ``begin`` to ``end``."""

    def __init__(self, receivers: tuple[Any, ...], run_id: str, context: Mapping[str, Any]) -> None:
        self._places = {
            Place(receiver.source_url, receiver.log_of(run_id, context))
            for receiver in receivers
            if getattr(receiver, "source_url", "") and not receiver.is_followed
        }
        self._ready: list[Future[None]] = []

    def begin(self) -> None:
        self._ready = [_take(place).ready for place in self._places]

    def wait(self) -> None:
        """Until nothing is missed that is written there; not for ever, if a log is away."""
        futures.wait(self._ready, START_S)

    async def wait_async(self) -> None:
        for ready in self._ready:
            if not ready.done():
                waiter = LoopWaiter()  # its loop may have ended by the time the log is there
                ready.add_done_callback(functools.partial(_wake, waiter))
                await asyncio.wait({waiter.woken}, timeout=START_S)

    def end(self) -> None:
        for place in self._places if self._ready else ():
            _release(place)
        self._ready = []


def _wake(waiter: LoopWaiter, _: object) -> None:
    waiter.wake()


def _take(place: Place) -> Listener:
    with _lock:
        listener = _listeners.get(place)
        if listener is None:
            listener = _listeners[place] = Listener(place)
        listener.users += 1
        if listener.ending is not None:
            listener.ending.cancel()
        return listener


def _release(place: Place) -> None:
    with _lock:
        listener = _listeners[place]
        listener.users -= 1
        if not listener.users:
            listener.ending = timers.at(time.monotonic() + LINGER_S, lambda: _end(place, listener))


def _end(place: Place, listener: Listener) -> None:
    with _lock:
        if not listener.users and _listeners.get(place) is listener:
            del _listeners[place]
            listener.cancel()


def _forget() -> None:
    """After a fork: the threads that follow logs are the parent's, and so are its questions."""
    global _lock  # noqa: PLW0603
    _lock = threading.Lock()
    _listeners.clear()
    asked_here.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
