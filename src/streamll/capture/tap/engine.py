"""The stand-in for the engine that DSPy selected: the same replies, heard while they arrive.

DSPy calls ``complete`` (or ``complete_legacy``, or ``stream`` inside ``dspy.streamify``) on the
object it got from ``_select_engine`` and owns everything around it: cache, retries, candidates,
history. A tap answers these calls with what the engine would have answered:

* lm15's engines are asked for a stream on the wire (``wire.exchange``);
* engines of users, and providers that complete in a way of their own, stream their events;
* LiteLLM is heard below LiteLLM (``below_litellm``);
* everything else, and whatever cannot be streamed faithfully, completes as it would without a
  tap, and its text is told in one piece.

What is done is written once, as coroutines; the few places that wait are ``waits``'.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import Any

from streamll.capture.tap import interrupt
from streamll.capture.tap.listener import CallListener, Guarded, logger, tell, tell_outputs
from streamll.capture.tap.unsupported import StreamingUnsupported
from streamll.capture.tap.waits import Blocking, Suspending, Waits, run_blocking
from streamll.capture.tap.wire.base import Assembler, Confused
from streamll.core.errors import Unwind

_refusals = StreamingUnsupported()


def tap(backend: Any, request: Any, listener: CallListener, asynchronous: bool) -> Any:
    """What DSPy gets instead of ``backend``, for one LM call.

    ``request`` is what DSPy prepared, None where it will call ``complete_legacy``; DSPy passes
    it again with each attempt.
    """
    del request
    return (AsyncEngineProxy if asynchronous else EngineProxy)(backend, Guarded(listener))


@functools.cache
def unsupported() -> str | None:
    """Why this DSPy's engines cannot be streamed, or None. Taps then tell whole replies."""
    try:
        from streamll.capture.tap import below_litellm
        from streamll.capture.tap.wire import events, exchange

        del below_litellm, events, exchange
    except (ImportError, AttributeError) as error:
        return f"it differs from the versions known here ({error})"
    return None


# --- what DSPy holds --------------------------------------------------------------------------


class _Stand:
    """What is not tapped is the engine's own."""

    def __init__(self, backend: Any, listener: Guarded) -> None:
        self._backend = backend
        self._listener = listener

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)


class EngineProxy(_Stand):
    def complete(self, request: Any) -> Any:
        return run_blocking(_Attempt(self._backend, self._listener, Blocking()).complete(request))

    def complete_legacy(self, lm: Any, request: Any, **context: Any) -> Any:
        attempt = _Attempt(self._backend, self._listener, Blocking())
        return run_blocking(attempt.complete_legacy(lm, request, context))

    def stream(self, request: Any) -> Iterator[Any]:
        passage = PassThrough(self._listener, request)
        with passage:
            source = self._backend.stream(request)
            with passage.closing(source):
                events = iter(source)
                while True:
                    with passage.line:
                        event = next(events, None)
                    if event is None:
                        return
                    if passage.hears(event):
                        self._listener.pause()
                    yield event


class AsyncEngineProxy(_Stand):
    async def complete(self, request: Any) -> Any:
        return await _Attempt(self._backend, self._listener, Suspending()).complete(request)

    async def complete_legacy(self, lm: Any, request: Any, **context: Any) -> Any:
        attempt = _Attempt(self._backend, self._listener, Suspending())
        return await attempt.complete_legacy(lm, request, context)

    async def stream(self, request: Any) -> AsyncIterator[Any]:
        passage = PassThrough(self._listener, request)
        with passage:
            source = self._backend.stream(request)
            async with passage.aclosing(source):
                events = source.__aiter__()
                while True:
                    with passage.line:
                        event = await anext(events, None)
                    if event is None:
                        return
                    if passage.hears(event):
                        await self._listener.pause_async()
                    yield event


# --- one attempt --------------------------------------------------------------------------------


class AttemptScope:
    """``with`` it: the listener hears of the attempt's begin and, where it raises, of its end.

    An error that cancelling has caused (a read that was ended looks like a lost connection)
    becomes ``Unwind``, which DSPy does not retry. While ``line`` is entered, the attempt can be
    ended from outside.
    """

    def __init__(self, listener: Guarded) -> None:
        self.listener = listener
        self.line = interrupt.Interruptible(listener)

    def __enter__(self) -> None:
        self.listener.begin()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.line.over()
        if isinstance(error, Exception):
            try:
                self.listener.check()
            except Unwind as unwind:
                self.listener.failed(unwind)
                raise unwind from error
        if error is not None:
            self.listener.failed(error)


class _Attempt:
    """One call of ``complete`` or ``complete_legacy``: whether to stream it, and how."""

    def __init__(self, backend: Any, listener: Guarded, waits: Waits) -> None:
        self._backend = backend
        self._listener = listener
        self._waits = waits

    async def complete(self, request: Any) -> Any:
        reported = AttemptScope(self._listener)
        with reported, reported.line:
            response = await self._response(request)
        self._listener.done(response)
        return response

    async def complete_legacy(self, lm: Any, request: Any, context: dict[str, Any]) -> Any:
        reported = AttemptScope(self._listener)
        with reported, reported.line:
            with self._below_legacy(lm) as below:
                result = await self._waits.complete_legacy(self._backend, lm, request, context)
            if self._listener.streaming and not below.heard:
                if not self._is_litellm():
                    self._listener.chunk(None)
                tell_outputs(self._listener, getattr(result, "outputs", None) or ())
        self._listener.done(result)
        return result

    async def _response(self, request: Any) -> Any:
        if self._listener.streaming and unsupported() is None:
            response = await self._streamed(request)
            if response is not None:
                return response
        return await self._whole(request)

    async def _whole(self, request: Any) -> Any:
        """The engine's own completion, told in one piece unless it was heard on its way."""
        with self._below_litellm(self._backend) as below:
            response = await self._waits.complete(self._backend, request)
        if self._listener.streaming and not below.heard:
            tell(self._listener, response)
        return response

    def _below_litellm(self, owner: Any) -> Any:
        """What to complete under, so that LiteLLM's requests are heard; ``heard`` says if so."""
        if self._listener.streaming and unsupported() is None:
            from streamll.capture.tap import below_litellm

            if self._is_litellm():
                return below_litellm.listening(self._listener, owner)
        return contextlib.nullcontext(_Unheard())

    def _below_legacy(self, lm: Any) -> Any:
        """The same where an LM's own ``forward`` may send the chunks it gets."""
        if self._listener.streaming and unsupported() is None:
            from streamll.capture.tap import below_litellm

            if not self._is_litellm() and below_litellm.send_stream() is not None:
                return below_litellm.hearing_chunks(self._listener)
        return self._below_litellm(lm)

    def _is_litellm(self) -> bool:
        if unsupported() is not None:
            return False
        from streamll.capture.tap import below_litellm

        return below_litellm.is_litellm(self._backend)

    async def _streamed(self, request: Any) -> Any:
        """The streamed response, or None where that would not be the engine's own."""
        from streamll.capture.tap import below_litellm
        from streamll.capture.tap.wire import exchange

        engine = self._backend
        if request.config.probabilities is not None or _refusals.knows(engine, request.model):
            return None
        if exchange.engine_is_lm15(engine):
            provider, routed = await self._waits.target(engine, request)
            if not exchange.can_stream(provider, routed):
                return None
            assembler = exchange.assembler_for(provider, self._listener)
            if assembler is not None:
                return await self._over_the_wire(provider, routed, assembler, request)
        if below_litellm.is_litellm(engine) or not _streams_what_it_completes(engine):
            return None
        return await self._over_events(request)

    async def _over_the_wire(
        self, provider: Any, routed: Any, assembler: Assembler, request: Any
    ) -> Any:
        from streamll.capture.tap.wire.events import CANNOT_STREAM
        from streamll.capture.tap.wire.exchange import Exchange, NetworkTransportError, lost

        try:
            wire, adaptations = await self._waits.build(provider, routed)
        except CANNOT_STREAM:
            return None
        exchange = Exchange(provider, routed, adaptations, assembler)
        try:
            await self._waits.read(provider, wire, exchange, self._listener)
            if exchange.reply.refused:
                return await self._not_as_stream(request)
            response = exchange.response()
        except NetworkTransportError as error:
            if not exchange.reply.complete:
                raise lost(error) from error
            response = exchange.response()
        except Confused as fault:
            fault.report(logger)
            self._listener.failed(fault)
            self._listener.begin()
            return await self._not_as_stream(request)
        if not exchange.reply.streamed:
            tell(self._listener, response)
        return response

    async def _not_as_stream(self, request: Any) -> Any:
        """Where this succeeds it was the stream that did not: not to be asked for again."""
        response = await self._whole(request)
        _refusals.remember(self._backend, request.model)
        return response

    async def _over_events(self, request: Any) -> Any:
        from streamll.capture.tap.wire.events import CANNOT_STREAM, Hearing

        hearing = Hearing(self._listener, request)
        try:
            await self._waits.hear(self._backend, request, hearing, self._listener)
        except CANNOT_STREAM:
            if hearing.begun:
                raise
            return None
        return hearing.response()


class _Unheard:
    """Nothing is heard below the engine."""

    heard = False


def _streams_what_it_completes(engine: Any) -> bool:
    """A class that redefines ``complete`` and not ``stream`` no longer means the same by them."""
    for names in (
        vars(engine) if hasattr(engine, "__dict__") else {},
        *map(vars, type(engine).__mro__),
    ):
        if "stream" in names:
            return True
        if "complete" in names:
            return False
    return False


# --- DSPy itself streams ----------------------------------------------------------------------


class PassThrough(AttemptScope):
    """``with`` it: a stream of lm15 events passes through, each is heard."""

    def __init__(self, listener: Guarded, request: Any) -> None:
        from streamll.capture.tap.wire.events import Hearing, aclosing_stream, closing_stream

        super().__init__(listener)
        self.closing = closing_stream
        self.aclosing = aclosing_stream
        self._hearing = Hearing(listener, request)

    def hears(self, event: Any) -> bool:
        """Whether to pause before the event goes on."""
        self._hearing.hear(event)
        return self.listener.wants_pause()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._hearing.ended or isinstance(error, Exception):
            super().__exit__(kind, error, traceback)
            return
        self.line.over()
        response = None
        with contextlib.suppress(Exception):  # DSPy finds the same out, and says it
            response = self._hearing.response()
        self.listener.done(response)
