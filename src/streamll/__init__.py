"""Every token, field, step and error of a running DSPy program: live, once and in order.

Public names are resolved when they are first used: ``import streamll`` loads neither dspy nor
anything else that takes time.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamll.capture.instrument import instrument
    from streamll.capture.patch import uninstall
    from streamll.capture.stream import AsyncStream, Stream, stream
    from streamll.capture.watch import unwatch, watch
    from streamll.configuration import configure
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
        StreamCancelled,
        StreamllError,
        UnknownFieldError,
    )
    from streamll.core.events import Event, StreamllEvent, TokenEvent

_HOMES = {
    "instrument": "capture.instrument",
    "stream": "capture.stream",
    "Stream": "capture.stream",
    "AsyncStream": "capture.stream",
    "watch": "capture.watch",
    "unwatch": "capture.watch",
    "uninstall": "capture.patch",
    "configure": "configuration",
    "set_context": "context",
    "clear_context": "context",
    "get_context": "context",
    "trace": "context",
    "emit": "context",
    "emit_event": "context",
    "status": "context",
    "Event": "core.events",
    "StreamllEvent": "core.events",
    "TokenEvent": "core.events",
    "StreamllError": "core.errors",
    "UnknownFieldError": "core.errors",
    "AmbiguousFieldError": "core.errors",
    "StreamCancelled": "core.errors",
}

__all__ = [
    "AmbiguousFieldError", "AsyncStream", "Event", "Stream", "StreamCancelled", "StreamllError",
    "StreamllEvent", "TokenEvent", "UnknownFieldError", "clear_context", "configure", "emit",
    "emit_event", "get_context", "instrument", "set_context", "status", "stream", "trace",
    "uninstall", "unwatch", "watch",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'streamll' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"streamll.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
