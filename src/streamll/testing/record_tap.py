"""Requests on their way to a provider, and the replies on their way back.

Recording writes both down, replaying sends the request elsewhere. Both are taps (``RequestTap``)
in ``TAPS``; the functions that send requests pass each one through all of them. This module has
what every client has in common, and DSPy's own client; ``record_litellm`` has httpx.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any, NamedTuple, Protocol

from streamll.testing.record_file import ExchangeWriter


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

    def tapped(self, original: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        """``original(client, request)`` with the taps before it."""

        def send(client: Any, request: Any) -> Any:
            with self._through_taps(request) as passage:
                passage.reply = original(client, passage.request)
            return passage.reply

        return send

    def async_tapped(self, original: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        """As ``tapped``, for a coroutine function."""

        async def send(client: Any, request: Any) -> Any:
            with self._through_taps(request) as passage:
                passage.reply = await original(client, passage.request)
            return passage.reply

        return send

    @contextmanager
    def _through_taps(self, request: Any) -> Iterator[SimpleNamespace]:
        """The block sends what is the ``request`` then, and sets ``reply``."""
        passage = SimpleNamespace(request=request)
        writers: list[ExchangeWriter] = []
        with ExitStack() as stack:
            for tap in reversed(TAPS):
                passage.request, writer = self.passed(tap, passage.request)
                if writer is not None:
                    stack.enter_context(writer.cut_on_error())
                    writers.append(writer)
            yield passage
        for writer in reversed(writers):
            self.watch(passage.reply, writer)


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


LM15 = ClientHooks(lambda tap, request: tap.request(request), _watch_lm15)
