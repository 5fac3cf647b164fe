"""Where events go. ``BaseSink`` is what to subclass for a destination of one's own.

The names are resolved on first use, so that nobody loads a terminal library for a file.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamll.sinks.base import BaseSink as BaseSink
    from streamll.sinks.callback import CallbackSink as CallbackSink
    from streamll.sinks.delivery import SinkStatistics as SinkStatistics
    from streamll.sinks.jsonl import JsonlSink as JsonlSink
    from streamll.sinks.jsonl import read_jsonl as read_jsonl
    from streamll.sinks.memory import MemorySink as MemorySink
    from streamll.sinks.terminal import TerminalSink as TerminalSink

_HOMES = {
    "BaseSink": "base",
    "CallbackSink": "callback",
    "JsonlSink": "jsonl",
    "MemorySink": "memory",
    "SinkStatistics": "delivery",
    "TerminalSink": "terminal",
    "read_jsonl": "jsonl",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
