"""LiteLLM's replies, tapped below LiteLLM: on the HTTP client it uses.

LiteLLM's own streaming gives another reply than its plain call: no refusal, another model name,
other usage, an invented time. So LiteLLM makes its plain call, and the request that leaves it
through httpx is sent as one for a stream. What comes back is shown and rebuilt into the plain reply
(or the HTTP error, or the network error of a cut body), which LiteLLM then reads as usual. A
request that it makes again by itself, as DSPy before 3.4 asks it to, is a further attempt.

Requests to addresses of no wire known to ``wire``, requests that are streams already or ask for sound,
signed ones, and servers that refuse to stream pass untouched; their replies are delivered in one piece.

Inside ``dspy.streamify`` LiteLLM streams by itself: ``TappedSendStream`` reads what DSPy passes on.
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

from streamll.capture.run.scope import current_scope
from streamll.capture.tap import unsupported
from streamll.capture.tap.listener import Guarded, logger
from streamll.capture.tap.waits import Blocking, Suspending, Waits
from streamll.capture.tap.whole import deltas_of_chunk
from streamll.capture.tap.wire.anthropic import AnthropicAssembler
from streamll.capture.tap.wire.base import (
    AskAgain,
    CutShort,
    ErrorFrame,
    UnknownShape,
    listed,
    mapping,
    string,
)
from streamll.capture.tap.wire.chat import ONLY_PLAIN, ChatAssembler
from streamll.capture.tap.wire.gemini import GeminiAssembler
from streamll.capture.tap.wire.reply import WireReply
from streamll.capture.tap.wire.responses import ResponsesAssembler

if TYPE_CHECKING:
    import httpx

ASSEMBLERS = {
    "/chat/completions": ChatAssembler,
    "/responses": ResponsesAssembler,
    "/messages": AnthropicAssembler,
    ":generateContent": GeminiAssembler,
}
"""The wires by the end of their requests' paths."""

_UNSIGNED = frozenset({"", "bearer", "basic"})  # a signature would not fit the changed request
_BODY_HEADERS = frozenset({b"content-length", b"content-encoding", b"transfer-encoding"})


def tapped(
    listener: Guarded, owner: Any, model: str
) -> AbstractContextManager[Tee] | AbstractContextManager[TappedSendStream]:
    """A context to complete in; its ``streamed`` is whether the reply was streamed."""
    if dspy.settings.send_stream is not None or (_is_replaced() and send_stream() is not None):
        return tapped_chunks(listener, shows_chunks=True)
    return Tee(listener, owner, model).entered()


def send_stream() -> Any:
    """Where chunks may be sent: DSPy's own stream, or that of a call to ``streamll.streamify``."""
    scope = current_scope()
    ours = scope.send_stream if scope is not None else None
    return dspy.settings.send_stream or ours


@contextmanager
def tapped_chunks(listener: Guarded, *, shows_chunks: bool = False) -> Iterator[TappedSendStream]:
    """A context in which chunks sent to DSPy's stream are tapped on their way.

    ``shows_chunks``: DSPy's own streaming has chunks of such a reply even if none is sent.
    """
    stream = TappedSendStream(send_stream(), listener, shows_chunks=shows_chunks)
    with dspy.settings.context(send_stream=stream):
        yield stream


def _is_replaced() -> bool:
    """Whether LiteLLM's function has been replaced (by a test), so that there is no HTTP to tap.

    DSPy asks the replacement for chunks if there is a stream to send them to.
    """
    function = getattr(sys.modules.get("litellm"), "acompletion", None)
    return not getattr(function, "__module__", "litellm").startswith("litellm")


class Tee:
    """The requests of one attempt. ``owner`` is the object to remember refusing addresses with,
    ``model`` the LM's, with its provider.
    """

    shows_chunks = True

    def __init__(self, listener: Guarded, owner: Any, model: str) -> None:
        self.streamed = False
        """The reply that LiteLLM got was streamed, and has been shown."""
        self._listener = listener
        self._owner = owner
        self._provider = model.partition("/")[0]
        self._failure: Exception | None = None  # of the last request

    @contextmanager
    def entered(self) -> Iterator[Tee]:
        """Of the requests made inside, those that can be streamed are."""
        token = _current.set(self)
        try:
            yield self
        finally:
            _current.reset(token)

    async def send(
        self, waits: Waits, library: Any, send: Callable[..., Any], request: httpx.Request
    ) -> httpx.Response:
        """What ``send``, an httpx client's method, would have answered to ``request``."""
        self._begin_again()
        try:
            response = await self._answer(waits, library, send, request)
        except library.TransportError as error:
            self._listener.check()  # an interrupted read looks like this, and would be repeated
            self._failure = error
            raise
        if response.is_error:
            self._failure = HTTPFailure(response.status_code)
        return response

    async def _answer(
        self, waits: Waits, library: Any, send: Callable[..., Any], request: httpx.Request
    ) -> httpx.Response:
        as_stream = _as_stream(library, request, self._provider)
        if as_stream is None or unsupported.knows(self._owner, str(request.url)):
            plain: httpx.Response = await waits.call(send, request, stream=False)
            return plain
        streaming_request, assembler = as_stream
        reply = WireReply(assembler)
        self._listener.sent(reply)
        response = await waits.call(send, streaming_request, stream=True)
        try:
            reply.opened(response.status_code)
            await waits.read_http(response, reply, self._listener)
        except library.TransportError:
            if not reply.outlives_a_cut:
                raise
            reply.give_up()
        self._listener.hear(reply.finish())
        refused, again = reply.refused, None
        try:
            status, body = reply.status, reply.body()
        except AskAgain as fault:
            fault.report(logger)
            self._listener.failed(fault)
            self._listener.begin()
            refused, again = isinstance(fault, UnknownShape), fault
        except ErrorFrame as fault:
            status, body = fault.status, fault.body
        except CutShort as fault:
            raise library.RemoteProtocolError(str(fault), request=request) from None
        if refused or again:
            plain = await waits.call(send, request, stream=False)
            if refused and plain.is_success:  # the address is not asked to stream again
                unsupported.remember(self._owner, str(request.url))
            return plain
        self.streamed = reply.streamed
        return _rebuilt(library, response, request, status, body, streamed=reply.streamed)

    def _begin_again(self) -> None:
        """After a failure: LiteLLM, or the SDK beneath it, retries by itself. A new attempt."""
        failure, self._failure = self._failure, None
        if failure is not None:
            self._listener.failed(failure)
            self._listener.begin()


class HTTPFailure(Exception):
    """A request was answered with an error, and is made again by LiteLLM or the SDK beneath it."""

    def __init__(self, status: int) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status


_current: ContextVar[Tee | None] = ContextVar("streamll_litellm_tee", default=None)


def _as_stream(
    library: Any, request: httpx.Request, provider: str
) -> tuple[httpx.Request, Any] | None:
    """The same request for a stream and the assembler of its reply, or None."""
    path = request.url.path
    ends = (end for end in ASSEMBLERS if path.endswith(end))
    assembler: type[Any] | None = next((ASSEMBLERS[end] for end in ends), None)
    scheme = request.headers.get("authorization", "").partition(" ")[0].lower()
    if assembler is None or request.method != "POST" or scheme not in _UNSIGNED:
        return None
    try:
        body = json.loads(request.content)
    except (ValueError, library.RequestNotRead):
        return None
    if not isinstance(body, dict) or body.get("stream") or _asks_for_sound(body):
        return None
    url = request.url
    if assembler is GeminiAssembler:
        path = path.removesuffix(":generateContent") + ":streamGenerateContent"
        url = url.copy_with(path=path).copy_merge_params({"alt": "sse"})
    else:
        body["stream"] = True
    if assembler is ChatAssembler:
        body["stream_options"] = {"include_usage": True}
    made = _assembler(assembler, body, provider)
    headers = _without(_BODY_HEADERS, request.headers)
    content = json.dumps(body).encode()
    streaming_request = library.Request(
        request.method, url, headers=headers, content=content, extensions=request.extensions
    )
    return streaming_request, made


def _asks_for_sound(body: dict[str, Any]) -> bool:
    """Whether a reply has sound: in a stream it would be in pieces, of one format, and not heard."""
    configured = mapping(body.get("generationConfig"))
    wanted = [*listed(body.get("modalities")), *listed(configured.get("responseModalities"))]
    return any(string(each).lower() == "audio" for each in wanted)


def _assembler(kind: type[Any], body: dict[str, Any], provider: str) -> Any:
    """A new assembler, as LiteLLM reads the reply: several choices, summaries without a break."""
    if kind is ChatAssembler:
        choices = body.get("n")
        return ChatAssembler(choices if type(choices) is int else 1, ONLY_PLAIN.get(provider))
    if kind is ResponsesAssembler:
        return ResponsesAssembler(thought_break="", fails_by_status=True)
    if kind is GeminiAssembler:
        configured = mapping(body.get("generationConfig"))
        candidates = configured.get("candidate_count") or configured.get("candidateCount")
        return GeminiAssembler(candidates if type(candidates) is int else 1)
    return kind()


def _rebuilt(
    library: Any,
    response: httpx.Response,
    request: httpx.Request,
    status: int,
    body: bytes,
    *,
    streamed: bool,
) -> httpx.Response:
    headers = _without(_BODY_HEADERS, response.headers)
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


def teed(library: str, original: Callable[..., Any], *, asynchronous: bool) -> Callable[..., Any]:
    """``Client.send`` or ``AsyncClient.send`` of ``library``: httpx or httpx2."""
    waits = Suspending() if asynchronous else Blocking()

    def send(client: Any, request: httpx.Request, *, stream: bool = False, **options: Any) -> Any:
        tee = _current.get()
        if tee is None or stream:
            return original(client, request, stream=stream, **options)
        plain = functools.partial(original, client, **options)
        return waits.run(tee.send(waits, sys.modules[library], plain, request))

    return send


class TappedSendStream:
    """Where DSPy sends LiteLLM's chunks: each is read, then passed on."""

    def __init__(self, stream: Any, listener: Guarded, *, shows_chunks: bool) -> None:
        self.streamed = False
        self.shows_chunks = shows_chunks
        self._stream = stream
        self._listener = listener

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    async def send(self, chunk: Any) -> None:
        if deltas := list(deltas_of_chunk(chunk)):
            self.streamed = True
            if self._listener.hear(deltas):
                await self._listener.pause_async()
        await self._stream.send(chunk)
