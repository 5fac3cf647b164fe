"""A member of a RabbitMQ group, and what a new group gets of the time before it was created.

A group ``g`` of the log ``streamll`` shares the quorum queue ``streamll.group.g``, which receives
what is published after it was bound. A group that starts at the beginning, or at a cursor, also
gets what the log's stream holds already. Its first member copies that, once
(docs/decisions/0017-corners-of-the-brokers.md):

* ``streamll.group.g.history``, a quorum queue, takes the copy. Members empty it before they
  consume the group's own queue; then it is deleted.
* ``streamll.group.g.filling`` exists while the copy is incomplete, and nobody consumes. If the
  copying member dies, another starts the copy anew.
* ``streamll.group.g.lock`` is exclusive to the connection of the member that copies, and is
  deleted with it.

Nothing is lost or duplicated where the two queues meet: after the group's own queue is bound, a
marker (an entry without events, which readers ignore) is published to the log, so that it arrives
in the stream and in the queue. The copy ends at the marker, and what the queue received before it
is dropped.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from streamll.brokers.rabbitmq import client as rabbitmq_client
from streamll.brokers.source import READ_BATCH_ENTRIES, SourceOptions

DELIVERY_LIMIT = 100
"""After so many deliveries RabbitMQ itself dead-letters a group's message (x-delivery-limit)."""

GROUP_SIZE = "x-quorum-initial-group-size"
"""The argument that says on how many nodes a quorum queue is. Without it RabbitMQ decides: on three."""

REPLY_TIMEOUT_S = 10.0

LOCK_POLL_S = 0.1
"""How often a member checks whether the one that copies has finished."""

JOIN_TIMEOUT_S = 2.0
"""How long joining waits for a copy; a longer one continues while ``read`` returns nothing."""

HISTORY_POLL_S = 0.25
"""How often a member checks whether the history is empty for good."""

LEADER_TIMEOUT_S = 5.0
"""How long a member that comes back waits for its queues to have leaders; in an alarm they confirm
nothing."""

RETURN_S = 0.5
"""How long a queue may take to notice lost connections, once it has a leader."""

MARKER = b'{"v":1,"events":[]}'


class GroupMember:
    """One member of a group, across any number of connections."""

    def __init__(self, options: SourceOptions, replicas: int | None = None) -> None:
        self._log = options.target
        self._replicas = replicas
        self._start = options.start
        self._live = f"{options.target}.group.{options.group}"
        self._history = f"{self._live}.history"
        self._filling = f"{self._live}.filling"
        self._lock = f"{self._live}.lock"
        self._created = False
        self._connection: Any = None
        self._channel: Any = None
        self._deliver: Callable[[Any], Awaitable[None]]
        self._connect_again: Callable[[], Awaitable[Any]]
        self._following: asyncio.Task[None]
        self._consumers: dict[str, str] = {}  # queue to consumer tag
        self._held: dict[int, str] = {}  # unacknowledged delivery tag to consumer tag
        self._quiet = False  # nothing has been delivered since the history was checked

    async def join(
        self,
        connection: Any,
        channel: Any,
        deliver: Callable[[Any], Awaitable[None]],
        connect_again: Callable[[], Awaitable[Any]],
    ) -> None:
        """Have the group's messages delivered: soon, or once its history has been copied.

        ``connect_again`` opens another connection to the same node.
        """
        self._connection, self._channel, self._deliver = connection, channel, deliver
        self._connect_again = connect_again
        self._consumers, self._held = {}, {}
        started = asyncio.Event()
        copies = await self._history_is_incomplete()
        self._following = asyncio.create_task(self._follow(started, copies=copies))
        # Its error is retrieved, so that a task abandoned with its connection logs nothing.
        self._following.add_done_callback(lambda task: task.cancelled() or task.exception())
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(started.wait(), JOIN_TIMEOUT_S if copies else None)
        self.check()

    def check(self) -> None:
        """Raise the error that ended the delivery, if one did."""
        if self._following.done():
            self._following.result()

    async def acknowledge(self, message: Any) -> None:
        await message.ack()
        self._held.pop(message.delivery_tag, None)

    async def lag(self) -> int | None:
        """Messages that wait for members, and those this one holds; ``None`` without a queue."""
        live = await queue_counts(self._connection, self._live)
        if live is None or not self._consumers:
            return None
        history = await queue_counts(self._connection, self._history)
        # What waited no longer when it was counted may be on its way here: until it is, it is not held.
        await rabbitmq_client.receive_all(self._channel)
        return live[0] + (history[0] if history else 0) + len(self._held)

    # --- consuming ------------------------------------------------------------------------------

    async def _follow(self, started: asyncio.Event, *, copies: bool) -> None:
        """Complete the history, consume it, and then the group's own queue."""
        try:
            if copies:
                await self._complete_history()
            async with self._connection.channel() as declaring:
                await self._declare_live(declaring)
            comes_back, self._created = self._created, True
            if comes_back:
                await self._wait_for_returned()
            history = await queue_counts(self._connection, self._history)
            if history is not None:
                await self._consume(self._history)
            if history is None or (not history[0] and await self._history_is_empty()):
                await self._consume(self._live)
        finally:
            started.set()
        while self._history in self._consumers:
            self._quiet = True
            await asyncio.sleep(HISTORY_POLL_S)
            if self._quiet:
                await self._leave_history()

    async def _wait_for_returned(self) -> None:
        """Until the queues have taken back what this member's lost connection held.

        They give that first then. Whoever consumes before gets later entries of the same runs first,
        as where a node was killed and the queue's next leader is told of the consumer that comes back
        before it has noticed the one that is gone.
        """
        with contextlib.suppress(Exception):  # there are other reasons not to be told
            await asyncio.wait_for(self._reach_leaders(), LEADER_TIMEOUT_S)
        await asyncio.sleep(RETURN_S)

    async def _reach_leaders(self) -> None:
        """Return once the queues have leaders, which confirm what they are sent.

        Over a connection of its own: RabbitMQ does not listen to one that has published while there is
        an alarm, and so to no acknowledgements.
        """
        connection = await self._connect_again()
        try:
            channel = await connection.channel(publisher_confirms=True)
            for name in (self._history, self._live):
                if await queue_counts(connection, name) is not None:
                    await channel.default_exchange.publish(_persistent(MARKER), name)
        finally:
            await rabbitmq_client.close(connection)

    async def _consume(self, name: str) -> None:
        queue = await self._channel.get_queue(name, ensure=False)
        self._consumers[name] = await queue.consume(self._receive)

    async def _receive(self, message: Any) -> None:
        self._quiet = False
        self._held[message.delivery_tag] = message.consumer_tag
        await self._deliver(message)

    async def _leave_history(self) -> None:
        """Consume the group's own queue once the history is empty.

        The history stays consumed, for what a member that dies leaves of it, until no other member
        does: then it is deleted.
        """
        counts = await queue_counts(self._connection, self._history)
        if counts is not None and (counts[0] or not await self._history_is_empty()):
            return
        if self._live not in self._consumers:
            await self._consume(self._live)
        if counts is None:
            del self._consumers[self._history]
        elif counts[1] <= 1 and self._consumers[self._history] not in self._held.values():
            history = await self._channel.get_queue(self._history, ensure=False)
            await history.cancel(self._consumers.pop(self._history))
            empty = await self._history_is_empty()
            if empty and await queue_counts(self._connection, self._history) == (0, 0):
                async with self._connection.channel() as channel:
                    await channel.queue_delete(self._history)
            else:
                await self._consume(self._history)

    async def _history_is_empty(self) -> bool:
        """Ask the queue's leader itself. Of a queue whose leader is away RabbitMQ counts no messages
        and no consumers (``queue_counts``).
        """
        from aiormq.exceptions import ChannelNotFoundEntity

        channel = await self._connection.channel()
        history = await channel.get_queue(self._history, ensure=False)
        try:
            message = await history.get(fail=False, timeout=REPLY_TIMEOUT_S)
        except ChannelNotFoundEntity:  # another member has deleted it meanwhile
            return True
        if message is not None:
            await message.nack(requeue=True)
        await channel.close()
        return message is None

    # --- copying --------------------------------------------------------------------------------

    async def _history_is_incomplete(self) -> bool:
        if await queue_counts(self._connection, self._filling) is not None:
            return True
        if self._start == "new" or self._created:
            return False
        return await queue_counts(self._connection, self._live) is None

    async def _complete_history(self) -> None:
        """Copy what the log held before the group was created, or wait for the one who does."""
        from aiormq.exceptions import ChannelLockedResource

        while await self._history_is_incomplete():
            channel = await self._connection.channel()
            try:
                await channel.declare_queue(self._lock, exclusive=True)
            except ChannelLockedResource:
                await asyncio.sleep(LOCK_POLL_S)
                continue
            if await self._history_is_incomplete():
                async with self._connection.channel(publisher_confirms=True) as filling:
                    await self._fill(filling)
            await channel.queue_delete(self._lock)
            await channel.close()

    async def _fill(self, channel: Any) -> None:
        if await queue_counts(self._connection, self._filling) is None:
            await self._declare(channel, self._filling)
        history = await self._declare(channel, self._history)
        await history.purge()  # of a copy that was broken off
        live = await self._declare_live(channel)
        marker = uuid.uuid4().hex
        exchange = await channel.get_exchange(self._log, ensure=False)
        await exchange.publish(_persistent(MARKER, marker), "marker", timeout=REPLY_TIMEOUT_S)
        if not await self._copy(channel, marker):
            await channel.queue_delete(self._history)
        while (await live.get(no_ack=True, timeout=REPLY_TIMEOUT_S)).message_id != marker:
            pass
        await channel.queue_delete(self._filling)

    async def _copy(self, channel: Any, marker: str) -> int:
        """Copy from the stream to the history, up to the marker; return how many messages."""
        await channel.set_qos(prefetch_count=READ_BATCH_ENTRIES)
        arrived: asyncio.Queue[Any] = asyncio.Queue()
        stream = await channel.get_queue(f"{self._log}.log", ensure=False)
        begin = "first" if self._start in ("new", "beginning") else int(self._start) + 1
        tag = await stream.consume(arrived.put, arguments={"x-stream-offset": begin})
        send = channel.default_exchange.publish
        copied, reached = 0, False
        while not reached:
            messages = [await asyncio.wait_for(arrived.get(), REPLY_TIMEOUT_S)]
            while not arrived.empty():
                messages.append(arrived.get_nowait())
            for message in messages:
                await message.ack()
            ids = [message.message_id for message in messages]
            if marker in ids:
                reached = True
                messages = messages[: ids.index(marker)]
            copies = [send(_persistent(message.body), self._history) for message in messages]
            copied += len(copies)
            await asyncio.wait_for(asyncio.gather(*copies), REPLY_TIMEOUT_S)
        await stream.cancel(tag)
        return copied

    async def _declare(self, channel: Any, name: str) -> Any:
        """A queue of the group, which is created if it does not exist. One that does keeps its replicas."""
        from aiormq.exceptions import ChannelPreconditionFailed

        arguments = {
            "x-queue-type": "quorum",
            "x-delivery-limit": DELIVERY_LIMIT,
            "x-dead-letter-exchange": f"{self._log}.dead",
        }
        if self._replicas is not None:
            arguments[GROUP_SIZE] = self._replicas
        try:
            declaring = await self._connection.channel()
            await declaring.declare_queue(name, durable=True, arguments=arguments)
            await declaring.close()
        except ChannelPreconditionFailed as error:
            if GROUP_SIZE not in str(error):
                raise
        return await channel.get_queue(name, ensure=False)

    async def _declare_live(self, channel: Any) -> Any:
        queue = await self._declare(channel, self._live)
        await queue.bind(self._log, "#")
        return queue


async def queue_counts(connection: Any, name: str) -> tuple[int, int] | None:
    """How many messages and consumers a queue has; ``None`` if it does not exist."""
    from aiormq.exceptions import ChannelNotFoundEntity

    channel = await connection.channel()
    try:
        queue = await channel.declare_queue(name, passive=True)
    except ChannelNotFoundEntity as error:
        if "no queue" not in str(error):
            raise  # it exists, but after a restart it is not available on every node yet
        return None
    await channel.close()
    result = queue.declaration_result
    return int(result.message_count or 0), int(result.consumer_count or 0)


def _persistent(body: bytes, message_id: str | None = None) -> Any:
    import aio_pika

    return aio_pika.Message(
        body,
        content_type="application/json",
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        message_id=message_id,
    )
