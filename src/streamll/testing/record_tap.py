"""Requests on their way to a provider, and the replies on their way back.

Recording writes both down, replaying sends the request elsewhere. Both are taps (``RequestTap``)
in ``TAPS``; the functions that send requests pass each one through all of them.

DSPy's own client is tapped at its transport. DSPy calls LiteLLM in a few functions
(``marked_inside``): a request that httpx or httpx2 sends inside one of them passes the taps, after
capture has made a streaming request of it where it does that.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

from streamll.testing.record_file import ExchangeWriter

if TYPE_CHECKING:
    import httpx


RequestTap = Callable[[Any], tuple[Any, ExchangeWriter | None]]
"""Takes a request, which has ``url``, ``headers`` (pairs) and ``body``.

Returns the request as it is to be sent, and who writes the reply down, if anybody.
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

    @contextlib.contextmanager
    def _through_taps(self, request: Any) -> Iterator[SimpleNamespace]:
        """The block sends what is the ``request`` then, and sets ``reply``."""
        passage = SimpleNamespace(request=request)
        writers: list[ExchangeWriter] = []
        with contextlib.ExitStack() as stack:
            for tap in reversed(TAPS):
                passage.request, writer = self.passed(tap, passage.request)
                if writer is not None:
                    stack.enter_context(writer.cut_on_error())
                    writers.append(writer)
            yield passage
        for writer in reversed(writers):
            self.watch(passage.reply, writer)


def written_down(chunks: Iterator[bytes], writer: ExchangeWriter) -> Iterator[bytes]:
    with writer.cut_on_error():
        for chunk in chunks:
            writer.chunk(chunk)
            yield chunk
        writer.end()


async def awritten_down(
    chunks: AsyncIterator[bytes], writer: ExchangeWriter
) -> AsyncIterator[bytes]:
    with writer.cut_on_error():
        async for chunk in chunks:
            writer.chunk(chunk)
            yield chunk
        writer.end()


# --- DSPy's own client, lm15 ------------------------------------------------------------------


def _watch_lm15(reply: Any, writer: ExchangeWriter) -> None:
    writer.opened(reply.status, reply.headers)
    watched = awritten_down if hasattr(reply._chunks, "__aiter__") else written_down  # noqa: SLF001
    reply._chunks = watched(reply._chunks, writer)  # noqa: SLF001 - it offers no place to listen


LM15 = ClientHooks(lambda tap, request: tap(request), _watch_lm15)


# --- LiteLLM: where DSPy calls it -------------------------------------------------------------

_inside: ContextVar[bool] = ContextVar("streamll_inside_litellm", default=False)
_END = object()


@dataclass(frozen=True)
class OutgoingRequest:
    """A request of httpx's, as taps know requests."""

    url: str
    headers: list[tuple[str, str]]
    body: bytes


@contextlib.contextmanager
def _marked() -> Iterator[None]:
    token = _inside.set(True)
    try:
        yield
    finally:
        _inside.reset(token)


def marked_inside(original: Callable[..., Any]) -> Callable[..., Any]:
    """The same function; requests made inside it are LiteLLM's."""
    if inspect.isgeneratorfunction(original) or inspect.isasyncgenfunction(original):
        return _marked_generator(original)

    if not inspect.iscoroutinefunction(original):
        return _marked()(original)

    async def call(*args: Any, **kwargs: Any) -> Any:
        with _marked():
            return await original(*args, **kwargs)

    return call


def _marked_generator(original: Callable[..., Any]) -> Callable[..., Any]:
    """A generator is inside while it runs, and outside where it yields."""

    def generate(*args: Any, **kwargs: Any) -> Iterator[Any]:
        with contextlib.closing(original(*args, **kwargs)) as items:
            while True:
                with _marked():
                    item = next(items, _END)
                if item is _END:
                    return
                yield item

    async def agenerate(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        async with contextlib.aclosing(original(*args, **kwargs)) as items:
            while True:
                with _marked():
                    item = await anext(items, _END)
                if item is _END:
                    return
                yield item

    return agenerate if inspect.isasyncgenfunction(original) else generate


# --- LiteLLM: httpx and httpx2 ------------------------------------------------------------------------


def httpx_tapped(library: str, original: Callable[..., Any]) -> Callable[..., Any]:
    """``Client._send_single_request`` of ``library``: httpx or httpx2."""
    tapped = _hooks(library).tapped(original)

    def send(client: Any, request: httpx.Request) -> httpx.Response:
        if not _inside.get():
            return original(client, request)  # type: ignore[no-any-return]
        request.read()
        response: httpx.Response = tapped(client, request)
        response.request = request
        return response

    return send


def httpx_async_tapped(library: str, original: Callable[..., Any]) -> Callable[..., Any]:
    """``AsyncClient._send_single_request`` of ``library``."""
    tapped = _hooks(library).async_tapped(original)

    async def send(client: Any, request: httpx.Request) -> httpx.Response:
        if not _inside.get():
            return await original(client, request)  # type: ignore[no-any-return]
        await request.aread()
        response: httpx.Response = await tapped(client, request)
        response.request = request
        return response

    return send


def _hooks(name: str) -> ClientHooks:
    library: Any = importlib.import_module(name)

    class WrittenStream(library.SyncByteStream, library.AsyncByteStream):  # type: ignore[misc]
        """The body of a reply, written down while it is read."""

        def __init__(self, stream: Any, writer: ExchangeWriter) -> None:
            self._stream = stream
            self._writer = writer

        def __iter__(self) -> Iterator[bytes]:
            return written_down(self._stream, self._writer)

        def __aiter__(self) -> AsyncIterator[bytes]:
            return awritten_down(self._stream, self._writer)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._stream, name)  # httpx2 reads ``elapsed`` here

        def close(self) -> None:
            self._writer.end(GeneratorExit())
            self._stream.close()

        async def aclose(self) -> None:
            self._writer.end(GeneratorExit())
            await self._stream.aclose()

    def passed(tap: RequestTap, request: httpx.Request) -> tuple[Any, ExchangeWriter | None]:
        outgoing = OutgoingRequest(str(request.url), request.headers.multi_items(), request.content)
        wanted, writer = tap(outgoing)
        if wanted is not outgoing:
            request = library.Request(
                request.method,
                wanted.url,
                headers=wanted.headers,
                content=wanted.body,
                extensions=request.extensions,
            )
        return request, writer

    def watch(response: httpx.Response, writer: ExchangeWriter) -> None:
        writer.opened(response.status_code, response.headers.multi_items())
        response.stream = WrittenStream(response.stream, writer)

    return ClientHooks(passed, watch)
