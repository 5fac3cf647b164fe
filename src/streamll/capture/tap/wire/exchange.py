"""What lm15 makes of a wire: its request builder before, its response parser after.

lm15 builds the request and makes the ``Response``; in between a stream is asked for, shown, and
rebuilt into the body of a reply that was not streamed. So whatever lm15 reads in a body (ids,
served model, usage, refusals, errors) is the same with and without streaming.

This is the one module that knows lm15's private parts. It does no I/O.
"""

# ruff: noqa: SLF001 - private parts of lm15 are what this is about

from __future__ import annotations

from typing import Any

from dspy import lm15
from dspy._vendor.lm15.providers.anthropic import AnthropicLM
from dspy._vendor.lm15.providers.async_base import AsyncBaseProviderLM, AsyncOpenAIChatLM
from dspy._vendor.lm15.providers.base import (
    BaseProviderLM,
    HttpResponse,
    NetworkTransportError,
    _attach_error_metadata,
    _client_side_stop,
)
from dspy._vendor.lm15.providers.gemini import GeminiLM
from dspy._vendor.lm15.providers.openai import OpenAILM
from dspy._vendor.lm15.providers.openai_chat import OpenAIChatLM
from dspy.clients.engines.lm15_engine import AsyncLM15Engine, LM15Engine

from streamll.capture.tap.wire.anthropic import AnthropicAssembler
from streamll.capture.tap.wire.base import (
    LEAST_ERROR,
    Assembler,
    Confused,
    CutShort,
    ErrorFrame,
    Hearer,
    MalformedFrame,
    WireFault,
)
from streamll.capture.tap.wire.chat import ChatAssembler
from streamll.capture.tap.wire.gemini import GeminiAssembler
from streamll.capture.tap.wire.reply import WireReply
from streamll.capture.tap.wire.responses import ResponsesAssembler

__all__ = [
    "Exchange",
    "NetworkTransportError",
    "assembler_for",
    "can_stream",
    "engine_is_lm15",
    "lost",
]

_ASSEMBLERS: tuple[tuple[type, type[Any]], ...] = (
    (OpenAIChatLM, ChatAssembler),
    (OpenAILM, ResponsesAssembler),
    (AnthropicLM, AnthropicAssembler),
    (GeminiLM, GeminiAssembler),
)
# The ways of completing that send one request and parse its body. A provider class with a way
# of its own (Codex materialises a stream of events) is not for us to imitate.
_ORDINARY_COMPLETIONS = frozenset(
    {
        BaseProviderLM.complete,
        OpenAILM.complete,
        OpenAIChatLM.complete,
        AsyncBaseProviderLM.complete,
        AsyncOpenAIChatLM.complete,
    }
)


def engine_is_lm15(engine: Any) -> bool:
    """One of lm15's engines, completing as lm15 completes."""
    completes = getattr(type(engine), "complete", None)
    ordinary = completes is LM15Engine.complete or completes is AsyncLM15Engine.complete
    return ordinary and "complete" not in vars(engine)


def can_stream(provider: Any, request: Any) -> bool:
    """Whether a stream of this provider can say what its reply says.

    It cannot where lm15 itself cuts the reply (a stop sequence that the wire cannot carry), and
    where a declared server's streams come without usage.
    """
    if not provider.supports.stream:
        return False
    inner = getattr(provider, "_inner", provider)
    if (
        isinstance(inner, OpenAIChatLM)
        and inner._compat_for(request.model).stream_usage != "include"
    ):
        return False
    return not (request.config.stop and _client_side_stop(provider.plan(request)))


def lost(error: Exception) -> Any:
    """What lm15 calls an error of its transport."""
    return lm15.TransportError(str(error))


def assembler_for(provider: Any, listener: Hearer) -> Assembler | None:
    """The assembler of a bound provider's wire; None for a wire or a completion unknown here."""
    inner = getattr(provider, "_inner", provider)  # an async provider maps through a sync one
    if type(provider).complete not in _ORDINARY_COMPLETIONS or getattr(inner, "_codex", False):
        return None
    for dialect, assembler in _ASSEMBLERS:
        if isinstance(inner, dialect):
            made: Assembler = assembler(listener)
            return made
    return None


class Exchange:
    """``opened`` with the reply's head, ``feed`` its body, then ask for the ``response``.

    Raises what lm15 raises: a provider's error, a transport error where the reply was cut.
    """

    def __init__(self, provider: Any, request: Any, adaptations: Any, assembler: Assembler) -> None:
        self.reply = WireReply(assembler)
        self._provider = getattr(provider, "_inner", provider)
        self._policy = provider.adaptations
        self._request = request
        self._adaptations = adaptations
        self._head: Any = None

    def opened(self, head: Any) -> None:
        """The status line and headers of lm15's transport response; not its body."""
        self._head = head
        self.reply.opened(head.status)

    def feed(self, chunk: bytes) -> None:
        try:
            self.reply.feed(chunk)
        except Confused:
            raise
        except WireFault as fault:
            raise self._error(fault) from None

    def response(self) -> Any:
        """The ``Response`` that the provider's ``complete`` would have returned."""
        try:
            body = self.reply.body()
        except Confused:
            raise
        except WireFault as fault:
            raise self._error(fault) from None
        provider, whole = self._provider, self._whole(body)
        if whole.status >= LEAST_ERROR:
            raise provider._http_error(whole)
        try:
            return provider._finish_response(
                self._request,
                provider.parse_response(self._request, whole),
                self._adaptations,
                policy=self._policy,
            )
        except lm15.ProviderError as error:
            _attach_error_metadata(error, whole.headers)
            raise

    def _whole(self, body: bytes) -> HttpResponse:
        """The reply as lm15 would have buffered it."""
        head = self._head
        return HttpResponse(
            status=head.status,
            reason=head.reason,
            headers=head.headers,
            body=body,
            http_version=head.http_version,
            provider=self._provider.provider,
        )

    def _error(self, fault: WireFault) -> Any:
        """The error that fits in lm15's own tree, which decides whether DSPy tries again.

        A cut reply is what the transport makes of a body that ends early. An error in the
        stream is what the provider makes of the same error with an HTTP status of its own. A
        frame that is no JSON object is what lm15 makes of a body that is none.
        """
        if isinstance(fault, CutShort):
            return lm15.TransportError(str(fault))
        if isinstance(fault, ErrorFrame):
            body = fault.body.decode("utf-8", "replace")
            error: Any = self._provider.normalize_error(fault.status, body)
            _attach_error_metadata(error, self._head.headers)
            return error
        assert isinstance(fault, MalformedFrame)
        try:
            self._whole(fault.data).json()
        except lm15.ProviderError as error:
            return error
        return lm15.ProviderError(str(fault), provider=self._provider.provider)
