"""RabbitMQ 3.9 and newer. Sinks publish through ``rabbitmq_publisher``, sources read by aio-pika.

A log called ``streamll`` is a durable topic exchange of that name. Bound to it are

* ``streamll.log``, a stream queue: it keeps everything (up to ``max_bytes``), and any number of
  readers go through it from wherever they want;
* for each group ``streamll.group.<name>``, a quorum queue whose messages are shared by the group's
  members, each until it is acknowledged. What was published before it was made comes to a group
  that wants it through a queue beside it, see ``rabbitmq_groups``.

Messages are persistent and confirmed; their routing key is the run's id. Dead letters go to a log
like this one, ``streamll.dead``.

A batch holds at most one message of each run before its confirmation is awaited, so that a message
that was refused is sent again before the run's next one.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import time
from collections.abc import Awaitable, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from streamll.brokers import rabbitmq_client
from streamll.brokers.opening import without_password
from streamll.brokers.outbox import Parcel
from streamll.brokers.overview import Overview
from streamll.brokers.rabbitmq_groups import Membership
from streamll.brokers.rabbitmq_publisher import Publisher
from streamll.brokers.rabbitmq_stream import StreamSize
from streamll.brokers.sink import BrokerSink, fill
from streamll.brokers.source import LIMIT, WAIT, Entry, Options
from streamll.core.errors import ConfigurationError
from streamll.flow.worker import LoopThread

if TYPE_CHECKING:
    import aio_pika

URL = "amqp://localhost"
TARGET = "streamll"
CONFIRM_SECONDS = 10.0
"""A RabbitMQ that confirms nothing for so long counts as away; so it does while an alarm of its own
(memory, disk) makes it accept nothing."""

MAX_BYTES = 2 * 2**30
"""What a log keeps, unless told otherwise."""

LOOK_BACK = 20_000
"""Entries that are looked at for the sake of the latest runs: a stream must be read forwards."""


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

    def _connect(self) -> _Writer:
        return _Writer(self.url, self.exchange, self.routing_key, self.max_bytes)

    def _explain(self, error: BaseException) -> str:
        return rabbitmq_client.explained(error, self.url, heard=self._confirmed > 0)


class _Writer:
    """A sink's connection."""

    def __init__(self, url: str, exchange: str, routing_key: str, max_bytes: int) -> None:
        self._url = url
        self._exchange = exchange
        self._routing_key = routing_key
        self._max_bytes = max_bytes
        self._publisher = self._opened()

    def send(self, parcels: list[Parcel]) -> None:
        if self._publisher.gone():
            self._publisher.close()
            self._publisher = self._opened()
        for some in _no_two_of_a_run(parcels):
            self._publisher.publish(
                self._exchange, [(fill(self._routing_key, parcel), parcel.body) for parcel in some]
            )

    def close(self) -> None:
        self._publisher.close()

    def _opened(self) -> Publisher:
        publisher = Publisher(self._url, CONFIRM_SECONDS)
        try:
            publisher.declare_log(self._exchange, self._max_bytes)
        except BaseException:
            publisher.close()
            raise
        return publisher


def _no_two_of_a_run(parcels: list[Parcel]) -> list[list[Parcel]]:
    """The parcels in rounds, each run's in order."""
    rounds: list[list[Parcel]] = []
    places: dict[str | None, int] = {}
    for parcel in parcels:
        place = places.get(parcel.run_id, 0)
        places[parcel.run_id] = place + 1
        if place == len(rounds):
            rounds.append([])
        rounds[place].append(parcel)
    return rounds


class RabbitMQSource:
    """Reads a log's stream queue, or the queue of a group.

    The connection lives on an event loop of its own. A reader may end its loop at any moment, and
    aio-pika leaves tasks behind when it cannot say goodbye.
    """

    def __init__(self, url: str, options: Options) -> None:
        self._url = rabbitmq_client.checked(url)
        self._heard = False
        self._options = options
        self._connection: Any = None
        self._connections = 0
        self._channel: Any = None
        self._loop: LoopThread | None = None
        self._arrived: asyncio.Queue[aio_pika.IncomingMessage] = asyncio.Queue()
        self._group = None if options.group is None else Membership(options)
        self._size = StreamSize(options.target)
        self._after: int | None = None
        self._began: float | None = None
        if options.start not in ("new", "beginning"):
            self._after = _offset(options.start)

    @property
    def place(self) -> str:
        return f"{without_password(self._url)} {self._options.target}"

    def hopeless(self, error: BaseException) -> str | None:
        return rabbitmq_client.hopeless(error, self._url, self._options.target)

    def explain(self, error: BaseException) -> str:
        return rabbitmq_client.explained(error, self._url, heard=self._heard)

    async def connect(self) -> None:
        await self.close()
        self._loop = LoopThread(rabbitmq_client.THREAD)
        await self._loop.run(asyncio.wait_for(self._connect(), CONFIRM_SECONDS))

    async def read(self) -> list[Entry]:
        entries: list[Entry] = await self._there(self._read())
        return entries

    def pass_over(self, receipt: object) -> None:
        """Nothing tells whether there is something of others in between."""

    async def acknowledge(self, entry: Entry) -> None:
        connection, message = entry.receipt
        if self._group and (connection is self._connection or self._connection is None):
            await self._there(self._group.acknowledge(message))

    async def keep(self, entries: Sequence[Entry]) -> None:
        """Not needed: while the connection lives, RabbitMQ gives the message to nobody else."""

    async def bury(self, body: bytes) -> None:
        await self._there(self._bury(body))

    async def overview(self, runs: int) -> list[bytes]:
        bodies: list[bytes] = await self._there(self._latest())
        overview = Overview(runs)
        for body in reversed(bodies):
            overview.add(body)
        return overview.bodies

    async def lag(self) -> int | None:
        lag: int | None = await self._there(self._waiting())
        return lag

    async def close(self) -> None:
        loop, self._loop = self._loop, None
        connection, self._connection = self._connection, None
        if loop is not None:
            if connection is not None:
                await loop.run(rabbitmq_client.closed(connection))
            await asyncio.to_thread(loop.stop, 5.0)

    async def _there(self, coroutine: Awaitable[Any]) -> Any:
        if self._loop is None or self._connection is None:
            if inspect.iscoroutine(coroutine):
                coroutine.close()
            raise ConnectionError("not connected")
        return await self._loop.run(coroutine)

    # --- on the connection's loop ---------------------------------------------------------------

    async def _connect(self) -> None:
        self._arrived = asyncio.Queue()
        if self._began is None:
            self._began = time.time()
        self._connection = await rabbitmq_client.connected(self._url)
        self._connections += 1
        await _declare_log(self._connection, self._options.target)
        self._heard = True
        self._channel = await self._connection.channel()
        await self._channel.set_qos(prefetch_count=LIMIT)
        if self._group is not None:
            await self._group.join(self._connection, self._channel, self._arrived.put)
        else:
            queue = await self._channel.get_queue(f"{self._options.target}.log", ensure=False)
            await queue.consume(self._arrived.put, arguments={"x-stream-offset": self._place()})

    async def _read(self) -> list[Entry]:
        if self._arrived.empty() and (self._channel is None or self._channel.is_closed):
            raise ConnectionError("RabbitMQ closed the channel")
        if self._group is not None and self._group.has_to_wait:
            await self._group.go_on()
            return []
        try:
            messages = [await asyncio.wait_for(self._arrived.get(), WAIT)]
        except asyncio.TimeoutError:
            if self._group is not None:
                await self._group.go_on()
            return []
        while not self._arrived.empty() and len(messages) < LIMIT:
            messages.append(self._arrived.get_nowait())
        if self._group is not None:
            return [self._given(message) for message in messages]
        return await self._passed(messages)

    async def _latest(self) -> list[bytes]:
        """The bodies of the latest ``LOOK_BACK`` entries. A stream is only read forwards, so its
        end is looked for first.
        """
        found = await self._look("last")
        if not found:
            return []
        first, last = max(0, found[0][0] - LOOK_BACK), found[-1][0]
        return [body for _, body in await self._look(first, last)]

    async def _look(self, place: Any, last: int | None = None) -> list[tuple[int, bytes]]:
        """Offset and body of entries from ``place`` on, to ``last`` or until none comes."""
        channel = await self._connection.channel()
        arrived: asyncio.Queue[aio_pika.IncomingMessage] = asyncio.Queue()
        found: list[tuple[int, bytes]] = []
        try:
            await channel.set_qos(prefetch_count=LIMIT)
            queue = await channel.get_queue(f"{self._options.target}.log", ensure=False)
            await queue.consume(arrived.put, arguments={"x-stream-offset": place})
            while len(found) < LOOK_BACK and (last is None or not found or found[-1][0] < last):
                message = await asyncio.wait_for(
                    arrived.get(), WAIT if found else rabbitmq_client.CONNECT_SECONDS / 5
                )
                await message.ack()
                found.append((int(message.headers["x-stream-offset"]), message.body))
        except asyncio.TimeoutError:
            pass
        finally:
            await channel.close()
        return found

    async def _bury(self, body: bytes) -> None:
        import aio_pika

        name = self._options.dead_letter or f"{self._options.target}.dead"
        await _declare_log(self._connection, name)
        channel = await self._connection.channel(publisher_confirms=True)
        try:
            exchange = await channel.get_exchange(name, ensure=False)
            message = aio_pika.Message(
                body,
                content_type="application/json",
                delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
            )
            await exchange.publish(message, "dead", timeout=CONFIRM_SECONDS)
        finally:
            await channel.close()

    async def _waiting(self) -> int | None:
        if self._group is not None:
            return await self._group.waiting()
        first, last = await self._size.first_and_last(self._connection)
        after = self._after
        if after is None:  # nothing has been read yet
            after = first - 1 if self._options.start == "beginning" else last
        return max(last - max(after, first - 1), self._arrived.qsize())

    def _place(self) -> Any:
        """Where in the stream to begin; behind what has been read, once something has."""
        if self._after is not None:
            return self._after + 1
        if self._options.start == "beginning":
            return "first"
        assert self._began is not None
        if time.time() - self._began < rabbitmq_client.CONNECT_SECONDS:
            return "next"
        # The connection broke before anything was read: what came since then is wanted.
        return datetime.fromtimestamp(self._began, timezone.utc)

    async def _passed(self, messages: list[Any]) -> list[Entry]:
        """Messages of the stream: acknowledging them only asks for more.

        It fails where the connection has broken meanwhile, which the next read tells; these
        messages have arrived.
        """
        entries = []
        for message in messages:
            with contextlib.suppress(Exception):
                await message.ack()
            offset = int(message.headers["x-stream-offset"])
            if self._after is None or offset > self._after:
                self._after = offset
                entries.append(Entry(cursor=str(offset), body=message.body))
        return entries

    def _given(self, message: Any) -> Entry:
        before = int(message.headers.get("x-delivery-count") or 0)
        deliveries = max(before + 1, 2 if message.redelivered else 1)
        return Entry(
            cursor=f"{self._connections}.{message.delivery_tag}",
            body=message.body,
            deliveries=deliveries,
            receipt=(self._connection, message),
        )


def _offset(cursor: str) -> int:
    try:
        return int(cursor)
    except ValueError:
        raise ConfigurationError(
            f"start={cursor!r} is no place in a RabbitMQ log; "
            "members of a group have none, the group itself knows how far it is"
        ) from None


async def _declare_log(connection: Any, name: str, max_bytes: int = MAX_BYTES) -> None:
    """The exchange and the stream queue of a log, if they are not there."""
    from aio_pika import ExchangeType
    from aiormq.exceptions import ChannelPreconditionFailed

    channel = await connection.channel()
    exchange = await channel.declare_exchange(name, ExchangeType.TOPIC, durable=True)
    try:
        queue = await channel.declare_queue(
            f"{name}.log",
            durable=True,
            arguments={"x-queue-type": "stream", "x-max-length-bytes": max_bytes},
        )
    except ChannelPreconditionFailed:  # it is there, with limits somebody else has chosen
        return
    await queue.bind(exchange, "#")
    await channel.close()
