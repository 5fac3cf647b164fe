"""One LM call under a stream's ``StreamConfig``: what has been heard of it, and when.

``SupervisedCall`` stands between the tap and the call's own listener. It measures the silences,
hides the seam where a cut reply is continued, and lets no library beneath make attempts of its
own. Whether there is another attempt is decided in ``attempts``.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from streamll.capture.deltas import Delta, ProviderChunk
from streamll.capture.policy import continuing
from streamll.capture.policy.providers import breaker_of
from streamll.capture.policy.silence import IdleTimer, grace
from streamll.capture.tap.wire.base import UnknownShape
from streamll.core.errors import StreamTimeout, Unwind
from streamll.flow.breaker import CircuitBreaker
from streamll.flow.config import StreamConfig
from streamll.flow.timers import timers


class CallPolicy:
    """One stream's config, for all LM calls inside. ``expire`` ends the stream from outside."""

    def __init__(self, config: StreamConfig, expire: Callable[[StreamTimeout], None]) -> None:
        self.config = config
        self.expire = expire

    def call(self, listener: Any, lm: Any, options: Any) -> SupervisedCall:
        shared = self.config.breaker is True
        breaker = breaker_of(lm, options) if shared else self.config.breaker
        return SupervisedCall(self, listener, breaker if breaker is not True else None)


class SupervisedCall:
    """The tap's listener of one LM call, in front of the call's own (``LMCall``)."""

    def __init__(self, governor: CallPolicy, listener: Any, breaker: CircuitBreaker | None) -> None:
        self.config = governor.config
        self.breaker = breaker
        self.listener = listener
        self._governor = governor
        self._watch = IdleTimer(governor.config, self._time_is_up)
        self._shut_down: Callable[[], None] | None = None  # ends a blocked read
        self._cancel: Callable[[], None] | None = None  # ends an attempt on an event loop
        self._lock = threading.Lock()
        self.start()

    def start(self) -> None:
        """A new candidate: nothing has been said."""
        self.failures = 0
        self.heard: list[str] = []
        self.beyond_text = False
        self.expired: StreamTimeout | None = None
        self.seam: continuing.Continuation | None = None
        self.failure: BaseException | None = None
        self._attempting = False
        self._begun = False

    @property
    def streaming(self) -> bool:
        streaming: bool = self.listener.streaming
        return streaming

    # --- attempts, as the tap tells them ---

    def attempt(self) -> None:
        """The next attempt is about to be made, and what comes of it is decided here."""
        self.expired = None
        self._attempting = True
        self._begun = False

    def begin(self) -> None:
        """A second request in one attempt is only made where the first could not be understood.

        Libraries beneath LiteLLM would try again by themselves; attempts are counted here.
        """
        again = self._begun and not isinstance(self.failure, UnknownShape)
        if self._attempting and (self.expired is not None or again):
            raise Unwind
        self._begun = True
        if self.failure is not None and self.seam is None:
            self.listener.failed(self.failure)
            self.heard.clear()
            self.beyond_text = False
        self.failure = None
        if self.seam is None:
            self.listener.begin()
        else:
            self.listener.check()
        self._watch.start()

    def done(self, response: object | None) -> None:
        self._watch.stop()
        if self.seam is not None and (rest := self.seam.flushed()):
            self.heard.append(rest)
            self.listener.hear(rest)
        self.listener.done(response)

    def failed(self, error: BaseException) -> None:
        """Whether that is the end is decided where the attempts are made."""
        self._watch.stop()
        self.failure = error

    def is_cancelled(self) -> bool:
        """Whether the stream was left, so that nothing is to be tried again."""
        try:
            self.listener.check()
        except Unwind:
            return True
        return False

    def give_up(self) -> None:
        if self.failure is not None:
            self.listener.failed(self.failure)
            self.failure = None

    # --- what the model says ---

    def hear(self, delta: Delta) -> None:
        if isinstance(delta, ProviderChunk):
            self.listener.hear(delta)
            return
        self._watch.heard()
        if not isinstance(delta, str):
            self.beyond_text = True
            self.listener.hear(delta)
            return
        if self.seam is not None:
            delta = self.seam.rest_of(delta)
            if self.seam.started_over:
                self._start_over()
        if delta:
            self.heard.append(delta)
            self.listener.hear(delta)

    def _start_over(self) -> None:
        """The model does not continue: what it says now replaces what it said before."""
        self.seam = None
        self.heard.clear()
        self.listener.failed(continuing.StartedOver())
        self.listener.begin()

    # --- flow ---

    def must_pause(self) -> bool:
        full: bool = self.listener.must_pause()
        if self.expired is not None:
            raise Unwind
        return full

    def check(self) -> None:
        self.listener.check()
        if self.expired is not None:
            raise Unwind

    def pause(self) -> None:
        with self._watch.suspended():
            self.listener.pause()

    async def pause_async(self) -> None:
        with self._watch.suspended():
            await self.listener.pause_async()

    def connected(self, shutdown: Callable[[], None]) -> None:
        with self._lock:
            self._shut_down = shutdown
            late = self.expired is not None
        self.listener.connected(shutdown)
        if late:
            shutdown()

    def disconnected(self) -> None:
        self._shut_down = None
        self.listener.disconnected()

    def waiting(self, reason: str, delay: float | None = None) -> None:
        self.listener.waiting(reason, delay)

    # --- time ---

    @property
    def watched(self) -> bool:
        return self._watch.watches

    def cancelled_by(self, cancel: Callable[[], None] | None) -> None:
        self._cancel = cancel

    def settled(self) -> StreamTimeout | None:
        """The attempt is over; the timeout that ended it, if one did."""
        self._watch.stop()
        self._attempting = False
        expired, self.expired = self.expired, None
        return expired

    def _time_is_up(self, timeout: StreamTimeout) -> None:
        """On the timers' thread."""
        timeout.partial = dict(self.listener.partial())
        timeout.received = sum(map(len, timeout.partial.values() or self.heard))
        if not self._attempting:  # DSPy itself streams, and would take the end for an error
            self._governor.expire(timeout)
            return
        with self._lock:
            self.expired = timeout
            end = self._cancel or self._shut_down
        if end is not None:
            end()
        timers.at(
            time.monotonic() + grace(timeout.limit),
            lambda: self._governor.expire(timeout) if self.expired is timeout else None,
        )
