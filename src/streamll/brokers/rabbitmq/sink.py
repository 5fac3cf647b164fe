"""Publishing events to a RabbitMQ exchange."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streamll.brokers.opening import without_password
from streamll.brokers.rabbitmq import client as rabbitmq_client
from streamll.brokers.rabbitmq.publisher import ConfirmingPublisher
from streamll.brokers.send_buffer import PendingEntry
from streamll.brokers.sink import BrokerSink, fill

if TYPE_CHECKING:
    pass
from streamll.brokers.rabbitmq.client import MAX_BYTES, TARGET, URL


class RabbitMQSink(BrokerSink):
    """Publishes events to a RabbitMQ exchange.

    Args:
        url: ``amqp://`` or ``amqps://``; ``rabbitmq_url`` and ``amqp_url`` are the same.
        exchange: the log; ``target`` is the same. Its exchange and its stream queue are made
            where they are not there yet.
        routing_key: may hold ``{run_id}`` and names of the context.
        max_bytes: what the log keeps, if this sink is the first to write to it.
        prefetch_count: accepted for symmetry; consumers use it.
        options: see ``BrokerSink``.
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
        max_bytes: int = MAX_BYTES,
        prefetch_count: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.url = rabbitmq_client.checked(url or rabbitmq_url or amqp_url or URL)
        self.exchange = exchange or target or TARGET
        self.routing_key = routing_key
        self.max_bytes = max_bytes
        self.prefetch_count = prefetch_count

    @property
    def destination(self) -> str:
        return f"{without_password(self.url)} {self.exchange}"

    def _connect(self) -> RabbitMQTransport:
        return RabbitMQTransport(self.url, self.exchange, self.routing_key, self.max_bytes)

    def _explain(self, error: BaseException) -> str:
        return rabbitmq_client.describe(error, self.url, heard=self._confirmed > 0)


class RabbitMQTransport:
    """A sink's connection."""

    def __init__(self, url: str, exchange: str, routing_key: str, max_bytes: int) -> None:
        self._url = url
        self._exchange = exchange
        self._routing_key = routing_key
        self._max_bytes = max_bytes
        self._publisher = self._opened()

    def send(self, entries: list[PendingEntry]) -> None:
        if self._publisher.gone():
            self._publisher.close()
            self._publisher = self._opened()
        for some in _no_two_of_a_run(entries):
            self._publisher.publish(
                self._exchange, [(fill(self._routing_key, entry), entry.body) for entry in some]
            )

    def close(self) -> None:
        self._publisher.close()

    def _opened(self) -> ConfirmingPublisher:
        publisher = ConfirmingPublisher(self._url, rabbitmq_client.CONFIRM_TIMEOUT_S)
        try:
            publisher.declare_log(self._exchange, self._max_bytes)
        except BaseException:
            publisher.close()
            raise
        return publisher


def _no_two_of_a_run(entries: list[PendingEntry]) -> list[list[PendingEntry]]:
    """The entries in rounds, each run's in order."""
    rounds: list[list[PendingEntry]] = []
    places: dict[str | None, int] = {}
    for entry in entries:
        place = places.get(entry.run_id, 0)
        places[entry.run_id] = place + 1
        if place == len(rounds):
            rounds.append([])
        rounds[place].append(entry)
    return rounds
