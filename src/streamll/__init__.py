"""Every token, field, step and error of a running DSPy program: live, once and in order.

Public names are resolved when they are first used: ``import streamll`` loads neither dspy nor
anything else that takes time. Type checkers read them in ``__init__.pyi``.

Operators over streams are in ``streamll.streams``, typed partial values in ``streamll.typed``,
sinks in ``streamll.sinks``, the server in ``streamll.serve``, and all errors, as a tree, in
``streamll.core.errors``.
"""

from streamll.exports import names_in, resolver

PUBLIC = {
    "asking.approve": "approve",
    "asking.ask": "answer ask ask_async",
    "brokers.opening": "open_sink",
    "capture.hooks.places": "uninstall",
    "capture.instrument": "instrument",
    "capture.run.status": "StatusMessage StatusMessageProvider",
    "capture.stream": "AsyncStream Stream stream",
    "capture.streamify.drop_in": "apply_sync_streaming streamify",
    "capture.streamify.listeners": "StreamListener",
    "capture.streamify.responses": "StreamReset StreamResponse",
    "chat.model": "iModel",
    "chat.session": "Session",
    "chat.turns": "communicate",
    "compat.rust": "DSpyStream SafeDSpyStream agather_streams gather_streams",
    "configuration": "configure",
    "consumer": "EventConsumer",
    "context": "clear_context emit emit_event get_context set_context status trace",
    "core.errors": "StreamCancelled StreamTimeout StreamllError",
    "core.events": "Event StreamllEvent TokenEvent",
    "flow.config": "StreamConfig",
    "remote.connect": "connect",
    "serve.routes.embedded": "sse_response websocket_stream",
    "streams.collect": "acollect_stream collect_stream",
    "streams.merge": "aggregate_streams",
    "streams.stream_events": "StreamEvent",
    "watching": "unwatch watch",
}
"""``__all__``, by module."""

ALSO = {
    "": "streams typed",
    "capture.streamify.streaming_response": "streaming_response",
    "chat.session": "Branch",
    "chat.streaming_chat": "StreamingChat",
    "chat.turns": "communicate_stream",
    "compat.rust": "ConcurrentStreamProcessor DSPyStream",
    "core.errors": "AmbiguousFieldError BrokerError CircuitOpen ConfigurationError"
    " FirstTokenTimeout GuardStopped IdleTimeout NobodyToAsk NoSuchQuestion QuestionClosed QuestionLapsed"
    " QuestionWithdrawn TotalTimeout Unanswered UnknownFieldError WrongAnswer",
    "flow.breaker": "CircuitBreaker",
    "remote.connect": "Connection",
    "remote.stream": "AsyncRemoteStream RemoteStream",
}
"""Not in ``__all__``: other spellings, errors to catch, and the two modules of further names."""

MOVED = {
    "services": "InvokeStream",
    "session": "Message",
    "streams": "Collected StreamProgress buffer filter_tokens map_tokens smooth throttle to_file"
    " with_progress",
    "typed": "ArgumentsReader Partial PartialValue Partials partial_form",
}
"""Found at run time only, for code written before these names moved to the modules named here."""

__getattr__ = resolver(__name__, PUBLIC, ALSO, MOVED)
__all__ = names_in(PUBLIC)  # noqa: PLE0605


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
