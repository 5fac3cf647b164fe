"""lm15 around a wire: its request builder before, its response parser after.

In between a stream is asked for, read, and rebuilt into the body of a reply that was not streamed.
So whatever lm15 reads in a body (ids, served model, usage, refusals, errors) is the same with and
without streaming. Of this folder only this module and ``events`` know lm15's private parts.
"""

# ruff: noqa: SLF001 - the private parts of lm15 are what this module is for

from __future__ import annotations

from typing import Any, NamedTuple

from dspy import lm15
from dspy._vendor.lm15.providers.anthropic import AnthropicLM
from dspy._vendor.lm15.providers.async_base import AsyncBaseProviderLM, AsyncOpenAIChatLM
from dspy._vendor.lm15.providers.base import (
    BaseProviderLM,
    HttpResponse,
    _attach_error_metadata,
    _client_side_stop,
)
from dspy._vendor.lm15.providers.gemini import GeminiLM
from dspy._vendor.lm15.providers.openai import OpenAILM
from dspy._vendor.lm15.providers.openai_chat import OpenAIChatLM
from dspy.clients.engines.lm15_engine import AsyncLM15Engine, LM15Engine

from streamll.capture.tap.wire import base
from streamll.capture.tap.wire.anthropic import AnthropicAssembler
from streamll.capture.tap.wire.chat import ChatAssembler
from streamll.capture.tap.wire.gemini import GeminiAssembler
from streamll.capture.tap.wire.reply import WireReply
from streamll.capture.tap.wire.responses import ResponsesAssembler


class Wire(NamedTuple):
    """One streaming wire: lm15's provider class and its assembler."""

    provider: type
    assembler: type[Any]


WIRES = (
    Wire(OpenAIChatLM, ChatAssembler),
    Wire(OpenAILM, ResponsesAssembler),
    Wire(AnthropicLM, AnthropicAssembler),
    Wire(GeminiLM, GeminiAssembler),
)
"""A new wire is an assembler, a row here, and a path in ``below_litellm``."""

# The implementations that send one request and parse its body. A provider class that completes
# otherwise (Codex collects a stream of events) is left alone.
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
    """Whether this is one of lm15's engines, with lm15's own ``complete``."""
    completes = getattr(type(engine), "complete", None)
    ordinary = completes is LM15Engine.complete or completes is AsyncLM15Engine.complete
    return ordinary and "complete" not in vars(engine)


def can_stream(provider: Any, request: Any) -> bool:
    """Whether a stream of this provider carries everything that its plain reply does.

    It does not where lm15 itself cuts the reply (a stop sequence that the wire cannot carry), and
    where a server is declared to stream without usage.
    """
    if not provider.supports.stream:
        return False
    inner = getattr(provider, "_inner", provider)
    is_chat = isinstance(inner, OpenAIChatLM)
    if is_chat and inner._compat_for(request.model).stream_usage != "include":
        return False
    return not (request.config.stop and _client_side_stop(provider.plan(request)))


def assembler_for(provider: Any) -> base.Assembler | None:
    """A new assembler for a provider's wire; None for an unknown wire or way of completing."""
    inner = getattr(provider, "_inner", provider)  # an async provider maps through a sync one
    if type(provider).complete not in _ORDINARY_COMPLETIONS or getattr(inner, "_codex", False):
        return None
    return next((wire.assembler() for wire in WIRES if isinstance(inner, wire.provider)), None)


class Exchange:
    """One request over lm15: ``opened`` with the reply's head, feed ``reply``, ask for ``response``."""

    def __init__(
        self, provider: Any, request: Any, adaptations: Any, assembler: base.Assembler
    ) -> None:
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

    def response(self) -> Any:
        """The ``Response`` that the provider's ``complete`` would have returned.

        Raises what lm15 raises (a provider's error, a transport error where the reply was cut), or
        ``AskAgain``.
        """
        try:
            body = self.reply.body()
        except base.AskAgain:
            raise
        except base.WireFault as fault:
            raise self._error(fault) from None
        provider, whole = self._provider, self._whole(body)
        if whole.status >= base.HTTP_ERROR:
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
        except (TypeError, ValueError) as error:  # a number that is none, for example
            if self.reply.streamed:
                raise base.Confused("a reply that cannot be read as it was streamed") from error
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

    def _error(self, fault: base.WireFault) -> Any:
        """The fault as lm15 would have raised it; its class decides whether DSPy retries.

        A cut reply is the transport's error for a body that ends early, an error in the stream the
        provider's for the same error with an HTTP status.
        """
        if not isinstance(fault, base.ErrorFrame):
            return lm15.TransportError(str(fault))
        body = fault.body.decode("utf-8", "replace")
        error: Any = self._provider.normalize_error(fault.status, body)
        _attach_error_metadata(error, self._head.headers)
        return error
