"""Where an LM call waits, written twice: ``Blocking`` in a thread, ``Suspending`` on an event loop.

Everything else about a call is written once, as coroutines over one of the two. A coroutine over
``Blocking`` never suspends, so its ``run`` runs it in a plain call.
"""

# ruff: noqa: SLF001 - lm15's engines and providers have no public way to build a request

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from streamll.capture.deltas import Deltas
from streamll.capture.tap.connection import body_of, read_body
from streamll.capture.tap.interrupt import Grace, within
from streamll.capture.tap.listener import Guarded
from streamll.capture.tap.wire.reply import WireReply


class Reader(Protocol):
    """Makes deltas of what a transport brings: bytes of a wire, or an engine's events."""

    @property
    def fault(self) -> Exception | None:
        """Set when reading on is of no use."""

    @property
    def grace(self) -> float | None:
        """Seconds of silence to wait for what may still come, once nothing has to.

        None before that; from then on, perhaps others, but never None again.
        """

    def feed(self, item: Any, /) -> Deltas: ...

    def give_up(self) -> None:
        """The grace was over, or the connection lost, before the end of what there is to read."""


class Blocking:
    """In a thread of the program's own."""

    @staticmethod
    def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
        """What a caller gets for a coroutine over this: its result."""
        try:
            coroutine.send(None)
        except StopIteration as ended:
            return ended.value
        coroutine.close()
        raise RuntimeError(f"{coroutine!r} suspended, but nothing here could resume it")

    async def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The result of a function that blocks."""
        return function(*args, **kwargs)

    async def target(self, engine: Any, request: Any) -> Any:
        """An lm15 engine's provider for a request, and the request as that provider gets it."""
        return engine._target(request)

    async def build(self, provider: Any, request: Any) -> Any:
        """The HTTP request for a stream, and what lm15 adapted in it."""
        return provider._build(request, stream=True)

    async def send(
        self,
        provider: Any,
        wire: Any,
        opened: Callable[[Any], None],
        reader: WireReply,
        to: Guarded,
    ) -> None:
        """Send the HTTP request and read its reply; ``opened`` gets the head."""
        provider._ensure_transport_open()
        with provider.transport.stream(wire) as reply:
            opened(reply)
            if not read_body(reply, reader, to):
                await self.read(reply, reader, to)

    async def iterate(self, events: Any, reader: Reader, to: Guarded) -> None:
        """Read an engine's events."""
        from dspy.clients.engines.lifecycle import closing_stream
        from dspy.clients.engines.stream_guard import checked_stream

        with closing_stream(checked_stream(events)) as checked:
            await self.read(checked, reader, to)

    async def read(self, items: Any, reader: Reader, to: Guarded) -> None:
        """Read what a transport brings, at the pace of the listener, until its end or a fault.

        Or until the reader's grace is over.
        """
        feed, hear = reader.feed, to.hear
        with Grace(reader) as grace:
            for item in items:
                deltas = feed(item)
                if hear(deltas):
                    to.pause()
                    grace.set(None)
                if reader.fault is not None:
                    return
                grace.set(reader.grace, again=bool(deltas))

    async def read_http(self, response: Any, reader: Reader, to: Guarded) -> None:
        """Read the body of an httpx response, and close it."""
        try:
            await self.read(response.iter_bytes(), reader, to)
        finally:
            response.close()


class Suspending:
    """The same on an event loop."""

    @staticmethod
    def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
        return coroutine

    async def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return await function(*args, **kwargs)

    async def target(self, engine: Any, request: Any) -> Any:
        if engine._providers:  # its credentials have been read; the rest takes microseconds
            return engine._target(request)
        # Not one of the loop's shared threads: all may be waiting for a slot that this call holds.
        own_thread, loop = ThreadPoolExecutor(1), asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(own_thread, engine._target, request)
        finally:
            own_thread.shutdown(wait=False)

    async def build(self, provider: Any, request: Any) -> Any:
        build = provider._inner._build
        return await provider._build(build, request, stream=True, policy=provider.adaptations)

    async def send(
        self,
        provider: Any,
        wire: Any,
        opened: Callable[[Any], None],
        reader: WireReply,
        to: Guarded,
    ) -> None:
        async with provider.transport.stream(wire) as reply:
            opened(reply)
            body = body_of(reply, reader, to)
            await (self.read(reply, reader, to) if body is None else body.read())

    async def iterate(self, events: Any, reader: Reader, to: Guarded) -> None:
        from dspy.clients.engines.lifecycle import aclosing_stream
        from dspy.clients.engines.stream_guard import achecked_stream

        async with aclosing_stream(achecked_stream(events)) as checked:
            await self.read(checked, reader, to)

    async def read(self, items: Any, reader: Reader, to: Guarded) -> None:
        feed, hear, iterator = reader.feed, to.hear, items.__aiter__()
        async for item in iterator:
            if hear(feed(item)):
                await to.pause_async()
            if reader.fault is not None or reader.grace is not None:
                break
        if reader.grace is not None:
            await self._read_the_rest(iterator, reader, to)

    async def _read_the_rest(self, iterator: Any, reader: Reader, to: Guarded) -> None:
        """The reply may be over: read on for its grace, at most. More of it may come nevertheless."""
        grace, until = None, None
        while reader.fault is None:
            if grace != (grace := reader.grace):
                until = None if grace is None else time.monotonic() + grace
            try:
                item = await within(anext(iterator), until)
            except StopAsyncIteration:
                return
            except asyncio.TimeoutError:
                reader.give_up()
                return
            deltas = reader.feed(item)
            paused = to.hear(deltas)
            if paused:
                await to.pause_async()
            if paused or deltas:
                grace = None

    async def read_http(self, response: Any, reader: Reader, to: Guarded) -> None:
        try:
            await self.read(response.aiter_bytes(), reader, to)
        finally:
            await response.aclose()


Waits = Blocking | Suspending


class StandIn:
    """An object that DSPy takes for ``engine``. ``answers`` completes; the rest is the engine's.

    ``answers`` has both ways in which DSPy asks an engine, as coroutines over ``waits``.
    """

    def __init__(self, engine: Any, answers: Any, waits: Waits) -> None:
        self._engine = engine
        self._answers = answers
        self._run = waits.run

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def complete(self, request: Any) -> Any:
        return self._run(self._answers.complete(request))

    def complete_legacy(self, lm: Any, request: Any, **context: Any) -> Any:
        return self._run(self._answers.complete_legacy(lm, request, context))
