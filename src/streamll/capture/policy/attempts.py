"""The attempts and timeouts of each LM call made under a stream's ``StreamConfig``.

DSPy asks ``supervised`` for one completion; it asks the tap, again after an error that may be
retried, and raises the last one marked as final, so that DSPy does not retry on top.

An attempt that is silent for too long is ended from outside: in a thread by shutting its socket
down, on an event loop by cancelling it. Where neither is possible (a thread that is connecting, a
user's own engine), ``CallPolicy.expire`` ends the stream without waiting for its program.

Inside ``dspy.streamify`` (where DSPy asks the engine for a stream and handles what follows) DSPy's
own attempts apply, and only the timeouts are ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
from collections.abc import Callable
from typing import Any

from streamll.capture.inside_dspy import is_transient, lm15, wrapped_error
from streamll.capture.policy import continuation
from streamll.capture.policy.call import SupervisedCall
from streamll.capture.tap.waits import Blocking, StandIn, Suspending, Waits
from streamll.core.errors import CircuitOpen, StreamTimeout, Unwind
from streamll.flow.breaker import CircuitBreaker

FINAL = "__streamll_final__"
HTTP_TOO_MANY_REQUESTS = 429


class AttemptTimedOut(lm15.TimeoutError):  # type: ignore[misc]
    """Raised by an LM call that a timeout ended: DSPy makes an ``LMTimeoutError`` of it."""

    def __init__(self, timeout: StreamTimeout) -> None:
        super().__init__(str(timeout))
        self.timeout = timeout


def timeout_behind(error: BaseException | None) -> StreamTimeout | None:
    """The timeout of ours that led to ``error``, if one did."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, AttemptTimedOut):
            return error.timeout
        error = error.__cause__ or error.__context__
    return None


def is_final(error: BaseException) -> bool:
    """Whether the attempts of a supervised call are over: DSPy must not add its own."""
    return hasattr(error, FINAL) or hasattr(error.__cause__, FINAL)


def supervised(tap: Any, call: SupervisedCall, asynchronous: bool) -> Any:
    """What DSPy takes for the engine: the tap's attempts, under the stream's config."""
    waits = Suspending() if asynchronous else Blocking()
    return StandIn(tap, Attempts(tap, call, waits), waits)


class Attempts:
    """One completion in as many attempts as the config allows."""

    def __init__(self, tap: Any, call: SupervisedCall, waits: Waits) -> None:
        self._tap = tap
        self._call = call
        self._waits = waits

    async def complete(self, request: Any) -> Any:
        call = self._call

        def ask() -> Any:
            again = call.continuation
            return self._tap.complete(request if again is None else again.request)

        response = await self._until_done(ask, request)
        return response if call.continuation is None else call.continuation.joined(response)

    async def complete_legacy(self, lm: Any, request: Any, context: dict[str, Any]) -> Any:
        ask = functools.partial(self._tap.complete_legacy, lm, request, **context)
        return await self._until_done(ask, None)

    async def _until_done(self, ask: Callable[[], Any], request: Any) -> Any:
        call = self._call
        call.start()
        if call.resume():
            call.continuation = self._continuation(request)
        while True:
            try:
                return await self._once(ask)
            except Exception as error:  # noqa: BLE001 - what may not be retried is raised
                delay = self._delay_after(error, request)
            call.waiting("retry", delay)
            await self._sleep(delay)
            call.check()

    async def _once(self, complete: Callable[[], Any]) -> Any:
        call, breaker = self._call, self._call.breaker
        permit = None if breaker is None else self._ask_permission(breaker)
        call.attempt()
        try:
            result = await self._within_limits(complete)
        except BaseException as error:
            failure = self._failure(error, call.settle())
            _report(breaker, permit, failure)
            if failure is error:
                raise
            raise failure from (error.__cause__ if isinstance(error, Unwind) else error)
        call.settle()
        _report(breaker, permit, None)
        return result

    async def _within_limits(self, complete: Callable[[], Any]) -> Any:
        """One attempt, once the config's limits admit it."""
        call, limits = self._call, self._call.config.limits
        if limits is None:
            return await self._attempt(complete)
        if isinstance(self._waits, Suspending):
            await limits.take_async()
        else:
            limits.take()
        try:
            if delay := limits.delay():
                call.waiting("limit", delay)
                await self._sleep(delay)
            call.check()
            return await self._attempt(complete)
        finally:
            limits.give()

    async def _attempt(self, complete: Callable[[], Any]) -> Any:
        """The result of ``complete``, which a timeout may end from outside."""
        call = self._call
        if isinstance(self._waits, Blocking) or not call.timer.enabled:
            return await self._waits.call(complete)
        loop, task = asyncio.get_running_loop(), asyncio.ensure_future(complete())

        def cancel() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(task.cancel)

        call.cancel = cancel
        try:
            return await task
        except asyncio.CancelledError:
            if call.expired is not None and task.cancelled() and not _is_cancelling():
                raise lm15.TimeoutError("the attempt was ended") from None
            raise
        finally:
            call.cancel = None

    async def _sleep(self, seconds: float) -> None:
        """Wait, unless the call is ended meanwhile."""
        call = self._call
        try:
            if isinstance(self._waits, Blocking):
                interrupted = threading.Event()
                call.connected(interrupted.set)
                interrupted.wait(seconds)
            else:
                loop, ended = asyncio.get_running_loop(), asyncio.Event()
                call.connected(lambda: loop.call_soon_threadsafe(ended.set))
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(ended.wait(), seconds)
        finally:  # also of a wait that is cancelled: its loop may be closed when the run is left
            call.disconnected()

    def _ask_permission(self, breaker: CircuitBreaker) -> int:
        """A new call fails fast; a retry already under way waits until the breaker half-opens.

        Neither waits where another LM can be asked.
        """
        try:
            return breaker.permit()
        except CircuitOpen as circuit_open:
            when = circuit_open.retry_after or None
            refused = lm15.TransportError(str(circuit_open), retry_after=when)
            if not self._call.failures or self._call.has_fallback:
                setattr(refused, FINAL, True)
            raise refused from (self._call.failure or circuit_open)

    def _failure(self, error: BaseException, timeout: StreamTimeout | None) -> BaseException:
        """What ended an attempt: the timeout behind an error, or the error that a library retried."""
        unwound = isinstance(error, Unwind)
        if not (unwound or isinstance(error, Exception)) or self._call.is_cancelled():
            return error
        if timeout is not None:
            self._call.failure = timeout
            return AttemptTimedOut(timeout)
        return lm15.TransportError(str(self._call.failure)) if unwound else error

    def _delay_after(self, error: Exception, request: Any) -> float:
        """The seconds until the next attempt. Raises ``error`` where there is to be none."""
        call, config = self._call, self._call.config
        begun = call.has_begun
        continuing = call.continuation is not None
        refused_to_continue = continuing and isinstance(error, lm15.InvalidRequestError)
        again = is_transient(error) and not hasattr(error, FINAL)
        if isinstance(error, AttemptTimedOut):
            again = config.retry_timeouts
        if begun and config.on_partial == "fail":
            again = False
        delay = None
        if refused_to_continue:
            delay = 0.0  # no failure: the model answers from the beginning
        elif again:
            call.failures += 1
            hint = getattr(wrapped_error(error), "retry_after", None)
            delay = config.backoff.delay(call.failures, hint)
        if delay is None:
            call.give_up()
            setattr(error, FINAL, True)
            raise error
        call.continuation = None
        if begun and config.on_partial == "continue" and not refused_to_continue:
            call.continuation = self._continuation(request)
        return delay

    def _continuation(self, request: Any) -> continuation.Continuation | None:
        call = self._call
        before = "".join(call.texts)
        plain = request is not None and before.strip() and not call.beyond_text
        possible = plain and continuation.possible(self._tap, request)
        return continuation.Continuation(before, request) if possible else None


def _is_cancelling() -> bool:
    """Whether this task itself is being cancelled (Python 3.10 cannot tell)."""
    cancelling = getattr(asyncio.current_task(), "cancelling", None)
    return cancelling is not None and cancelling() > 0


def _report(
    breaker: CircuitBreaker | None, permit: int | None, error: BaseException | None
) -> None:
    """Report a call's outcome to the breaker. A rejected request is an answer, too."""
    if breaker is None or not breaker.counts(permit):
        return
    if error is None or isinstance(error, (lm15.InvalidRequestError, lm15.AuthError)):
        breaker.succeeded()
    elif (
        isinstance(error, lm15.RateLimitError)
        or getattr(error, "status", None) == HTTP_TOO_MANY_REQUESTS
        or not (isinstance(error, Exception) and is_transient(error))
    ):
        breaker.left()
    else:
        breaker.failed()
