# The names of `streamll.sinks` for type checkers; a test compares them with `__init__.py`.

from streamll.brokers.opening import open_sink as open_sink
from streamll.brokers.rabbitmq.sink import RabbitMQSink as RabbitMQSink
from streamll.brokers.redis.sink import RedisSink as RedisSink
from streamll.brokers.sqlite.sink import SQLiteSink as SQLiteSink
from streamll.sinks.base import BaseSink as BaseSink
from streamll.sinks.base import CallbackSink as CallbackSink
from streamll.sinks.base import SinkStatistics as SinkStatistics
from streamll.sinks.jsonl import JSONLSink as JSONLSink
from streamll.sinks.jsonl import read_jsonl as read_jsonl
from streamll.sinks.memory import MemorySink as MemorySink
from streamll.sinks.otel import OTelSink as OTelSink
from streamll.sinks.smooth import SmoothSink as SmoothSink
from streamll.sinks.terminal import TerminalSink as TerminalSink
