"""Every token, field, step and error of a running DSPy program: live, once and in order.

Public names are resolved when they are first used: ``import streamll`` loads neither dspy nor
anything else that takes time.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamll.brokers.opening import open_sink
    from streamll.capture.hooks.places import uninstall
    from streamll.capture.instrument import instrument
    from streamll.capture.run.status import StatusMessage, StatusMessageProvider
    from streamll.capture.stream import AsyncStream, Stream, stream
    from streamll.capture.streamify.drop_in import streamify
    from streamll.capture.streamify.listeners import StreamListener
    from streamll.capture.streamify.responses import StreamReset, StreamResponse
    from streamll.capture.streamify.streaming_response import streaming_response
    from streamll.capture.streamify.sync_streaming import apply_sync_streaming
    from streamll.capture.typed.partial_form import partial_form
    from streamll.capture.typed.partials import Partial
    from streamll.capture.watch import unwatch, watch
    from streamll.compat.rust import (
        ConcurrentStreamProcessor,
        DSPyStream,
        DSpyStream,
        SafeDSpyStream,
        agather_streams,
        gather_streams,
    )
    from streamll.configuration import configure
    from streamll.consumer import EventConsumer
    from streamll.context import (
        clear_context,
        emit,
        emit_event,
        get_context,
        set_context,
        status,
        trace,
    )
    from streamll.core.errors import (
        AmbiguousFieldError,
        BrokerError,
        CircuitOpen,
        FirstTokenTimeout,
        IdleTimeout,
        StreamCancelled,
        StreamllError,
        StreamTimeout,
        TotalTimeout,
        UnknownFieldError,
    )
    from streamll.core.events import Event, StreamllEvent, TokenEvent
    from streamll.core.partials import ArgumentsReader, Partials, PartialValue
    from streamll.flow.breaker import CircuitBreaker
    from streamll.flow.config import StreamConfig
    from streamll.operations import StreamingChat, communicate, communicate_stream
    from streamll.serve.responses import sse_response
    from streamll.serve.sockets import websocket_stream
    from streamll.services import InvokeStream, iModel
    from streamll.session import Branch, Message, Session
    from streamll.streams.collect import Collected, acollect_stream, collect_stream
    from streamll.streams.merge import aggregate_streams
    from streamll.streams.operators import (
        buffer,
        filter_tokens,
        map_tokens,
        smooth,
        throttle,
        to_file,
    )
    from streamll.streams.progress import StreamProgress, with_progress
    from streamll.streams.stream_events import StreamEvent

_HOMES = {
    "CircuitBreaker": "flow.breaker",
    "StreamConfig": "flow.config",
    "Collected": "streams.collect",
    "collect_stream": "streams.collect",
    "aggregate_streams": "streams.merge",
    "StreamEvent": "streams.stream_events",
    "DSpyStream": "compat.rust",
    "DSPyStream": "compat.rust",
    "SafeDSpyStream": "compat.rust",
    "gather_streams": "compat.rust",
    "agather_streams": "compat.rust",
    "acollect_stream": "streams.collect",
    "ConcurrentStreamProcessor": "compat.rust",
    "smooth": "streams.operators",
    "throttle": "streams.operators",
    "buffer": "streams.operators",
    "map_tokens": "streams.operators",
    "filter_tokens": "streams.operators",
    "to_file": "streams.operators",
    "with_progress": "streams.progress",
    "StreamProgress": "streams.progress",
    "CircuitOpen": "core.errors",
    "StreamTimeout": "core.errors",
    "TotalTimeout": "core.errors",
    "FirstTokenTimeout": "core.errors",
    "IdleTimeout": "core.errors",
    "instrument": "capture.instrument",
    "partial_form": "capture.typed.partial_form",
    "Partial": "capture.typed.partials",
    "PartialValue": "core.partials",
    "Partials": "core.partials",
    "ArgumentsReader": "core.partials",
    "stream": "capture.stream",
    "Stream": "capture.stream",
    "AsyncStream": "capture.stream",
    "watch": "capture.watch",
    "unwatch": "capture.watch",
    "streamify": "capture.streamify.drop_in",
    "StreamListener": "capture.streamify.listeners",
    "StreamResponse": "capture.streamify.responses",
    "StreamReset": "capture.streamify.responses",
    "StatusMessage": "capture.run.status",
    "StatusMessageProvider": "capture.run.status",
    "streaming_response": "capture.streamify.streaming_response",
    "apply_sync_streaming": "capture.streamify.sync_streaming",
    "uninstall": "capture.hooks.places",
    "configure": "configuration",
    "EventConsumer": "consumer",
    "open_sink": "brokers.opening",
    "set_context": "context",
    "clear_context": "context",
    "get_context": "context",
    "trace": "context",
    "emit": "context",
    "emit_event": "context",
    "status": "context",
    "sse_response": "serve.responses",
    "websocket_stream": "serve.sockets",
    "Event": "core.events",
    "StreamllEvent": "core.events",
    "TokenEvent": "core.events",
    "BrokerError": "core.errors",
    "StreamllError": "core.errors",
    "UnknownFieldError": "core.errors",
    "AmbiguousFieldError": "core.errors",
    "StreamCancelled": "core.errors",
    "iModel": "services",
    "InvokeStream": "services",
    "StreamingChat": "operations",
    "communicate": "operations",
    "communicate_stream": "operations",
    "Session": "session",
    "Branch": "session",
    "Message": "session",
}

__all__ = [
    "AmbiguousFieldError",
    "ArgumentsReader",
    "AsyncStream",
    "Branch",
    "BrokerError",
    "CircuitBreaker",
    "CircuitOpen",
    "Collected",
    "ConcurrentStreamProcessor",
    "DSPyStream",
    "DSpyStream",
    "Event",
    "EventConsumer",
    "FirstTokenTimeout",
    "IdleTimeout",
    "InvokeStream",
    "Message",
    "Partial",
    "PartialValue",
    "Partials",
    "SafeDSpyStream",
    "Session",
    "StatusMessage",
    "StatusMessageProvider",
    "Stream",
    "StreamCancelled",
    "StreamConfig",
    "StreamEvent",
    "StreamListener",
    "StreamProgress",
    "StreamReset",
    "StreamResponse",
    "StreamTimeout",
    "StreamingChat",
    "StreamllError",
    "StreamllEvent",
    "TokenEvent",
    "TotalTimeout",
    "UnknownFieldError",
    "acollect_stream",
    "agather_streams",
    "aggregate_streams",
    "apply_sync_streaming",
    "buffer",
    "clear_context",
    "collect_stream",
    "communicate",
    "communicate_stream",
    "configure",
    "emit",
    "emit_event",
    "filter_tokens",
    "gather_streams",
    "get_context",
    "iModel",
    "instrument",
    "map_tokens",
    "open_sink",
    "partial_form",
    "set_context",
    "smooth",
    "sse_response",
    "status",
    "stream",
    "streamify",
    "streaming_response",
    "throttle",
    "to_file",
    "trace",
    "uninstall",
    "unwatch",
    "watch",
    "websocket_stream",
    "with_progress",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'streamll' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"streamll.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
