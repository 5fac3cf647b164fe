"""Requests on their way to a provider, and the replies on their way back.

Recording writes both down, replaying sends the request elsewhere. Both are taps (``RequestTap``)
in ``TAPS``; the functions that send requests pass each one through all of them. This module has
what every client has in common, and DSPy's own client; ``record_litellm`` has httpx.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, NamedTuple, Protocol

from streamll.testing.record_file import ExchangeWriter

Send = Callable[[Any], Any]


class RequestTap(Protocol):
    def request(self, request: Any) -> tuple[Any, ExchangeWriter | None]:
        """The request as it is to be sent, and who writes the reply down, if anybody.

        Requests have ``url``, ``headers`` (pairs) and ``body``.
        """


TAPS: list[RequestTap] = []
"""The recordings and replays that are running; the last one sees requests first."""


class ClientHooks(NamedTuple):
    """What taps need to know about one HTTP client."""

    passed: Callable[[RequestTap, Any], tuple[Any, ExchangeWriter | None]]
    """Passes one of the client's requests through a tap."""
    watch: Callable[[Any, ExchangeWriter], None]
    """Makes a reply write itself down while it is read."""

    def through_taps(self, send: Send) -> Send:
        for tap in TAPS:
            send = functools.partial(self._send, tap, send)
        return send

    def through_taps_async(self, send: Send) -> Send:
        for tap in TAPS:
            send = functools.partial(self._send_async, tap, send)
        return send

    def _send(self, tap: RequestTap, send: Send, request: Any) -> Any:
        request, writer = self.passed(tap, request)
        if writer is None:
            return send(request)
        with writer.cut_on_error():
            reply = send(request)
        self.watch(reply, writer)
        return reply

    async def _send_async(self, tap: RequestTap, send: Send, request: Any) -> Any:
        request, writer = self.passed(tap, request)
        if writer is None:
            return await send(request)
        with writer.cut_on_error():
            reply = await send(request)
        self.watch(reply, writer)
        return reply


def written_down(chunks: Iterator[bytes], writer: ExchangeWriter) -> Iterator[bytes]:
    with writer.reading():
        for chunk in chunks:
            writer.chunk(chunk)
            yield chunk


async def awritten_down(
    chunks: AsyncIterator[bytes], writer: ExchangeWriter
) -> AsyncIterator[bytes]:
    with writer.reading():
        async for chunk in chunks:
            writer.chunk(chunk)
            yield chunk


# --- DSPy's own client, lm15 ------------------------------------------------------------------


def _watch_lm15(reply: Any, writer: ExchangeWriter) -> None:
    writer.opened(reply.status, reply.headers)
    watched = awritten_down if hasattr(reply._chunks, "__aiter__") else written_down  # noqa: SLF001
    reply._chunks = watched(reply._chunks, writer)  # noqa: SLF001 - it offers no place to listen


_LM15 = ClientHooks(lambda tap, request: tap.request(request), _watch_lm15)


def lm15_tapped(original: Callable[..., Any]) -> Callable[..., Any]:
    """``StdlibTransport.stream``."""

    def stream(transport: Any, request: Any) -> Any:
        return _LM15.through_taps(functools.partial(original, transport))(request)

    return stream


def lm15_async_tapped(original: Callable[..., Any]) -> Callable[..., Any]:
    """``StdlibAsyncTransport._do_stream``."""

    async def stream(transport: Any, request: Any) -> Any:
        return await _LM15.through_taps_async(functools.partial(original, transport))(request)

    return stream
