"""LiteLLM's replies, heard below LiteLLM: on the HTTP client it uses.

LiteLLM's own streaming gives another reply than its plain call: no refusal, another model name,
other usage, a made-up time. So LiteLLM makes its plain call, and the request that leaves it
through httpx is sent as one for a stream; what comes back is shown and rebuilt into the plain
reply, which LiteLLM then reads, prices and logs as ever.

That works for the wires that ``wire`` knows, whichever provider speaks them. Requests to other
addresses, requests that are streams already, signed ones, and servers that refuse to stream go
through untouched; then nothing is heard here, and the tap tells the reply in one piece.

Errors travel the same way: an error inside a stream becomes the HTTP error it would have been, a
cut stream the network error of a cut body, and LiteLLM decides what they mean.

Inside ``dspy.streamify`` LiteLLM streams by itself: ``HeardSendStream`` hears what DSPy passes on.
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import dspy
from dspy.clients.engines.litellm_engine import AsyncLiteLLMEngine, LiteLLMEngine

from streamll.capture.run.scope import current_scope
from streamll.capture.tap.listener import Guarded, logger
from streamll.capture.tap.unsupported import StreamingUnsupported
from streamll.capture.tap.waits import run_blocking
from streamll.capture.tap.wire.anthropic import AnthropicAssembler
from streamll.capture.tap.wire.base import Confused, CutShort, ErrorFrame, MalformedFrame
from streamll.capture.tap.wire.chat import ChatAssembler
from streamll.capture.tap.wire.gemini import GeminiAssembler
from streamll.capture.tap.wire.reply import WireReply
from streamll.capture.tap.wire.responses import ResponsesAssembler

if TYPE_CHECKING:
    import httpx

_WIRES: tuple[tuple[str, type[Any]], ...] = (
    ("/chat/completions", ChatAssembler),
    ("/responses", ResponsesAssembler),
    ("/messages", AnthropicAssembler),
    (":generateContent", GeminiAssembler),
)
_UNSIGNED = frozenset({"", "bearer", "basic"})  # a signature would not fit the changed request
_OF_THE_BODY = frozenset({b"content-length", b"content-encoding", b"transfer-encoding"})
_refusals = StreamingUnsupported()


def is_litellm(engine: Any) -> bool:
    return isinstance(engine, (LiteLLMEngine, AsyncLiteLLMEngine))


def listening(
    listener: Guarded, owner: Any
) -> AbstractContextManager[Tee] | AbstractContextManager[HeardSendStream]:
    """What to complete under; ``heard`` of what it gives says whether the reply was streamed."""
    if dspy.settings.send_stream is not None or (_is_replaced() and send_stream() is not None):
        return hearing_chunks(listener)
    return Tee(listener, owner).listening()


def send_stream() -> Any:
    """Where chunks may be sent: DSPy's own stream, or that of a call to ``streamll.streamify``."""
    scope = current_scope()
    ours = scope.send_stream if scope is not None else None
    return dspy.settings.send_stream or ours


def hearing_chunks(listener: Guarded) -> AbstractContextManager[HeardSendStream]:
    """Inside, chunks that are sent are heard on their way."""
    return HeardSendStream(send_stream(), listener).listening()


def _is_replaced() -> bool:
    """Somebody has put chunks in LiteLLM's place (a test), so there is no HTTP to listen to.

    DSPy asks for these chunks if there is a stream to send them to.
    """
    function = getattr(sys.modules.get("litellm"), "acompletion", None)
    return not getattr(function, "__module__", "litellm").startswith("litellm")


class Tee:
    """The requests of one attempt. ``owner`` remembers which addresses refuse to stream."""

    def __init__(self, listener: Guarded, owner: Any) -> None:
        self.heard = False
        """The reply that LiteLLM got had been streamed, and shown."""
        self._listener = listener
        self._owner = owner
        self._cut: Exception | None = None

    @contextmanager
    def listening(self) -> Iterator[Tee]:
        """Of the requests made inside, those that can be streamed are."""
        token = _current.set(self)
        try:
            yield self
        finally:
            _current.reset(token)

    async def send(self, client: Any, request: httpx.Request) -> httpx.Response:
        """What ``client`` would have answered to ``request``."""
        asked = _as_stream(client.library, request, self._listener)
        if asked is None or _refusals.knows(self._owner, str(request.url)):
            plain: httpx.Response = await client.send(request)
            return plain
        self._again()
        streaming_request, assembler = asked
        reply = WireReply(assembler)
        response = await client.open(streaming_request)
        try:
            reply.opened(response.status_code)
            await client.read(response, reply, self._listener)
            status, body = reply.status, reply.body()
        except Confused as fault:
            return await self._despite(fault, client, request)
        except ErrorFrame as fault:
            status, body = fault.status, fault.body
        except MalformedFrame as fault:
            status, body = reply.status, fault.data
        except CutShort as fault:
            self._cut = client.library.RemoteProtocolError(str(fault), request=request)
            raise self._cut from None
        except client.library.TransportError as error:
            if not reply.complete:
                self._cut = error
                raise
            status, body = reply.status, reply.body()
        finally:
            await client.close(response)
        if reply.refused:
            return await self._plainly(client, request)
        self.heard = reply.streamed
        return _rebuilt(client.library, response, request, status, body, streamed=reply.streamed)

    async def _plainly(self, client: Any, request: httpx.Request) -> httpx.Response:
        """Where this succeeds it was the stream that did not: not to be asked for again."""
        response: httpx.Response = await client.send(request)
        if response.is_success:
            _refusals.remember(self._owner, str(request.url))
        return response

    async def _despite(
        self, fault: Confused, client: Any, request: httpx.Request
    ) -> httpx.Response:
        fault.report(logger)
        self._listener.failed(fault)
        self._listener.begin()
        return await self._plainly(client, request)

    def _again(self) -> None:
        """LiteLLM, or the SDK beneath it, tries again by itself: a new attempt to the listener."""
        if self._cut is not None:
            self._listener.failed(self._cut)
            self._cut = None
            self._listener.begin()


_current: ContextVar[Tee | None] = ContextVar("streamll_litellm_tee", default=None)


def _as_stream(
    library: Any, request: httpx.Request, listener: Guarded
) -> tuple[httpx.Request, Any] | None:
    """The same request for a stream and the reader of its reply, or None."""
    path = request.url.path
    assembler = next((each for end, each in _WIRES if path.endswith(end)), None)
    scheme = request.headers.get("authorization", "").partition(" ")[0].lower()
    if assembler is None or request.method != "POST" or scheme not in _UNSIGNED:
        return None
    try:
        body = json.loads(request.content)
    except (ValueError, library.RequestNotRead):
        return None
    if not isinstance(body, dict) or body.get("stream"):
        return None
    url = request.url
    if assembler is GeminiAssembler:
        path = path.removesuffix(":generateContent") + ":streamGenerateContent"
        url = url.copy_with(path=path).copy_merge_params({"alt": "sse"})
    else:
        body["stream"] = True
    if assembler is ChatAssembler:
        body["stream_options"] = {"include_usage": True}
    headers = _without(_OF_THE_BODY, request.headers)
    content = json.dumps(body).encode()
    streaming_request = library.Request(
        request.method, url, headers=headers, content=content, extensions=request.extensions
    )
    return streaming_request, assembler(listener)


def _rebuilt(
    library: Any,
    response: httpx.Response,
    request: httpx.Request,
    status: int,
    body: bytes,
    *,
    streamed: bool,
) -> httpx.Response:
    headers = _without(_OF_THE_BODY, response.headers)
    if streamed:
        headers = _without({b"content-type"}, library.Headers(headers))
        headers.append((b"content-type", b"application/json"))
    plain: httpx.Response = library.Response(
        status,
        headers=headers,
        content=body,
        request=request,
        history=response.history,
        default_encoding=response.default_encoding,
    )
    plain.elapsed = response.elapsed
    return plain


def _without(names: AbstractSet[bytes], headers: httpx.Headers) -> list[tuple[bytes, bytes]]:
    return [pair for pair in headers.raw if pair[0].lower() not in names]


# --- httpx, blocking and waiting ------------------------------------------------------------------


class _Client:
    def __init__(self, library: str, send: Callable[..., Any]) -> None:
        self.library = sys.modules[library]
        self._send = send

    async def open(self, request: httpx.Request) -> Any:
        return self._send(request, stream=True)

    async def send(self, request: httpx.Request) -> Any:
        return self._send(request, stream=False)

    async def read(self, response: httpx.Response, reply: WireReply, listener: Guarded) -> None:
        for chunk in response.iter_bytes():
            reply.feed(chunk)
            if listener.wants_pause():
                listener.pause()

    async def close(self, response: httpx.Response) -> None:
        response.close()


class _AsyncClient:
    def __init__(self, library: str, send: Callable[..., Any]) -> None:
        self.library = sys.modules[library]
        self._send = send

    async def open(self, request: httpx.Request) -> Any:
        return await self._send(request, stream=True)

    async def send(self, request: httpx.Request) -> Any:
        return await self._send(request, stream=False)

    async def read(self, response: httpx.Response, reply: WireReply, listener: Guarded) -> None:
        async for chunk in response.aiter_bytes():
            reply.feed(chunk)
            if listener.wants_pause():
                await listener.pause_async()

    async def close(self, response: httpx.Response) -> None:
        await response.aclose()


def teed(library: str, original: Callable[..., Any]) -> Callable[..., Any]:
    """``Client.send`` of ``library``: httpx or httpx2."""

    def send(client: Any, request: httpx.Request, *, stream: bool = False, **options: Any) -> Any:
        tee = _current.get()
        if tee is None or stream:
            return original(client, request, stream=stream, **options)
        plain = functools.partial(original, client, **options)
        return run_blocking(tee.send(_Client(library, plain), request))

    return send


def async_teed(library: str, original: Callable[..., Any]) -> Callable[..., Any]:
    """``AsyncClient.send`` of ``library``: a plain function may return the coroutine."""

    def send(client: Any, request: httpx.Request, *, stream: bool = False, **options: Any) -> Any:
        tee = _current.get()
        if tee is None or stream:
            return original(client, request, stream=stream, **options)
        plain = functools.partial(original, client, **options)
        return tee.send(_AsyncClient(library, plain), request)

    return send


# --- inside dspy.streamify --------------------------------------------------------------------------


class HeardSendStream:
    """Where DSPy sends LiteLLM's chunks: each is heard, then goes its way."""

    def __init__(self, stream: Any, listener: Guarded) -> None:
        self.heard = False
        self._stream = stream
        self._listener = listener

    @contextmanager
    def listening(self) -> Iterator[HeardSendStream]:
        with dspy.settings.context(send_stream=self):
            yield self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    async def send(self, chunk: Any) -> None:
        choices: Any = getattr(chunk, "choices", None)
        delta = getattr(choices[0], "delta", None) if choices else None
        if delta is not None and not getattr(choices[0], "index", 0):
            self.heard = True
            self._listener.chunk(chunk)
            self._show(delta)
            if self._listener.wants_pause():
                await self._listener.pause_async()
        await self._stream.send(chunk)

    def _show(self, delta: Any) -> None:
        thought = getattr(delta, "reasoning_content", None)
        if isinstance(thought, str) and thought:
            self._listener.thinking(thought)
        text = getattr(delta, "content", None)
        if isinstance(text, str) and text:
            self._listener.text(text)
        for call in getattr(delta, "tool_calls", None) or ():
            function = getattr(call, "function", None)
            self._listener.tool_call(
                getattr(call, "index", 0) or 0,
                getattr(call, "id", None),
                getattr(function, "name", None),
                getattr(function, "arguments", None) or "",
            )
