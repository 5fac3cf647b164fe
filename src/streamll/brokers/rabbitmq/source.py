"""Reading a log's stream queue, or the queue of a group."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import Awaitable, Callable
from datetime import datetime, timezone
from typing import Any, TypeVar

from streamll.brokers.failures import Diagnosis
from streamll.brokers.overview import Overview
from streamll.brokers.rabbitmq import client as rabbitmq_client
from streamll.brokers.rabbitmq.address import Address, Node
from streamll.brokers.rabbitmq.groups import GroupMember, queue_counts
from streamll.brokers.source import READ_BATCH_ENTRIES, Entry, Source, SourceOptions
from streamll.core.errors import ConfigurationError
from streamll.flow.worker import LoopThread

T = TypeVar("T")

LOOK_BACK_ENTRIES = 20_000
"""The most entries searched for the latest runs: a stream can only be read forwards."""

LOOK_S = (0.25, 2.0)
"""How often a log that is not there yet is looked for, at first and at last: RabbitMQ writes an error into
its own log each time."""

LAST_CHUNK_ENTRIES = 65_535
"""As many entries RabbitMQ sends unasked of a log's last chunk: all it has, so that its end is known."""

EMPTY_CHECKS, EMPTY_CHECK_S = 10, 0.1
"""How often in a row, and for how long, a log has to send nothing to count as empty, though RabbitMQ
answers. It counts a log's entries some seconds late."""


class RabbitMQSource(Source):
    """Reads a log's stream queue, or the queue of a group.

    The connection lives on an event loop of its own: a reader may end its loop at any moment, and
    aio-pika leaves tasks behind when it cannot close properly.
    """

    def __init__(self, url: str, options: SourceOptions) -> None:
        self._address = Address(url)
        self.name = f"{self._address.shown} {options.target}"
        self._answered = False
        self._options = options
        self._queue = f"{options.target}.log"
        self._connection: Any = None
        self._connections = 0
        self._channel: Any = None
        self._loop: LoopThread | None = None
        self._arrived: asyncio.Queue[Any] = asyncio.Queue()
        replicas = self._address.replicas
        self._group = None if options.group is None else GroupMember(options, replicas)
        self._watching: asyncio.Future[None]
        self._connected_at: float | None = None
        self._has_consumed = False
        self._jumped_to = -1  # the latest offset that did not follow the one before
        self._end = (
            -1
        )  # the log's last offset when it was connected to; known if nothing is waited for
        self._awaits_log = False
        self._look_s = self._look_at = 0.0
        starts = {"new": None, "beginning": -1}
        try:
            self._after = starts[options.start] if options.start in starts else int(options.start)
        except ValueError:
            raise ConfigurationError(
                f"start={options.start!r} is no cursor of a RabbitMQ log; "
                "members of a group have none, the group itself knows its position"
            ) from None

    def diagnose(self, error: BaseException) -> Diagnosis:
        return rabbitmq_client.diagnose(error, self._address, answered=self._answered)

    async def connect(self) -> None:
        await self._with_some_node(self._connect_to)

    async def exists(self) -> bool:
        loop = LoopThread(rabbitmq_client.THREAD_NAME)
        try:
            return await self._with_some_node(lambda node: loop.run(self._log_exists(node)))
        finally:
            await _end(loop, None)

    async def read(self) -> list[Entry]:
        return await self._on_loop(self._read)

    async def acknowledge(self, entry: Entry) -> None:
        connection, message = entry.receipt
        if self._group and (connection is self._connection or self._connection is None):
            await self._on_loop(self._group.acknowledge, message)

    async def was_trimmed(self, after: str, entry: str) -> bool:
        return (int(after) if after.isdecimal() else -1) < self._jumped_to

    async def overview(self, runs: int) -> list[bytes]:
        overview = Overview(runs)
        if self._awaits_log:
            return []
        # A stream is only read forwards, so its end is looked up first.
        end = await self._on_loop(self._find_end)
        for body in reversed(await self._on_loop(self._scan, end)):
            overview.add(body)
        return overview.bodies

    async def lag(self) -> int | None:
        return None if self._group is None else await self._on_loop(self._group.lag)

    async def close(self) -> None:
        loop, self._loop = self._loop, None
        connection, self._connection = self._connection, None
        if loop is not None:
            await _end(loop, connection)

    async def _with_some_node(self, do: Callable[[Node], Awaitable[T]]) -> T:
        """Do it with one node after the other, until one works."""
        failures: dict[Node, Exception] = {}
        for node in self._address.in_turn():
            try:
                return await asyncio.wait_for(do(node), rabbitmq_client.CONFIRM_TIMEOUT_S)
            except Exception as error:  # noqa: BLE001 - the next may be well
                failures[node] = error
        raise self._address.failed(failures)

    async def _connect_to(self, node: Node) -> None:
        await self.close()  # with all that the attempt before has left
        self._loop = LoopThread(rabbitmq_client.THREAD_NAME)
        await self._loop.run(self._connect(node))

    async def _on_loop(self, call: Callable[..., Awaitable[T]], *arguments: Any) -> T:
        loop = self._loop
        if loop is None or self._connection is None:
            raise ConnectionError("not connected")
        result: T = await loop.run(call(*arguments))
        return result

    # --- on the connection's loop ---------------------------------------------------------------

    async def _log_exists(self, node: Node) -> bool:
        connection = await rabbitmq_client.connect(node, self._address.heartbeat)
        try:
            return await queue_counts(connection, self._queue) is not None
        finally:
            await rabbitmq_client.close(connection)

    async def _connect(self, node: Node) -> None:
        self._arrived = asyncio.Queue()
        if self._connected_at is None:
            self._connected_at = time.time()
        self._connection = await rabbitmq_client.connect(node, self._address.heartbeat)
        self._connections += 1
        if self._group is not None:  # it is kept beside the log
            await _declare_log(self._connection, self._options.target, self._address.log_arguments)
        self._answered = True
        self._channel = await self._open_channel()
        if self._group is not None:
            again = functools.partial(rabbitmq_client.connect, node, self._address.heartbeat)
            await self._group.join(self._connection, self._channel, self._arrived.put, again)
        elif not await self._appeared():
            self._after = -1 if self._after is None else self._after  # all it will have is new
        watching = rabbitmq_client.watch(self._channel, self._address.heartbeat)
        self._watching = asyncio.ensure_future(watching)
        # Its error is retrieved, so that one abandoned with its connection logs nothing.
        self._watching.add_done_callback(lambda task: task.cancelled() or task.exception())

    async def _open_channel(self) -> Any:
        channel = await self._connection.channel()
        await channel.set_qos(prefetch_count=READ_BATCH_ENTRIES)
        return channel

    async def _appeared(self) -> bool:
        """Begin to consume the log, if there is one now."""
        from aiormq.exceptions import ChannelPreconditionFailed

        awaited = self._awaits_log
        self._awaits_log = await queue_counts(self._connection, self._queue) is None
        if not self._awaits_log:
            try:
                await self._consume(self._channel, self._arrived, self._offset_spec())
                # RabbitMQ agrees before it looks where the log ends; its next answer comes behind that.
                await self._channel.set_qos(prefetch_count=READ_BATCH_ENTRIES)
                self._has_consumed = True
                self._end = -1 if self._options.waits else await self._find_end()
            except ChannelPreconditionFailed:
                if not awaited:
                    raise
                # It is being created: it has a name, and no node yet that has its messages.
                self._awaits_log, self._look_s = True, 0.0
                self._channel = await self._open_channel()
        if self._awaits_log:
            self._look_s = min(max(LOOK_S[0], 2 * self._look_s), LOOK_S[1])
            self._look_at = time.monotonic() + self._look_s
        return not self._awaits_log

    async def _appears(self) -> bool:
        """Wait for a log that was not there, until it is time to look or to return."""
        if self._options.waits:
            left_s = max(0.0, self._look_at - time.monotonic())
            await asyncio.sleep(min(left_s, self._options.read_timeout))
        return time.monotonic() >= self._look_at and await self._appeared()

    async def _consume(self, channel: Any, arrived: asyncio.Queue[Any], offset: Any) -> None:
        queue = await channel.get_queue(self._queue, ensure=False)
        await queue.consume(arrived.put, arguments={"x-stream-offset": offset})

    async def _read(self) -> list[Entry]:
        if self._arrived.empty() and (self._channel is None or self._channel.is_closed):
            raise ConnectionError("RabbitMQ closed the channel")
        if self._watching.done():
            self._watching.result()
        if self._group is not None:
            self._group.check()
        if self._awaits_log and not await self._appears():
            return []
        entries: list[Entry] = []
        while not entries and (messages := await self._messages()):
            entries = [entry for each in messages if (entry := self._entry(each))]
            if self._group is None:
                # A stream's messages are acknowledged to be sent more of them, all at once: one by
                # one takes longer than reading them. It fails if the connection has broken, which
                # the next read reports; these messages have arrived.
                with contextlib.suppress(Exception):
                    await messages[-1].ack(multiple=True)
        return entries

    async def _messages(self) -> list[Any]:
        """What has arrived; nothing after ``read_timeout``, or behind the log's end."""
        messages: list[Any] = []
        if not self._options.waits:
            if self._after is None or self._after >= self._end:
                return []
            messages.append(await _coming(self._arrived))
        elif self._arrived.empty():
            with contextlib.suppress(asyncio.TimeoutError):
                timeout = self._options.read_timeout
                messages.append(await asyncio.wait_for(self._arrived.get(), timeout))
        while not self._arrived.empty() and len(messages) < READ_BATCH_ENTRIES:
            messages.append(self._arrived.get_nowait())
        return messages

    async def _find_end(self) -> int:
        """The offset of the log's last entry now; -1 if it is empty.

        That nothing arrives says nothing on a busy machine. But a stream delivers what it has in one
        go, and answers afterwards.
        """
        arrived: asyncio.Queue[Any] = asyncio.Queue()
        async with self._connection.channel() as channel:
            queue = await channel.declare_queue(self._queue, passive=True)

            async def answer() -> None:
                await rabbitmq_client.receive_all(channel, LAST_CHUNK_ENTRIES)

            await answer()
            await queue.consume(arrived.put, arguments={"x-stream-offset": "last"})
            if queue.declaration_result.message_count:
                messages = [await _coming(arrived)]
            else:
                messages, checks = [], 0
                while not messages and checks < EMPTY_CHECKS:
                    with contextlib.suppress(asyncio.TimeoutError):
                        messages.append(await asyncio.wait_for(arrived.get(), EMPTY_CHECK_S))
                    await answer()
                    checks += 1
            await answer()
            while not arrived.empty():
                messages.append(arrived.get_nowait())
            return _offset_of(messages[-1]) if messages else -1

    async def _scan(self, end: int) -> list[bytes]:
        """The bodies of the entries up to ``end``, and of so many before it as are looked at."""
        arrived: asyncio.Queue[Any] = asyncio.Queue()
        found: list[bytes] = []
        offset = max(-1, end - LOOK_BACK_ENTRIES)
        async with self._connection.channel() as channel:
            await channel.set_qos(prefetch_count=READ_BATCH_ENTRIES)
            await self._consume(channel, arrived, offset + 1)
            while offset < end:
                message = await _coming(arrived)
                offset = _offset_of(message)
                found.append(message.body)
                if arrived.empty():
                    await message.ack(multiple=True)
        return found

    def _offset_spec(self) -> Any:
        """Where to start (``x-stream-offset``): behind what has been read, if anything has."""
        if self._after is not None:
            return self._after + 1
        assert self._connected_at is not None
        waited_s = time.time() - self._connected_at
        if not self._has_consumed and waited_s < rabbitmq_client.CONNECT_TIMEOUT_S:
            return "next"
        # The connection broke before anything was read; what was published since is wanted.
        return datetime.fromtimestamp(self._connected_at, timezone.utc)

    def _entry(self, message: Any) -> Entry | None:
        """The message as an entry; ``None`` for one of the stream that has been read before."""
        if self._group is not None:
            before = int(message.headers.get("x-delivery-count") or 0)
            return Entry(
                cursor=f"{self._connections}.{message.delivery_tag}",
                body=message.body,
                deliveries=max(before + 1, 2 if message.redelivered else 1),
                receipt=(self._connection, message),
            )
        offset = _offset_of(message)
        if self._after is not None:
            if offset <= self._after:
                return None
            if offset > self._after + 1:
                self._jumped_to = offset
        self._after = offset
        return Entry(cursor=str(offset), body=message.body)


async def _end(loop: LoopThread, connection: Any) -> None:
    """Close a connection, and end its thread: also where the reader is cancelled meanwhile, perhaps again
    and again, as readers over HTTP are.
    """

    async def end() -> None:
        try:
            if connection is not None:
                await loop.run(rabbitmq_client.close(connection))
        finally:
            loop.cancel()
        await asyncio.to_thread(loop.join, 5.0)

    await asyncio.shield(asyncio.ensure_future(end()))


async def _coming(arrived: asyncio.Queue[Any]) -> Any:
    """The next message of a log that has one: however busy RabbitMQ is, it comes."""
    try:
        return await asyncio.wait_for(arrived.get(), rabbitmq_client.CONFIRM_TIMEOUT_S)
    except asyncio.TimeoutError:
        raise ConnectionError("RabbitMQ stopped sending before the log's end") from None


def _offset_of(message: Any) -> int:
    return int(message.headers["x-stream-offset"])


async def _declare_log(connection: Any, name: str, arguments: dict[str, Any]) -> None:
    """Create the exchange and the stream queue of a log, if they do not exist."""
    from aio_pika import ExchangeType
    from aiormq.exceptions import ChannelPreconditionFailed

    channel = await connection.channel()
    exchange = await channel.declare_exchange(name, ExchangeType.TOPIC, durable=True)
    try:
        queue = await channel.declare_queue(f"{name}.log", durable=True, arguments=arguments)
    except ChannelPreconditionFailed:  # it exists with other arguments, which stay
        return
    await queue.bind(exchange, "#")
    await channel.close()
