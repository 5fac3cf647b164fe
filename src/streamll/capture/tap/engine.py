"""The proxy for the engine that DSPy selected: the same replies, read while they arrive.

DSPy calls ``complete`` (or ``complete_legacy``, or ``stream`` inside ``dspy.streamify``) on the
object that ``_select_engine`` returned and owns everything around it: cache, retries, candidates,
history. lm15's engines are asked for a stream on the wire (``wire.exchange``); users' engines, and
providers that complete in a way of their own, stream their events; LiteLLM is tapped below LiteLLM
(``below_litellm``). Everything else, and whatever cannot be streamed faithfully, completes as it
would without a tap, and its text is delivered in one piece.

The logic is written once, as coroutines; the few places that wait are in ``waits``.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace
from typing import Any

from dspy import lm15
from dspy._vendor.lm15.providers.base import NetworkTransportError
from dspy.clients import get_litellm
from dspy.clients.engines.lifecycle import aclosing_stream, closing_stream
from dspy.clients.engines.litellm_engine import AsyncLiteLLMEngine, LiteLLMEngine

from streamll.capture.deltas import ProviderChunk
from streamll.capture.tap import below_litellm, unsupported
from streamll.capture.tap.attempt import AttemptScope
from streamll.capture.tap.listener import CallListener, Guarded, logger
from streamll.capture.tap.waits import Blocking, StandIn, Suspending, Waits
from streamll.capture.tap.whole import deltas_of_outputs, deltas_of_response
from streamll.capture.tap.wire import exchange
from streamll.capture.tap.wire.base import AskAgain, Assembler, UnknownShape
from streamll.capture.tap.wire.events import CANNOT_STREAM, EventAssembler

_NOT_TAPPED = SimpleNamespace(streamed=False, shows_chunks=False)
"""Below the engine nothing is tapped."""


def tap(backend: Any, request: Any, listener: CallListener, asynchronous: bool) -> Any:
    """What DSPy gets instead of ``backend``, for one LM call.

    ``request`` is what DSPy prepared, None where it will call ``complete_legacy``; DSPy passes
    it again with each attempt.
    """
    del request
    if asynchronous:
        return AsyncEngineProxy(backend, Guarded(listener), Suspending())
    return EngineProxy(backend, Guarded(listener), Blocking())


def is_litellm(engine: Any) -> bool:
    return isinstance(engine, (LiteLLMEngine, AsyncLiteLLMEngine))


def load_litellm() -> None:
    """Import LiteLLM, which takes seconds, before the clock of an attempt starts."""
    with contextlib.suppress(Exception):  # DSPy meets the same, and raises it
        get_litellm(feature="LiteLLM engine")


class EngineProxy(StandIn):
    def __init__(self, engine: Any, listener: Guarded, waits: Waits) -> None:
        super().__init__(engine, _Attempt(engine, listener, waits), waits)
        self._listener = listener

    def stream(self, request: Any) -> Iterator[Any]:
        attempt = PassThrough(self._listener, request)
        with attempt, closing_stream(self._engine.stream(request)) as source:
            events = iter(source)
            while True:
                with attempt.interruptible:
                    event = next(events, None)
                if event is None:
                    return
                if attempt.hear(event):
                    self._listener.pause()
                yield event


class AsyncEngineProxy(EngineProxy):
    async def stream(self, request: Any) -> AsyncIterator[Any]:  # type: ignore[override]
        attempt = PassThrough(self._listener, request)
        with attempt:
            async with aclosing_stream(self._engine.stream(request)) as source:
                events = source.__aiter__()
                while True:
                    with attempt.interruptible:
                        event = await anext(events, None)
                    if event is None:
                        return
                    if attempt.hear(event):
                        await self._listener.pause_async()
                    yield event


class _Attempt:
    """The engine's ``complete`` and ``complete_legacy``: whether to stream them, and how."""

    def __init__(self, engine: Any, listener: Guarded, waits: Waits) -> None:
        self._engine = engine
        self._listener = listener
        self._waits = waits

    async def complete(self, request: Any) -> Any:
        scope = AttemptScope(self._listener)
        with scope, scope.interruptible:
            response = None
            if self._listener.streaming:
                response = await self._streamed(request)
            if response is None:
                response = await self._whole(request)
        self._listener.done(response)
        return response

    async def complete_legacy(self, lm: Any, request: Any, context: dict[str, Any]) -> Any:
        scope = AttemptScope(self._listener)
        with scope, scope.interruptible:
            with self._tapped_below(lm, lm.model, legacy=True) as below:
                complete = self._engine.complete_legacy
                result = await self._waits.call(complete, lm, request, **context)
            if self._listener.streaming and not below.streamed:
                if not below.shows_chunks:
                    self._listener.hear((ProviderChunk(None),))
                self._listener.hear(deltas_of_outputs(getattr(result, "outputs", None) or ()))
        self._listener.done(result)
        return result

    async def _whole(self, request: Any) -> Any:
        """The engine's own completion, in one piece unless it was tapped on its way."""
        with self._tapped_below(self._engine, request.model) as below:
            response = await self._completed(request)
        if self._listener.streaming and not below.streamed:
            self._listener.hear(deltas_of_response(response))
        return response

    async def _completed(self, request: Any) -> Any:
        if isinstance(self._waits, Suspending) and exchange.engine_is_lm15(self._engine):
            # what its ``complete`` does, without one of the loop's threads
            provider, routed = await self._waits.target(self._engine, request)
            return await provider.complete(routed)
        return await self._waits.call(self._engine.complete, request)

    def _tapped_below(self, owner: Any, model: str, *, legacy: bool = False) -> Any:
        """The context to complete in, so that requests and chunks below the engine are tapped."""
        if self._listener.streaming:
            if is_litellm(self._engine):
                return below_litellm.tapped(self._listener, owner, model)
            if legacy and below_litellm.send_stream() is not None:  # ``forward`` may send to it
                return below_litellm.tapped_chunks(self._listener)
        return contextlib.nullcontext(_NOT_TAPPED)

    async def _streamed(self, request: Any) -> Any:
        """The streamed response, or None where that would not be the engine's own."""
        engine = self._engine
        if request.config.probabilities is not None or unsupported.knows(engine, request.model):
            return None
        if exchange.engine_is_lm15(engine):
            provider, routed = await self._waits.target(engine, request)
            if not exchange.can_stream(provider, routed):
                return None
            assembler = exchange.assembler_for(provider)
            if assembler is not None:
                return await self._over_the_wire(provider, routed, assembler, request)
        if is_litellm(engine) or not _streams_what_it_completes(engine):
            return None
        return await self._over_events(request)

    async def _over_the_wire(
        self, provider: Any, routed: Any, assembler: Assembler, request: Any
    ) -> Any:
        try:
            wire, adaptations = await self._waits.build(provider, routed)
        except CANNOT_STREAM:
            return None
        asked = exchange.Exchange(provider, routed, adaptations, assembler)
        reply, listener = asked.reply, self._listener
        listener.sent(reply)
        try:
            await self._waits.send(provider, wire, asked.opened, reply, listener)
        except NetworkTransportError as error:
            if not reply.outlives_a_cut:
                raise lm15.TransportError(str(error)) from error
            reply.give_up()
        listener.hear(reply.finish())
        if reply.refused:
            return await self._without_stream(request)
        try:
            response = asked.response()
        except AskAgain as fault:
            fault.report(logger)
            listener.failed(fault)
            listener.begin()
            if isinstance(fault, UnknownShape):
                return await self._without_stream(request)
            return await self._whole(request)
        if not reply.streamed:
            listener.hear(deltas_of_response(response))
        return response

    async def _without_stream(self, request: Any) -> Any:
        """Ask plainly; where that succeeds, this engine and model are not asked to stream again."""
        response = await self._whole(request)
        unsupported.remember(self._engine, request.model)
        return response

    async def _over_events(self, request: Any) -> Any:
        assembler = EventAssembler(request)
        try:
            await self._waits.iterate(self._engine.stream(request), assembler, self._listener)
        except CANNOT_STREAM:
            if assembler.begun:
                raise
            return None
        return assembler.response()


def _streams_what_it_completes(engine: Any) -> bool:
    """False for a class that redefines ``complete`` and not ``stream``: the two then differ."""
    own = vars(engine) if hasattr(engine, "__dict__") else {}
    for names in (own, *map(vars, type(engine).__mro__)):
        if "stream" in names:
            return True
        if "complete" in names:
            return False
    return False


class PassThrough(AttemptScope):
    """``with`` it: a stream of lm15 events that DSPy itself reads, tapped on its way."""

    def __init__(self, listener: Guarded, request: Any) -> None:
        super().__init__(listener)
        self._assembler = EventAssembler(request)

    def hear(self, event: Any) -> bool:
        """Whether to pause before the event goes on."""
        return self.listener.hear(self._assembler.feed(event))

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if not self._assembler.ended or isinstance(error, Exception):
            super().__exit__(kind, error, traceback)
            return
        self.interruptible.disconnected()
        response = None
        with contextlib.suppress(Exception):  # DSPy finds the same, and raises it
            response = self._assembler.response()
        self.listener.done(response)
