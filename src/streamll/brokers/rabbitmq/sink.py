"""Publishing events to a RabbitMQ exchange."""

from __future__ import annotations

from typing import Any

from streamll.brokers.failures import Diagnosis
from streamll.brokers.opening import given_once, only_value, without_password
from streamll.brokers.rabbitmq import client as rabbitmq_client
from streamll.brokers.rabbitmq.client import LOG_MAX_BYTES, URL
from streamll.brokers.rabbitmq.publisher import ConfirmingPublisher
from streamll.brokers.sink import BrokerSink
from streamll.core.errors import ConfigurationError

TARGET = "streamll"
DEAD_LETTERS = ".dead"


class RabbitMQSink(BrokerSink):
    """Publishes events to a RabbitMQ exchange.

    Args:
        url: ``amqp://`` or ``amqps://``; ``rabbitmq_url`` and ``amqp_url`` are synonyms. By default
            the RabbitMQ of this machine. May have ``max_bytes`` as an option:
            ``amqp://localhost?max_bytes=1000000000``.
        exchange: the log; ``target`` is a synonym. Its exchange and its stream queue are created
            if they do not exist.
        routing_key: may contain ``{run_id}`` and names of the context.
        max_bytes: how much the log keeps, if this sink creates it; 2 GiB by default.
        prefetch_count: accepted for symmetry; consumers use it.
        options: see ``BrokerSink``.

    Raises:
        ConfigurationError: a URL or option that cannot work, or aio-pika is missing.
        TypeError: two synonyms with different values, or an option with another one in the URL.
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
        max_bytes: int | None = None,
        prefetch_count: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        given = only_value(url=url, rabbitmq_url=rabbitmq_url, amqp_url=amqp_url)
        self.url, in_url = rabbitmq_client.check_url(given or URL)
        self.exchange = only_value(exchange=exchange, target=target) or TARGET
        self.routing_key = routing_key
        self.max_bytes: int = given_once("max_bytes", max_bytes, in_url, LOG_MAX_BYTES)
        if self.max_bytes < 1:
            raise ConfigurationError("max_bytes must be at least 1")
        self.prefetch_count = prefetch_count
        self.destination = f"{without_password(self.url)} {self.exchange}"

    def _connect(self) -> ConfirmingPublisher:
        timeout = rabbitmq_client.CONFIRM_TIMEOUT_S
        return ConfirmingPublisher(
            self.url, timeout, self.exchange, self.max_bytes, self.routing_key
        )

    def _diagnose(self, error: BaseException) -> Diagnosis:
        return rabbitmq_client.diagnose(error, self.url, answered=self._counts["handled"] > 0)
