"""Destinations of events. Subclass ``BaseSink`` for a destination of your own.

The names are resolved on first use, so that a sink for files does not load a terminal library.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamll.brokers.opening import open_sink as open_sink
    from streamll.brokers.rabbitmq.sink import RabbitMQSink as RabbitMQSink
    from streamll.brokers.redis.sink import RedisSink as RedisSink
    from streamll.brokers.sqlite.sink import SQLiteSink as SQLiteSink
    from streamll.sinks.base import BaseSink as BaseSink
    from streamll.sinks.callback import CallbackSink as CallbackSink
    from streamll.sinks.delivery import SinkStatistics as SinkStatistics
    from streamll.sinks.jsonl import JSONLSink as JSONLSink
    from streamll.sinks.jsonl import read_jsonl as read_jsonl
    from streamll.sinks.memory import MemorySink as MemorySink
    from streamll.sinks.otel import OTelSink as OTelSink
    from streamll.sinks.terminal import TerminalSink as TerminalSink

_HOMES = {
    "BaseSink": "sinks.base",
    "CallbackSink": "sinks.callback",
    "JSONLSink": "sinks.jsonl",
    "MemorySink": "sinks.memory",
    "OTelSink": "sinks.otel",
    "RabbitMQSink": "brokers.rabbitmq.sink",
    "RedisSink": "brokers.redis.sink",
    "SQLiteSink": "brokers.sqlite.sink",
    "SinkStatistics": "sinks.delivery",
    "TerminalSink": "sinks.terminal",
    "open_sink": "brokers.opening",
    "read_jsonl": "sinks.jsonl",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"streamll.{_HOMES[name]}"), name)
