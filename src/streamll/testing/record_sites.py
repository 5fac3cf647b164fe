"""Where DSPy's requests pass on their way to a provider, and the replies on their way back.

Recording writes both down, replaying sends the request elsewhere. Both are taps (``RequestTap``).
While at least one is running, the functions of ``TABLES`` are replaced, and every request that
DSPy makes passes all taps, the latest first.

DSPy's own client is tapped at its transport. Requests through LiteLLM are tapped at httpx or
httpx2, after capture has made a streaming request of it where it does that, and only those made
inside the few functions by which DSPy calls LiteLLM. Other requests of the process pass untouched,
and requests that a provider's SDK makes by other means are not seen.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from streamll.patching import PatchSite, PatchTable
from streamll.testing.record_file import ExchangeWriter

if TYPE_CHECKING:
    import httpx


RequestTap = Callable[[Any], tuple[Any, ExchangeWriter | None]]
"""Takes a request, which has ``url``, ``headers`` (pairs) and ``body``.

Returns the request as it is to be sent, and who writes the reply down, if anybody.
"""

_taps: list[RequestTap] = []
_lock = threading.Lock()


@contextlib.contextmanager
def tapped_requests(tap: RequestTap) -> Iterator[None]:
    """Inside, every request that DSPy makes passes ``tap``, whichever client makes it."""
    with _lock:
        _taps.append(tap)
        for table in tables_here().values():
            table.install()
    try:
        yield
    finally:
        with _lock:
            _taps.remove(tap)
            if not _taps:
                for table in tables_here().values():
                    table.uninstall()


class WrittenStream:
    """The body of a reply, written down while it is read."""

    def __init__(self, stream: Any, writer: ExchangeWriter) -> None:
        self._stream = stream
        self._writer = writer

    def __iter__(self) -> Iterator[bytes]:
        with self._writer.cut_on_error():
            for chunk in self._stream:
                self._writer.chunk(chunk)
                yield chunk
            self._writer.end()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with self._writer.cut_on_error():
            async for chunk in self._stream:
                self._writer.chunk(chunk)
                yield chunk
            self._writer.end()

    def __getattr__(self, name: str) -> Any:
        if name in (
            "gi_frame",
            "ag_frame",
        ):  # by which capture would read past what is written down
            raise AttributeError(name)
        return getattr(self._stream, name)  # httpx2 reads ``elapsed`` here

    def close(self) -> None:
        self._writer.end(GeneratorExit())
        self._stream.close()

    async def aclose(self) -> None:
        self._writer.end(GeneratorExit())
        await self._stream.aclose()


class TappedClient:
    """DSPy's own client, lm15, whose requests are as taps take them."""

    def tapped(self, original: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        """``original(client, request)``, a function or a coroutine function, behind the taps."""

        def send(client: Any, request: Any) -> Any:
            with self._passage(request) as passage:
                passage.reply = original(client, passage.request)
            return passage.reply

        async def asend(client: Any, request: Any) -> Any:
            with self._passage(request) as passage:
                passage.reply = await original(client, passage.request)
            return passage.reply

        return asend if inspect.iscoroutinefunction(original) else send

    @contextlib.contextmanager
    def _passage(self, request: Any) -> Iterator[SimpleNamespace]:
        """The block sends what is the ``request`` then, and sets ``reply``."""
        passage = SimpleNamespace(request=request)
        writers: list[ExchangeWriter] = []
        with contextlib.ExitStack() as stack:
            for tap in reversed(_taps):
                passage.request, writer = self._passed(tap, passage.request)
                if writer is not None:
                    stack.enter_context(writer.cut_on_error())
                    writers.append(writer)
            yield passage
        for writer in reversed(writers):
            self._watch(passage.reply, writer)

    def _passed(self, tap: RequestTap, request: Any) -> tuple[Any, ExchangeWriter | None]:
        return tap(request)

    def _watch(self, reply: Any, writer: ExchangeWriter) -> None:
        """Make a reply write itself down while it is read."""
        writer.opened(reply.status, reply.headers)
        reply._chunks = WrittenStream(reply._chunks, writer)  # noqa: SLF001 - it offers no place to listen


# --- LiteLLM --------------------------------------------------------------------------------------

_inside: ContextVar[bool] = ContextVar("streamll_inside_litellm", default=False)


@dataclass(frozen=True)
class OutgoingRequest:
    """A request of httpx's, as taps know requests."""

    url: str
    headers: list[tuple[str, str]]
    body: bytes


class TappedHTTPX(TappedClient):
    """The clients of ``library``, httpx or httpx2, where LiteLLM uses them for DSPy."""

    def __init__(self, library: str) -> None:
        self._library: Any = importlib.import_module(library)
        bases = WrittenStream, self._library.SyncByteStream, self._library.AsyncByteStream
        self._written_stream = type("WrittenStream", bases, {})

    @contextlib.contextmanager
    def _passage(self, request: httpx.Request) -> Iterator[SimpleNamespace]:
        if not _inside.get():
            yield SimpleNamespace(request=request)
            return
        with super()._passage(request) as passage:
            yield passage
        passage.reply.request = request

    def _passed(self, tap: RequestTap, request: httpx.Request) -> tuple[Any, ExchangeWriter | None]:
        outgoing = OutgoingRequest(str(request.url), request.headers.multi_items(), request.read())
        wanted, writer = tap(outgoing)
        if wanted is not outgoing:
            request = self._library.Request(
                request.method,
                wanted.url,
                headers=wanted.headers,
                content=wanted.body,
                extensions=request.extensions,
            )
        return request, writer

    def _watch(self, reply: httpx.Response, writer: ExchangeWriter) -> None:
        writer.opened(reply.status_code, reply.headers.multi_items())
        reply.stream = self._written_stream(reply.stream, writer)


def _httpx_tapped(library: str, original: Callable[..., Any]) -> Callable[..., Any]:
    return TappedHTTPX(library).tapped(original)


@contextlib.contextmanager
def _marked() -> Iterator[None]:
    token = _inside.set(True)
    try:
        yield
    finally:
        _inside.reset(token)


class _MarkedItems:
    """What a generator yields; it is inside while it runs, and outside where it yields."""

    def __init__(self, items: Any) -> None:
        self._items = items

    def __iter__(self) -> _MarkedItems:
        return self

    __aiter__ = __iter__

    def __next__(self) -> Any:
        with _marked():
            return next(self._items)

    async def __anext__(self) -> Any:
        with _marked():
            return await anext(self._items)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._items, name)  # ``close`` or ``aclose``


def _marked_inside(original: Callable[..., Any]) -> Callable[..., Any]:
    """The same function; requests made inside it are LiteLLM's."""
    if inspect.isgeneratorfunction(original) or inspect.isasyncgenfunction(original):
        return lambda *args, **kwargs: _MarkedItems(original(*args, **kwargs))
    if not inspect.iscoroutinefunction(original):
        return _marked()(original)

    async def call(*args: Any, **kwargs: Any) -> Any:
        with _marked():
            return await original(*args, **kwargs)

    return call


# --- the table ------------------------------------------------------------------------------------

_LM15 = "dspy._vendor.lm15.transports"
_LM15_LOST = "these requests are neither recorded nor replayed"
_LITELLM_LOST = "requests through LiteLLM are neither recorded nor replayed"
_HTTPX = "every request of this client; those that LiteLLM makes for DSPy are tapped", _LITELLM_LOST
_MARKED = "marks the requests made inside as LiteLLM's", _LITELLM_LOST
_REQUESTS = ("completion", "responses_completion", "text_completion")

RECORDING = PatchTable(
    *(
        PatchSite(library, owner, "_send_single_request", partial(_httpx_tapped, library), *_HTTPX)
        for library in ("httpx", "httpx2")
        for owner in ("Client", "AsyncClient")
    ),
    *(
        PatchSite(module, None, name, _marked_inside, *_MARKED)
        for module, names in (
            ("dspy.clients.lm", [f"{a}litellm_{name}" for name in _REQUESTS for a in ("", "a")]),
            ("dspy.clients.embedding", ("_compute_embeddings", "_acompute_embeddings")),
        )
        for name in names
    ),
)

RECORDING_ENGINES = PatchTable(
    PatchSite(f"{_LM15}._sync", "StdlibTransport", "stream", TappedClient().tapped,
        "every synchronous request of DSPy's own provider client", _LM15_LOST),
    PatchSite(f"{_LM15}._async", "StdlibAsyncTransport", "_do_stream", TappedClient().tapped,
        "every asynchronous request of DSPy's own provider client", _LM15_LOST),
    *(
        PatchSite("dspy.clients.engines.litellm_engine", owner, name, _marked_inside, *_MARKED)
        for owner in ("LiteLLMEngine", "AsyncLiteLLMEngine")
        for name in ("complete", "stream")
    ),
)  # fmt: skip

TABLES = {
    "Recording and replaying": RECORDING,
    "Recording and replaying, DSPy 3.4": RECORDING_ENGINES,
}


def tables_here() -> dict[str, PatchTable]:
    """Those of ``TABLES`` that concern the DSPy which is installed."""
    from streamll.capture.inside_dspy import HAS_ENGINES

    return TABLES if HAS_ENGINES else {"Recording and replaying": RECORDING}
