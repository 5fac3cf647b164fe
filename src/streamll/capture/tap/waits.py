"""The places where an attempt waits: twice, blocking and suspending; everything else is once.

A coroutine over ``Blocking`` never suspends, so ``run_blocking`` runs it in a plain call.
"""

# ruff: noqa: SLF001 - lm15's engines and providers have no public way to build a request

from __future__ import annotations

import asyncio
import functools
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from streamll.capture.tap.listener import Guarded

if TYPE_CHECKING:
    from streamll.capture.tap.wire.events import Hearing
    from streamll.capture.tap.wire.exchange import Exchange

T = TypeVar("T")


def run_blocking(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that never suspends."""
    try:
        coroutine.send(None)
    except StopIteration as ended:
        result: T = ended.value
        return result
    coroutine.close()
    raise RuntimeError(f"{coroutine!r} suspended, but nothing here could resume it")


@functools.cache
def _lm15_completion() -> Any:
    try:
        from dspy.clients.engines.lm15_engine import AsyncLM15Engine
    except ImportError:
        return None
    return AsyncLM15Engine.complete


def _is_lm15(engine: Any) -> bool:
    """An async engine of lm15's own, completing as lm15 completes."""
    completes = getattr(type(engine), "complete", None)
    ordinary = completes is not None and completes is _lm15_completion()
    return ordinary and "complete" not in vars(engine)


class Waits(Protocol):
    async def complete(self, engine: Any, request: Any) -> Any:
        """The engine's own completion."""

    async def complete_legacy(self, engine: Any, lm: Any, request: Any, context: Any) -> Any: ...

    async def target(self, engine: Any, request: Any) -> Any:
        """An lm15 engine's provider for a request, and the request as that provider gets it."""

    async def build(self, provider: Any, request: Any) -> Any:
        """The HTTP request for a stream, and what lm15 adapted in it."""

    async def read(self, provider: Any, wire: Any, exchange: Exchange, to: Guarded) -> None:
        """Send the HTTP request and feed the reply to the exchange."""

    async def hear(self, engine: Any, request: Any, hearing: Hearing, to: Guarded) -> None:
        """Iterate over the engine's events."""


class Blocking:
    async def complete(self, engine: Any, request: Any) -> Any:
        return engine.complete(request)

    async def complete_legacy(self, engine: Any, lm: Any, request: Any, context: Any) -> Any:
        return engine.complete_legacy(lm, request, **context)

    async def target(self, engine: Any, request: Any) -> Any:
        return engine._target(request)

    async def build(self, provider: Any, request: Any) -> Any:
        return provider._build(request, stream=True)

    async def read(self, provider: Any, wire: Any, exchange: Exchange, to: Guarded) -> None:
        provider._ensure_transport_open()
        with provider.transport.stream(wire) as reply:
            exchange.opened(reply)
            for chunk in reply:
                exchange.feed(chunk)
                if to.wants_pause():
                    to.pause()

    async def hear(self, engine: Any, request: Any, hearing: Hearing, to: Guarded) -> None:
        from streamll.capture.tap.wire.events import checked_stream, closing_stream

        with closing_stream(checked_stream(engine.stream(request))) as events:
            for event in events:
                hearing.hear(event)
                if to.wants_pause():
                    to.pause()


class Suspending:
    async def complete(self, engine: Any, request: Any) -> Any:
        if _is_lm15(engine):  # what its ``complete`` does, without one of the loop's threads
            provider, routed = await self.target(engine, request)
            return await provider.complete(routed)
        return await engine.complete(request)

    async def complete_legacy(self, engine: Any, lm: Any, request: Any, context: Any) -> Any:
        return await engine.complete_legacy(lm, request, **context)

    async def target(self, engine: Any, request: Any) -> Any:
        if engine._providers:  # its credentials are read; what is left takes microseconds
            return engine._target(request)
        # The loop's shared threads may all be waiting for something that this call holds, so no
        # call but the first asks for one.
        return await asyncio.to_thread(engine._target, request)

    async def build(self, provider: Any, request: Any) -> Any:
        build = provider._inner._build
        return await provider._build(build, request, stream=True, policy=provider.adaptations)

    async def read(self, provider: Any, wire: Any, exchange: Exchange, to: Guarded) -> None:
        async with provider.transport.stream(wire) as reply:
            exchange.opened(reply)
            async for chunk in reply:
                exchange.feed(chunk)
                if to.wants_pause():
                    await to.pause_async()

    async def hear(self, engine: Any, request: Any, hearing: Hearing, to: Guarded) -> None:
        from streamll.capture.tap.wire.events import achecked_stream, aclosing_stream

        async with aclosing_stream(achecked_stream(engine.stream(request))) as events:
            async for event in events:
                hearing.hear(event)
                if to.wants_pause():
                    await to.pause_async()
