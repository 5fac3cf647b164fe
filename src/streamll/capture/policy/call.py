"""One LM call under a stream's ``StreamConfig``: its text so far, and how long ago it grew.

``SupervisedCall`` stands between the tap and the call's own listener, as a fold over the deltas. It
measures silences, hides where a continuation joins a cut reply, and keeps libraries beneath from
retrying by themselves. Whether there is another attempt is decided in ``attempts``.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from streamll.capture.deltas import Delta, ProviderChunk
from streamll.capture.policy.continuation import Continuation, StartedOver
from streamll.capture.policy.failover import Failover
from streamll.capture.policy.providers import breaker_of
from streamll.capture.tap.below_litellm import HTTPFailure
from streamll.capture.tap.wire.base import AskAgain
from streamll.core.errors import FirstTokenTimeout, IdleTimeout, StreamTimeout, Unwind
from streamll.flow.config import StreamConfig
from streamll.flow.timers import Timer, timers


class CallPolicy(NamedTuple):
    """One stream's config, for all LM calls inside. ``expire`` ends the stream from outside."""

    config: StreamConfig
    expire: Callable[[StreamTimeout], None]


class SupervisedCall:
    """The tap's listener of one call of ``lm``, in front of the call's own (``LMCall``)."""

    def __init__(self, policy: CallPolicy, listener: Any, lm: Any, options: Any) -> None:
        self.config = policy.config
        breaker = policy.config.breaker
        self.failover: Failover | None = listener.failover
        if self.failover is not None:
            self.failover.supervised = self
            if self.failover.begun and breaker is not None:
                breaker = True  # one's own is of the program's LM
        self.breaker = breaker_of(lm, options) if breaker is True else breaker
        self.listener = listener
        self.streaming: bool = listener.streaming
        self.waiting: Callable[..., None] = listener.waiting
        self._policy = policy
        self.timer = IdleTimer(policy.config, self._time_is_up)
        self._shut_down: Callable[[], None] | None = None  # ends a blocked read
        self.cancel: Callable[[], None] | None = None  # ends an attempt on an event loop
        self._lock = threading.Lock()
        self.start()

    def start(self) -> None:
        """A new candidate: nothing has been received."""
        self.failures = 0
        self.texts: list[str] = []
        self.beyond_text = False
        self.expired: StreamTimeout | None = None
        self.continuation: Continuation | None = None
        self.failure: BaseException | None = None
        self._attempting = False
        self._requested = False

    def resume(self) -> bool:
        """Whether there is a reply that another LM could not end; it is this call's, so far."""
        cut = self.failover.take() if self.failover is not None else None
        if cut is None:
            return False
        self.texts, self.failure = list(cut.texts), cut.failure
        return True

    @property
    def has_begun(self) -> bool:
        """Whether some of this candidate's reply has been received."""
        return bool(self.texts) or self.beyond_text

    @property
    def has_fallback(self) -> bool:
        return self.failover is not None and self.failover.has_next

    def attempt(self) -> None:
        """The next attempt is about to be made, and its outcome is decided in ``attempts``."""
        self.expired = None
        self._attempting = True
        self._requested = False

    def begin(self) -> None:
        """Raises ``Unwind`` for a second request of the same attempt.

        Libraries beneath LiteLLM would retry by themselves, and attempts are counted here. The
        exceptions are the plain request after a stream that could not be understood, and an answer
        with an error, which they are to see.
        """
        again = self._requested and not isinstance(self.failure, (AskAgain, HTTPFailure))
        if self._attempting and (self.expired is not None or again):
            raise Unwind
        self._requested = True
        if self.failure is not None and self.continuation is None:
            self.listener.failed(self.failure)
            self.texts.clear()
            self.beyond_text = False
        self.failure = None
        if self.continuation is None:
            self.listener.begin()
        else:
            self.listener.check()
        self.timer.start()

    def sent(self, reply: Any) -> None:
        self.timer.sent()
        self.listener.sent(reply)

    def done(self, response: object | None) -> None:
        self.timer.stop()
        if self.continuation is not None:
            if rest := self.continuation.flush():
                self.texts.append(rest)
                self.listener.hear(rest)
            response = self.continuation.joined(response)
        self.listener.done(response)

    def failed(self, error: BaseException) -> None:
        """The listener learns of it when ``attempts`` has decided what follows."""
        self.timer.stop()
        self.failure = error

    def is_cancelled(self) -> bool:
        """Whether the stream was left, so that nothing is to be retried."""
        try:
            self.listener.check()
        except Unwind:
            return True
        return False

    def give_up(self) -> None:
        """There are no further attempts: tell the listener, unless another LM continues the reply."""
        failure, self.failure = self.failure, None
        if failure is None:
            return
        texts = [] if self.beyond_text else self.texts
        if self.failover is None or not self.failover.hold(texts, failure):
            self.listener.failed(failure)

    def hear(self, delta: Delta) -> None:
        if isinstance(delta, ProviderChunk):
            self.listener.hear(delta)
            return
        self.timer.reset()
        if isinstance(delta, str):
            if delta and self.continuation is not None:
                delta = self._continued(self.continuation, delta)
            if not delta:
                return
            self.texts.append(delta)
        else:
            self.beyond_text = True
        self.listener.hear(delta)

    def _continued(self, continuation: Continuation, text: str) -> str:
        """What of ``text`` is new. A model that starts over supersedes its first reply."""
        new = continuation.feed(text)
        if continuation.started_over:
            self.continuation = None
            self.texts.clear()
            self.listener.failed(StartedOver())
            self.listener.begin()
        return new

    def must_pause(self) -> bool:
        full: bool = self.listener.must_pause()
        if self.expired is not None:
            raise Unwind
        if full:  # the reader may block the event loop before ``pause_async`` has its turn
            self.timer.hold()
        return full

    def check(self) -> None:
        self.listener.check()
        if self.expired is not None:
            raise Unwind

    def pause(self) -> None:
        with self.timer.suspended():
            self.listener.pause()

    async def pause_async(self) -> None:
        with self.timer.suspended():
            await self.listener.pause_async()

    def connected(self, shutdown: Callable[[], Any]) -> None:
        with self._lock:
            self._shut_down = shutdown
            late = self.expired is not None
        self.listener.connected(shutdown)
        if late:
            shutdown()

    def disconnected(self) -> None:
        self._shut_down = None
        self.listener.disconnected()

    def settle(self) -> StreamTimeout | None:
        """The attempt is over. Returns the timeout that ended it, if one did."""
        self.timer.stop()
        self._attempting = False
        expired, self.expired = self.expired, None
        return expired

    def _time_is_up(self, timeout: StreamTimeout) -> None:
        """Called on the timers' thread."""
        timeout.partial = dict(self.listener.partial())
        timeout.received = sum(map(len, timeout.partial.values() or self.texts))
        if not self._attempting:  # DSPy itself streams, and would take the end for an error
            self._policy.expire(timeout)
            return
        with self._lock:
            self.expired = timeout
            end = self.cancel or self._shut_down
        if end is not None:
            end()
        spare = timeout.limit if self.has_fallback else grace(timeout.limit)
        timers.at(
            time.monotonic() + spare,
            lambda: self._policy.expire(timeout) if self.expired is timeout else None,
        )


def grace(limit: float) -> float:
    """Seconds that a program may take to end after its timeout."""
    return min(0.2, max(0.05, limit / 10))


class IdleTimer:
    """The clock behind first-token and idle timeouts: measures a model's silences.

    ``reset`` is called for every token and only notes the time; a timer checks how long ago that
    is. The time in which the reader makes the model wait is not the model's silence.
    ``time_is_up`` is called on the timers' thread, and never after ``stop`` has returned.
    """

    def __init__(self, config: StreamConfig, time_is_up: Callable[[StreamTimeout], None]) -> None:
        self._first = config.first_token_timeout
        self._idle = config.idle_timeout
        self.enabled = self._first is not None or self._idle is not None
        self._time_is_up = time_is_up
        self._lock = threading.Lock()
        self._timer: Timer | None = None
        self._since = 0.0
        self._begun = False
        self._held = False

    def start(self) -> None:
        if self.enabled:
            self._begun = self._held = False
            self._since = time.monotonic()
            self._arm(self._first)

    def sent(self) -> None:
        """What came before the request left was not the model's silence."""
        self._since = time.monotonic()

    def reset(self) -> None:
        if not self.enabled:
            return
        self._since = time.monotonic()
        if not self._begun:
            self._begun = True
            self._arm(self._idle)

    def hold(self) -> None:
        """From now on the reader makes the model wait, until ``suspended`` is left."""
        self._held = True

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """While entered, the reader makes the model wait."""
        self.hold()
        try:
            yield
        finally:
            self._since = time.monotonic()
            self._held = False

    def stop(self) -> None:
        """Stop measuring. A check that is under way is completed first."""
        if self.enabled:
            self._arm(None)

    def _arm(self, limit: float | None) -> None:
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if limit is not None:
                self._check_at(self._since + limit, limit)

    def _check_at(self, when: float, limit: float) -> None:
        timer = self._timer = timers.at(when, lambda: self._check(timer, limit))

    def _check(self, timer: Timer, limit: float) -> None:
        with self._lock:
            if self._timer is not timer:
                return
            now = time.monotonic()
            silent = 0.0 if self._held else now - self._since
            if silent < limit:
                self._check_at(now + limit - silent, limit)
                return
            self._timer = None
            kind = IdleTimeout if self._begun else FirstTokenTimeout
            self._time_is_up(kind(limit, elapsed=silent))
