"""A stream's ``StreamConfig`` at work: the attempts and timeouts of each LM call made inside.

``governed`` stands between DSPy and the tap. DSPy asks it for one completion; it asks the tap,
again where that failed and may be tried again, and raises what DSPy must not retry on top
(``is_final``, which ``hooks.patch`` asks in DSPy's place). Between the tap and the listener stands
``SupervisedCall``: it knows what has been heard, and when, and hides a seam where a cut reply is
continued.

An attempt that says nothing for too long is ended from outside: sync by shutting its socket
down, async by cancelling it. Where neither is possible (a thread that is connecting, an engine
of a user's own), ``CallPolicy.expire`` ends the stream without waiting for its program.

What is transient is DSPy's own judgement. Inside ``dspy.streamify`` (where DSPy asks the engine
for a stream and owns what follows) DSPy's attempts stand; only the timeouts hold.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Any, Protocol

from dspy import lm15

from streamll.capture.inside_dspy import is_transient, wrapped_error
from streamll.capture.policy import continuing
from streamll.capture.policy.call import SupervisedCall
from streamll.capture.tap.waits import run_blocking
from streamll.core.errors import CircuitOpen, StreamTimeout, Unwind
from streamll.flow.breaker import CircuitBreaker
from streamll.flow.limits import Limits

FINAL = "__streamll_final__"


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


# --- the attempts -----------------------------------------------------------------------------


class Patience(Protocol):
    """The two things that differ between a thread and an event loop."""

    async def attempt(self, call: SupervisedCall, complete: Callable[[], Any]) -> Any: ...

    async def pause(self, call: SupervisedCall, seconds: float) -> None: ...

    async def take(self, limits: Limits) -> None: ...


class InThread:
    async def attempt(self, call: SupervisedCall, complete: Callable[[], Any]) -> Any:
        return complete()

    async def pause(self, call: SupervisedCall, seconds: float) -> None:
        left = threading.Event()
        call.listener.connected(left.set)
        left.wait(seconds)
        call.listener.disconnected()

    async def take(self, limits: Limits) -> None:
        limits.take()


class OnLoop:
    async def attempt(self, call: SupervisedCall, complete: Callable[[], Any]) -> Any:
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

    async def pause(self, call: SupervisedCall, seconds: float) -> None:
        loop, left = asyncio.get_running_loop(), asyncio.Event()
        call.listener.connected(lambda: loop.call_soon_threadsafe(left.set))
        try:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(left.wait(), seconds)
        finally:
            call.listener.disconnected()

    async def take(self, limits: Limits) -> None:
        await limits.take_async()


def _is_cancelled() -> bool:
    """Whether this task itself is to end (Python 3.10 cannot tell)."""
    cancelling = getattr(asyncio.current_task(), "cancelling", None)
    return cancelling is not None and cancelling() > 0


class Attempts:
    """One completion in as many attempts as the config allows."""

    def __init__(self, tap: Any, call: SupervisedCall, patience: Patience) -> None:
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
            except CircuitOpen as left_alone:
                # Who comes new hears so at once; who is trying again anyway waits until then.
                when = left_alone.retry_after or None
                refused = lm15.TransportError(str(left_alone), retry_after=when)
                if not call.failures:
                    setattr(refused, FINAL, True)
                raise refused from (call.failure or left_alone)
        call.attempt()
        try:
            result = await self._within_limits(complete)
        except BaseException as error:
            failure = self._failure(error, call.settled())
            _report(breaker, failure)
            if failure is error:
                raise
            raise failure from (error.__cause__ if isinstance(error, Unwind) else error)
        call.settled()
        _report(breaker, None)
        return result

    async def _within_limits(self, complete: Callable[[], Any]) -> Any:
        call, limits = self._call, self._call.config.limits
        if limits is None:
            return await self._patience.attempt(call, complete)
        await self._patience.take(limits)
        try:
            if delay := limits.delay():
                call.waiting("limit", delay)
                await self._patience.pause(call, delay)
            call.check()
            return await self._patience.attempt(call, complete)
        finally:
            limits.give()

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

    def _seam(self, request: Any) -> continuing.Continuation | None:
        call = self._call
        if request is None or call.beyond_text or not continuing.possible(self._tap, request):
            return None
        return continuing.Continuation.after("".join(call.heard), request)


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


def governed(tap: Any, call: SupervisedCall, asynchronous: bool) -> Any:
    """The stand-in for the engine: the tap's attempts, under the stream's config."""
    return (_AsyncGoverned if asynchronous else _Governed)(tap, call)


class _Stand:
    def __init__(self, tap: Any, call: SupervisedCall) -> None:
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
