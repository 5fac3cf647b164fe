"""What DSPy's own provider client sends and receives, seen at its transport.

``tapped_transports`` is the one place that knows lm15's private parts here. Requests that go
through LiteLLM pass in ``record_litellm``; answers from DSPy's cache pass nowhere.
"""

# ruff: noqa: SLF001 - the transport offers no place to listen

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from streamll.testing.record_file import Take


class Tap(Protocol):
    def request(self, request: Any) -> tuple[Any, Take | None]:
        """The request as it is to be sent, and who writes the reply down, if anybody."""


@contextmanager
def tapped_transports(tap: Tap) -> Iterator[None]:
    """Inside, every request of DSPy's own client passes ``tap``."""
    from dspy._vendor.lm15.transports._async import StdlibAsyncTransport
    from dspy._vendor.lm15.transports._sync import StdlibTransport

    places: list[tuple[Any, str, Callable[..., Any]]] = [
        (StdlibTransport, "stream", _sync(StdlibTransport.stream, tap)),
        (StdlibAsyncTransport, "_do_stream", _async(StdlibAsyncTransport._do_stream, tap)),
    ]
    with replaced(places):
        yield


@contextmanager
def replaced(places: list[tuple[Any, str, Callable[..., Any]]]) -> Iterator[None]:
    """Inside, other functions stand in the places of some."""
    originals = [(owner, name, vars(owner)[name]) for owner, name, _ in places]
    for owner, name, replacement in places:
        setattr(owner, name, replacement)
    try:
        yield
    finally:
        for owner, name, original in originals:
            setattr(owner, name, original)


def _sync(original: Callable[..., Any], tap: Tap) -> Callable[..., Any]:
    @functools.wraps(original)
    def stream(transport: Any, request: Any) -> Any:
        request, take = tap.request(request)
        if take is None:
            return original(transport, request)
        try:
            reply = original(transport, request)
        except BaseException as error:
            take.cut(error)
            raise
        take.opened(reply.status, reply.headers)
        reply._chunks = _heard(reply._chunks, take)
        return reply

    return stream


def _heard(chunks: Iterator[bytes], take: Take) -> Iterator[bytes]:
    try:
        for chunk in chunks:
            take.chunk(chunk)
            yield chunk
        take.end()
    except BaseException as error:
        take.cut(error)
        raise


def _async(original: Callable[..., Any], tap: Tap) -> Callable[..., Any]:
    @functools.wraps(original)
    async def stream(transport: Any, request: Any) -> Any:
        request, take = tap.request(request)
        if take is None:
            return await original(transport, request)
        try:
            reply = await original(transport, request)
        except BaseException as error:
            take.cut(error)
            raise
        take.opened(reply.status, reply.headers)
        reply._chunks = _aheard(reply._chunks, take)
        return reply

    return stream


async def _aheard(chunks: AsyncIterator[bytes], take: Take) -> AsyncIterator[bytes]:
    try:
        async for chunk in chunks:
            take.chunk(chunk)
            yield chunk
        take.end()
    except BaseException as error:
        take.cut(error)
        raise


@contextmanager
def own_cache() -> Iterator[None]:
    """Inside, DSPy has an empty cache in memory: what was answered before is asked again."""
    import dspy
    from dspy.clients.cache import Cache

    before = vars(dspy).get("cache")
    fresh = Cache(enable_disk_cache=False, enable_memory_cache=True, disk_cache_dir="")
    dspy.cache = fresh
    try:
        yield
    finally:
        if before is not None:
            dspy.cache = before
        else:
            vars(dspy).pop("cache", None)


@contextmanager
def everything_watched(sink: Any) -> Iterator[None]:
    """Inside, ``sink`` hears every program, and every field is streamed."""
    from streamll.capture.run import enter
    from streamll.capture.watch import watch
    from streamll.configuration import configuration, configure

    with configure(sinks=[*configuration.sinks, sink]):
        if enter.watching is not None:
            yield
            return
        with watch(sinks=[sink]):
            yield
