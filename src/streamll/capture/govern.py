"""A stream's ``StreamConfig`` at work: the attempts and timeouts of each LM call made inside.

``governed`` stands between DSPy and the tap. DSPy asks it for one completion; it asks the tap,
again where that failed and may be tried again, and raises what DSPy must not retry on top
(``is_final``, which ``patch`` asks in DSPy's place). Between the tap and the listener stands
``GovernedCall``: it knows what has been heard, and when, and hides a seam where a cut reply is
continued.

An attempt that says nothing for too long is ended from outside: sync by shutting its socket
down, async by cancelling it. Where neither is possible (a thread that is connecting, an engine
of a user's own), ``Governor.expire`` ends the stream without waiting for its program.

What is transient is DSPy's own judgement. Inside ``dspy.streamify`` (where DSPy asks the engine
for a stream) DSPy's attempts stand; only the timeouts hold.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from dspy import lm15

from streamll.capture import continuing
from streamll.capture.inside_dspy import is_transient, wrapped_error
from streamll.capture.providers import breaker_of
from streamll.capture.silence import Watch, grace
from streamll.capture.waits import run_blocking
from streamll.capture.wire.base import Confused
from streamll.core.errors import CircuitOpen, StreamTimeout, Unwind
from streamll.flow.breaker import CircuitBreaker
from streamll.flow.config import StreamConfig
from streamll.flow.timers import timers

FINAL = "__streamll_final__"


class Governor:
    """One stream's config, for all LM calls inside. ``expire`` ends the stream from outside."""

    def __init__(self, config: StreamConfig, expire: Callable[[StreamTimeout], None]) -> None:
        self.config = config
        self.expire = expire

    def call(self, listener: Any, lm: Any, options: Any) -> GovernedCall:
        shared = self.config.breaker is True
        breaker = breaker_of(lm, options) if shared else self.config.breaker
        return GovernedCall(self, listener, breaker if breaker is not True else None)


class Ended(lm15.TimeoutError):  # type: ignore[misc]
    """What an LM call raises that a timeout ended: DSPy makes an ``LMTimeoutError`` of it."""

    def __init__(self, timeout: StreamTimeout) -> None:
        super().__init__(str(timeout))
        self.timeout = timeout


def timeout_behind(error: BaseException | None) -> StreamTimeout | None:
    """The timeout of ours that led to ``error``, if one did."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, Ended):
            return error.timeout
        error = error.__cause__ or error.__context__
    return None


def is_final(error: BaseException) -> bool:
    """Whether the attempts of a governed call are over: DSPy must not add its own."""
    return hasattr(error, FINAL) or hasattr(error.__cause__, FINAL)


# --- what is heard --------------------------------------------------------------------------------


class GovernedCall:
    """The tap's listener of one LM call, in front of the call's own (``LMCall``)."""

    def __init__(self, governor: Governor, listener: Any, breaker: CircuitBreaker | None) -> None:
        self.config = governor.config
        self.breaker = breaker
        self.listener = listener
        self._governor = governor
        self._watch = Watch(governor.config, self._time_is_up)
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
        self.seam: continuing.Seam | None = None
        self.failure: BaseException | None = None
        self._begun = False

    @property
    def streaming(self) -> bool:
        streaming: bool = self.listener.streaming
        return streaming

    @property
    def full(self) -> bool:
        full: bool = self.listener.full
        return full

    # --- attempts, as the tap tells them ---

    def attempt(self) -> None:
        """The next attempt is about to be made."""
        self.expired = None
        self._begun = False

    def begin(self) -> None:
        """A second request in one attempt is only made where the first could not be understood.

        Libraries beneath LiteLLM would try again by themselves; attempts are counted here.
        """
        if self.expired is not None or (self._begun and not isinstance(self.failure, Confused)):
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
            self.listener.text(rest)
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

    def text(self, text: str) -> None:
        self._watch.heard()
        if self.seam is not None:
            text = self.seam.rest_of(text)
            if self.seam.started_over:
                self._start_over()
        if text:
            self.heard.append(text)
            self.listener.text(text)

    def _start_over(self) -> None:
        """The model does not continue: what it says now replaces what it said before."""
        self.seam = None
        self.heard.clear()
        self.listener.failed(continuing.StartedOver())
        self.listener.begin()

    def chunk(self, chunk: Any) -> None:
        self.listener.chunk(chunk)

    def thinking(self, text: str) -> None:
        self._heard_more()
        self.listener.thinking(text)

    def refusal(self, text: str) -> None:
        self._heard_more()
        self.listener.refusal(text)

    def tool_call(self, index: int, id: str | None, name: str | None, arguments: str) -> None:  # noqa: A002
        self._heard_more()
        self.listener.tool_call(index, id, name, arguments)

    def citation(self, text: str | None, title: str | None, url: str | None) -> None:
        self._heard_more()
        self.listener.citation(text, title, url)

    def _heard_more(self) -> None:
        self.beyond_text = True
        self._watch.heard()

    # --- flow ---

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
        expired, self.expired = self.expired, None
        return expired

    def _time_is_up(self, timeout: StreamTimeout) -> None:
        """On the timers' thread."""
        timeout.partial = dict(self.listener.partial())
        timeout.received = sum(map(len, timeout.partial.values() or self.heard))
        with self._lock:
            self.expired = timeout
            end = self._cancel or self._shut_down
        if end is not None:
            end()
        timers.at(
            time.monotonic() + grace(timeout.limit),
            lambda: self._governor.expire(timeout) if self.expired is timeout else None,
        )


# --- the attempts -----------------------------------------------------------------------------


class Patience(Protocol):
    """The two things that differ between a thread and an event loop."""

    async def attempt(self, call: GovernedCall, complete: Callable[[], Any]) -> Any: ...

    async def pause(self, call: GovernedCall, seconds: float) -> None: ...


class InThread:
    async def attempt(self, call: GovernedCall, complete: Callable[[], Any]) -> Any:
        return complete()

    async def pause(self, call: GovernedCall, seconds: float) -> None:
        left = threading.Event()
        call.listener.connected(left.set)
        left.wait(seconds)
        call.listener.disconnected()


class OnLoop:
    async def attempt(self, call: GovernedCall, complete: Callable[[], Any]) -> Any:
        if not call.watched:
            return await complete()
        loop, task = asyncio.get_running_loop(), asyncio.ensure_future(complete())

        def cancel() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(task.cancel)

        call.cancelled_by(cancel)
        try:
            return await task
        except asyncio.CancelledError:
            if call.expired is not None and task.cancelled() and not _is_cancelled():
                raise lm15.TimeoutError("the attempt was ended") from None
            raise
        finally:
            call.cancelled_by(None)

    async def pause(self, call: GovernedCall, seconds: float) -> None:
        loop, left = asyncio.get_running_loop(), asyncio.Event()
        call.listener.connected(lambda: loop.call_soon_threadsafe(left.set))
        try:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(left.wait(), seconds)
        finally:
            call.listener.disconnected()


def _is_cancelled() -> bool:
    """Whether this task itself is to end (Python 3.10 cannot tell)."""
    cancelling = getattr(asyncio.current_task(), "cancelling", None)
    return cancelling is not None and cancelling() > 0


class Attempts:
    """One completion in as many attempts as the config allows."""

    def __init__(self, tap: Any, call: GovernedCall, patience: Patience) -> None:
        self._tap = tap
        self._call = call
        self._patience = patience

    async def complete(self, request: Any) -> Any:
        call = self._call

        def ask() -> Any:
            return self._tap.complete(request if call.seam is None else call.seam.request)

        response = await self._until_done(ask, request)
        return response if call.seam is None else call.seam.joined(response)

    async def complete_legacy(self, lm: Any, request: Any, context: dict[str, Any]) -> Any:
        def ask() -> Any:
            return self._tap.complete_legacy(lm, request, **context)

        return await self._until_done(ask, None)

    async def _until_done(self, ask: Callable[[], Any], request: Any) -> Any:
        self._call.start()
        while True:
            try:
                return await self._once(ask)
            except Exception as error:  # noqa: BLE001 - what may not be tried again is raised
                delay = self._delay_after(error, request)
            self._call.waiting("retry", delay)
            await self._patience.pause(self._call, delay)
            self._call.check()

    async def _once(self, complete: Callable[[], Any]) -> Any:
        call, breaker = self._call, self._call.breaker
        if breaker is not None:
            try:
                breaker.permit()
            except CircuitOpen as closed:
                refused = lm15.TransportError(str(closed), retry_after=closed.retry_after)
                setattr(refused, FINAL, True)
                raise refused from (call.failure or closed)
        call.attempt()
        try:
            result = await self._patience.attempt(call, complete)
        except BaseException as error:
            failure = self._failure(error, call.settled())
            _report(breaker, failure)
            if failure is error:
                raise
            raise failure from (error.__cause__ if isinstance(error, Unwind) else error)
        call.settled()
        _report(breaker, None)
        return result

    def _failure(self, error: BaseException, timeout: StreamTimeout | None) -> BaseException:
        """What ended an attempt: the timeout behind an error, what a library tried again after."""
        unwound = isinstance(error, Unwind)
        if not (unwound or isinstance(error, Exception)) or self._call.is_cancelled():
            return error
        if timeout is not None:
            self._call.failure = timeout
            return Ended(timeout)
        return lm15.TransportError(str(self._call.failure)) if unwound else error

    def _delay_after(self, error: Exception, request: Any) -> float:
        """The seconds until the next attempt. Raises ``error`` where there is to be none."""
        call, config = self._call, self._call.config
        call.failures += 1
        begun = bool(call.heard) or call.beyond_text
        refused_to_continue = call.seam is not None and isinstance(error, lm15.InvalidRequestError)
        again = is_transient(error) and not hasattr(error, FINAL)
        if isinstance(error, Ended):
            again = config.retry_timeouts
        if begun and config.on_partial == "fail":
            again = False
        delay = None
        if again or refused_to_continue:
            hint = getattr(wrapped_error(error), "retry_after", None)
            delay = config.backoff.delay(call.failures, hint)
        if delay is None:
            call.give_up()
            setattr(error, FINAL, True)
            raise error
        call.seam = None
        if begun and config.on_partial == "continue" and not refused_to_continue:
            call.seam = self._seam(request)
        return delay

    def _seam(self, request: Any) -> continuing.Seam | None:
        call = self._call
        if request is None or call.beyond_text or not continuing.possible(self._tap, request):
            return None
        return continuing.Seam.after("".join(call.heard), request)


def _report(breaker: CircuitBreaker | None, error: BaseException | None) -> None:
    """Tell the breaker what a call says of its provider: a refusal is an answer, too."""
    if breaker is None:
        return
    if error is None or isinstance(error, (lm15.InvalidRequestError, lm15.AuthError)):
        breaker.succeeded()
    elif isinstance(error, Exception) and is_transient(error) and not _is_rate_limit(error):
        breaker.failed()
    else:
        breaker.left()


def _is_rate_limit(error: Exception) -> bool:
    return isinstance(error, lm15.RateLimitError) or getattr(error, "status", None) == 429  # noqa: PLR2004


# --- what DSPy holds --------------------------------------------------------------------------


def governed(tap: Any, call: GovernedCall, asynchronous: bool) -> Any:
    """The stand-in for the engine: the tap's attempts, under the stream's config."""
    return (_AsyncGoverned if asynchronous else _Governed)(tap, call)


class _Stand:
    def __init__(self, tap: Any, call: GovernedCall) -> None:
        self._tap = tap
        self._call = call

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tap, name)


class _Governed(_Stand):
    def complete(self, request: Any) -> Any:
        return run_blocking(Attempts(self._tap, self._call, InThread()).complete(request))

    def complete_legacy(self, lm: Any, request: Any, **context: Any) -> Any:
        attempts = Attempts(self._tap, self._call, InThread())
        return run_blocking(attempts.complete_legacy(lm, request, context))


class _AsyncGoverned(_Stand):
    async def complete(self, request: Any) -> Any:
        return await Attempts(self._tap, self._call, OnLoop()).complete(request)

    async def complete_legacy(self, lm: Any, request: Any, **context: Any) -> Any:
        return await Attempts(self._tap, self._call, OnLoop()).complete_legacy(lm, request, context)
