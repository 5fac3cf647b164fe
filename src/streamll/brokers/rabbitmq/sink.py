"""Publishing events to a RabbitMQ exchange."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from streamll.brokers.failures import Diagnosis
from streamll.brokers.opening import only_value
from streamll.brokers.rabbitmq import client as rabbitmq_client
from streamll.brokers.rabbitmq.address import Address, Node
from streamll.brokers.rabbitmq.client import URL
from streamll.brokers.rabbitmq.publisher import ConfirmingPublisher
from streamll.brokers.sink import BrokerSink

TARGET = "streamll"
DEAD_LETTERS = ".dead"


class RabbitMQSink(BrokerSink):
    """Publishes events to a RabbitMQ exchange.

    Args:
        url: ``amqp://`` or ``amqps://``; ``rabbitmq_url`` and ``amqp_url`` are synonyms. By default
            the RabbitMQ of this machine. The nodes of a cluster are separated by commas
            (``amqp://user:password@host1,host2:5673,host3/vhost``) and tried in turn: from a random
            one on, and once a connection is lost from the next.
        exchange: the log; ``target`` is a synonym. Its exchange and its stream queue are created
            if they do not exist.
        routing_key: may contain ``{run_id}`` and names of the context.
        max_bytes: how much the log keeps, if this sink creates it: 2 GiB by default.
        replicas: on how many nodes of a cluster the log is kept, if this sink creates it. By default
            RabbitMQ decides: on all of them.
        heartbeat: seconds after which a silent network counts as broken, and what was not confirmed
            is sent again: 10 by default. A RabbitMQ whose disks take longer to confirm counts as
            away as well. 0 switches it off: then 10 seconds are waited for a reply, and an idle
            connection has the system's keep-alive. ``max_bytes``, ``replicas`` and ``heartbeat`` may
            stand in the URL as well (``?replicas=3&heartbeat=5``), where consumers read them too.
        prefetch_count: accepted for symmetry; consumers use it.
        options: see ``BrokerSink``.

    Raises:
        ConfigurationError: a URL or option that cannot work, or aio-pika is missing.
        TypeError: two synonyms, or an option here and in the URL, with different values.
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
        replicas: int | None = None,
        heartbeat: int | None = None,
        prefetch_count: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        given = only_value(url=url, rabbitmq_url=rabbitmq_url, amqp_url=amqp_url)
        self._address = Address(
            given or URL, max_bytes=max_bytes, replicas=replicas, heartbeat=heartbeat
        )
        self.url = self._address.url
        self.exchange = only_value(exchange=exchange, target=target) or TARGET
        self.source_url = given or URL
        self.routing_key = routing_key
        self.max_bytes = self._address.max_bytes
        self.prefetch_count = prefetch_count
        self.destination = f"{self._address.shown} {self.exchange}"

    def log_of(self, run_id: str, context: Mapping[str, Any]) -> str:
        return self.exchange

    def _connect(self) -> ConfirmingPublisher:
        address = self._address
        failures: dict[Node, Exception] = {}
        for node in address.in_turn():
            try:
                return ConfirmingPublisher(
                    node,
                    address.heartbeat,
                    self.exchange,
                    address.log_arguments,
                    self.routing_key,
                )
            except Exception as error:  # noqa: BLE001 - the next may be well
                failures[node] = error
        raise address.failed(failures)

    def _diagnose(self, error: BaseException) -> Diagnosis:
        return rabbitmq_client.diagnose(error, self._address, answered=self._counts["handled"] > 0)
