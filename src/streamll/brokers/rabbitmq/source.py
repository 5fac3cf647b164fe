"""Reading a log's stream queue, or the queue of a group."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import time
from collections.abc import Awaitable, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from streamll.brokers.opening import without_password
from streamll.brokers.overview import Overview
from streamll.brokers.rabbitmq import client as rabbitmq_client
from streamll.brokers.rabbitmq.groups import Membership
from streamll.brokers.rabbitmq.lag import StreamExtent
from streamll.brokers.source import READ_BATCH_ENTRIES, READ_TIMEOUT_S, Entry, SourceOptions
from streamll.core.errors import ConfigurationError
from streamll.flow.worker import LoopThread

if TYPE_CHECKING:
    import aio_pika
from streamll.brokers.rabbitmq.client import MAX_BYTES

LOOK_BACK_ENTRIES = 20_000
"""Entries that are looked at for the sake of the latest runs: a stream must be read forwards."""


class RabbitMQSource:
    """Reads a log's stream queue, or the queue of a group.

    The connection lives on an event loop of its own. A reader may end its loop at any moment, and
    aio-pika leaves tasks behind when it cannot say goodbye.
    """

    def __init__(self, url: str, options: SourceOptions) -> None:
        self._url = rabbitmq_client.checked(url)
        self._heard = False
        self._options = options
        self._connection: Any = None
        self._connections = 0
        self._channel: Any = None
        self._loop: LoopThread | None = None
        self._arrived: asyncio.Queue[aio_pika.IncomingMessage] = asyncio.Queue()
        self._group = None if options.group is None else Membership(options)
        self._size = StreamExtent(options.target)
        self._after: int | None = None
        self._began: float | None = None
        if options.start not in ("new", "beginning"):
            self._after = _offset(options.start)

    @property
    def name(self) -> str:
        return f"{without_password(self._url)} {self._options.target}"

    def fatal_reason(self, error: BaseException) -> str | None:
        return rabbitmq_client.fatal_reason(error, self._url, self._options.target)

    def describe(self, error: BaseException) -> str:
        return rabbitmq_client.describe(error, self._url, heard=self._heard)

    async def connect(self) -> None:
        await self.close()
        self._loop = LoopThread(rabbitmq_client.THREAD)
        await self._loop.run(asyncio.wait_for(self._connect(), rabbitmq_client.CONFIRM_TIMEOUT_S))

    async def read(self) -> list[Entry]:
        entries: list[Entry] = await self._there(self._read())
        return entries

    def skip(self, receipt: object) -> None:
        """Nothing tells whether there is something of others in between."""

    async def acknowledge(self, entry: Entry) -> None:
        connection, message = entry.receipt
        if self._group and (connection is self._connection or self._connection is None):
            await self._there(self._group.acknowledge(message))

    async def extend_claim(self, entries: Sequence[Entry]) -> None:
        """Not needed: while the connection lives, RabbitMQ gives the message to nobody else."""

    async def dead_letter(self, body: bytes) -> None:
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
        await self._channel.set_qos(prefetch_count=READ_BATCH_ENTRIES)
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
            messages = [await asyncio.wait_for(self._arrived.get(), READ_TIMEOUT_S)]
        except asyncio.TimeoutError:
            if self._group is not None:
                await self._group.go_on()
            return []
        while not self._arrived.empty() and len(messages) < READ_BATCH_ENTRIES:
            messages.append(self._arrived.get_nowait())
        if self._group is not None:
            return [self._given(message) for message in messages]
        return await self._passed(messages)

    async def _latest(self) -> list[bytes]:
        """The bodies of the latest ``LOOK_BACK_ENTRIES`` entries. A stream is only read forwards, so its
        end is looked for first.
        """
        found = await self._look("last")
        if not found:
            return []
        first, last = max(0, found[0][0] - LOOK_BACK_ENTRIES), found[-1][0]
        return [body for _, body in await self._look(first, last)]

    async def _look(self, place: Any, last: int | None = None) -> list[tuple[int, bytes]]:
        """Offset and body of entries from ``place`` on, to ``last`` or until none comes."""
        channel = await self._connection.channel()
        arrived: asyncio.Queue[aio_pika.IncomingMessage] = asyncio.Queue()
        found: list[tuple[int, bytes]] = []
        try:
            await channel.set_qos(prefetch_count=READ_BATCH_ENTRIES)
            queue = await channel.get_queue(f"{self._options.target}.log", ensure=False)
            await queue.consume(arrived.put, arguments={"x-stream-offset": place})
            while len(found) < LOOK_BACK_ENTRIES and (
                last is None or not found or found[-1][0] < last
            ):
                message = await asyncio.wait_for(
                    arrived.get(),
                    READ_TIMEOUT_S if found else rabbitmq_client.CONNECT_TIMEOUT_S / 5,
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
            await exchange.publish(message, "dead", timeout=rabbitmq_client.CONFIRM_TIMEOUT_S)
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
        if time.time() - self._began < rabbitmq_client.CONNECT_TIMEOUT_S:
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
