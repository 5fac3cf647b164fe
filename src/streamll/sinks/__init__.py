"""Destinations of events. Subclass ``BaseSink`` for a destination of your own.

The names are resolved on first use, so that a sink for files does not load a terminal library.
"""

from streamll.exports import names_in, resolver

PUBLIC = {
    "brokers.opening": "open_sink",
    "brokers.rabbitmq.sink": "RabbitMQSink",
    "brokers.redis.sink": "RedisSink",
    "brokers.sqlite.sink": "SQLiteSink",
    "sinks.base": "BaseSink CallbackSink SinkStatistics",
    "sinks.jsonl": "JSONLSink read_jsonl",
    "sinks.memory": "MemorySink",
    "sinks.otel": "OTelSink",
    "sinks.smooth": "SmoothSink",
    "sinks.terminal": "TerminalSink",
}

__getattr__ = resolver(__name__, PUBLIC)
__all__ = names_in(PUBLIC)  # noqa: PLE0605
