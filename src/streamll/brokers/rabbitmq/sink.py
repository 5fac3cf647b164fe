"""Publishing events to a RabbitMQ exchange."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

from streamll.brokers.failures import Diagnosis
from streamll.brokers.opening import only_value, without_password
from streamll.brokers.rabbitmq import client as rabbitmq_client
from streamll.brokers.rabbitmq.client import LOG_MAX_BYTES, URL
from streamll.brokers.rabbitmq.publisher import ConfirmingPublisher
from streamll.brokers.send_buffer import PendingEntry
from streamll.brokers.sink import BrokerSink, Transport, fill

TARGET = "streamll"
DEAD_LETTERS = ".dead"


class RabbitMQSink(BrokerSink):
    """Publishes events to a RabbitMQ exchange.

    Args:
        url: ``amqp://`` or ``amqps://``; ``rabbitmq_url`` and ``amqp_url`` are synonyms. By default
            the RabbitMQ of this machine.
        exchange: the log; ``target`` is a synonym. Its exchange and its stream queue are created
            if they do not exist.
        routing_key: may contain ``{run_id}`` and names of the context.
        max_bytes: how much the log keeps, if this sink creates it.
        prefetch_count: accepted for symmetry; consumers use it.
        options: see ``BrokerSink``.

    Raises:
        ConfigurationError: a URL or option that cannot work, or aio-pika is missing.
        TypeError: two synonyms with different values.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        rabbitmq_url: str | None = None,
        amqp_url: str | None = None,
        exchange: str | None = None,
        target: str | None = None,
        routing_key: str = "{run_id}",
        max_bytes: int = LOG_MAX_BYTES,
        prefetch_count: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        given = only_value(url=url, rabbitmq_url=rabbitmq_url, amqp_url=amqp_url)
        self.url = rabbitmq_client.check_url(given or URL)
        self.exchange = only_value(exchange=exchange, target=target) or TARGET
        self.routing_key = routing_key
        self.max_bytes = max_bytes
        self.prefetch_count = prefetch_count
        self.destination = f"{without_password(self.url)} {self.exchange}"

    def _connect(self) -> RabbitMQTransport:
        return RabbitMQTransport(self)

    def _diagnose(self, error: BaseException) -> Diagnosis:
        return rabbitmq_client.diagnose(error, self.url, answered=self._counts["handled"] > 0)


class RabbitMQTransport(ConfirmingPublisher, Transport):
    """A sink's connection."""

    def __init__(self, sink: RabbitMQSink) -> None:
        timeout = rabbitmq_client.CONFIRM_TIMEOUT_S
        super().__init__(sink.url, timeout, sink.exchange, sink.max_bytes)
        self._routing_key = sink.routing_key

    def send(self, entries: list[PendingEntry]) -> None:
        for batch in _one_per_run(entries):
            self.publish((fill(self._routing_key, entry), entry.body) for entry in batch)


def _one_per_run(entries: list[PendingEntry]) -> list[list[PendingEntry]]:
    """The entries in batches that hold at most one of each run, each run's in order."""
    batches: defaultdict[int, list[PendingEntry]] = defaultdict(list)
    counts: Counter[str | None] = Counter()
    for entry in entries:
        batches[counts[entry.run_id]].append(entry)
        counts[entry.run_id] += 1
    return list(batches.values())
