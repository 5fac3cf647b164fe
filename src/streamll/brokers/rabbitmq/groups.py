"""The queues of a RabbitMQ group, and what a new group gets of the time before it was made.

A group called ``g`` of the log ``streamll`` shares the quorum queue ``streamll.group.g``, which gets
what is published after it was bound. A group that begins at the beginning, or at a cursor, has to
get what the log's stream holds already. The first member copies that, once:

* ``streamll.group.g.history``, a quorum queue, takes the copy. Members empty it before they go on
  with the group's own queue; then it is deleted.
* ``streamll.group.g.filling`` is there while the copy is incomplete, and nobody reads. If the
  member that copies dies, another begins the copy anew.
* ``streamll.group.g.lock`` belongs to the connection of the member that copies, and goes with it.

Nothing is missing or twice where the two meet. When the group's own queue has been bound, a marker
(an entry without events, which any reader passes over) is published to the log, so that it is in
the stream and in the queue. The copy ends at the marker; what the queue got before it is dropped.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import Any

from streamll.brokers.source import READ_BATCH_ENTRIES, READ_TIMEOUT_S, SourceOptions

MAX_DELIVERIES_EVER = 100
"""After so many deliveries RabbitMQ itself makes a group's message a dead letter."""

REPLY_TIMEOUT_S = 10.0
LOCK_POLL_S = 0.1
"""How often a member looks whether the one that copies has done."""

JOIN_TIMEOUT_S = 2.0
"""How long joining waits for a copy; a longer one goes on while there is nothing to read."""

POLL_S = 0.5
"""How often a member looks whether the history is empty for good."""

MARKER = b'{"v":1,"events":[]}'


class GroupQueues:
    """The queues of one group. Every method takes the connection it shall use."""

    def __init__(self, options: SourceOptions) -> None:
        self._log = options.target
        self._start = options.start
        self._is_made = False
        self.live = f"{options.target}.group.{options.group}"
        self.history = f"{self.live}.history"
        self._filling = f"{self.live}.filling"
        self._lock = f"{self.live}.lock"

    async def make(self, connection: Any) -> bool:
        """Make what may be made at once; whether ``complete`` has to follow."""
        if await self._is_incomplete(connection):
            return True
        channel = await connection.channel()
        await self._make_live(channel)
        await channel.close()
        self._is_made = True
        return False

    async def complete(self, connection: Any) -> None:
        """Copy what the log held before the group was made, or wait until somebody has."""
        from aiormq.exceptions import ChannelLockedResource

        while await self._is_incomplete(connection):
            channel = await connection.channel()
            try:
                await channel.declare_queue(self._lock, exclusive=True)
            except ChannelLockedResource:
                await asyncio.sleep(LOCK_POLL_S)
                continue
            if await self._is_incomplete(connection):
                await self._fill(connection)
            await channel.queue_delete(self._lock)
            await channel.close()
        self._is_made = True

    async def waiting(self, connection: Any, name: str) -> tuple[int, int] | None:
        """How many messages wait in a queue, and how many consume it; ``None``: it is not there."""
        from aiormq.exceptions import ChannelNotFoundEntity

        channel = await connection.channel()
        try:
            queue = await channel.declare_queue(name, passive=True)
        except ChannelNotFoundEntity as error:
            if "no queue" not in str(error):
                raise  # it is there, but after a restart not for everybody yet
            return None
        result = queue.declaration_result
        await channel.close()
        return int(result.message_count or 0), int(result.consumer_count or 0)

    async def drop_history(self, connection: Any) -> bool:
        """Delete the empty history, unless somebody still has to do with it."""
        if await self.waiting(connection, self.history) != (0, 0):
            return False
        channel = await connection.channel()
        await channel.queue_delete(self.history)
        await channel.close()
        return True

    # --- copying --------------------------------------------------------------------------------

    async def _is_incomplete(self, connection: Any) -> bool:
        if await self.waiting(connection, self._filling) is not None:
            return True
        if self._start == "new" or self._is_made:
            return False
        return await self.waiting(connection, self.live) is None

    async def _make(self, channel: Any, name: str) -> Any:
        return await channel.declare_queue(
            name,
            durable=True,
            arguments={
                "x-queue-type": "quorum",
                "x-delivery-limit": MAX_DELIVERIES_EVER,
                "x-dead-letter-exchange": f"{self._log}.dead",
            },
        )

    async def _make_live(self, channel: Any) -> Any:
        queue = await self._make(channel, self.live)
        await queue.bind(self._log, "#")
        return queue

    async def _fill(self, connection: Any) -> None:
        channel = await connection.channel(publisher_confirms=True)
        await channel.declare_queue(self._filling, durable=True)
        await (await self._make(channel, self.history)).purge()  # of a copy that was broken off
        live = await self._make_live(channel)
        marker = uuid.uuid4().hex
        exchange = await channel.get_exchange(self._log, ensure=False)
        await exchange.publish(_persistent(MARKER, marker), "marker", timeout=REPLY_TIMEOUT_S)
        if not await self._copy(channel, marker):
            await channel.queue_delete(self.history)
        while (await live.get(no_ack=True, timeout=REPLY_TIMEOUT_S)).message_id != marker:
            pass
        await channel.queue_delete(self._filling)
        await channel.close()

    async def _copy(self, channel: Any, marker: str) -> int:
        """From the stream to the history, up to the marker and without it; how much that was."""
        await channel.set_qos(prefetch_count=READ_BATCH_ENTRIES)
        arrived: asyncio.Queue[Any] = asyncio.Queue()
        stream = await channel.get_queue(f"{self._log}.log", ensure=False)
        begin = "first" if self._start in ("new", "beginning") else int(self._start) + 1
        tag = await stream.consume(arrived.put, arguments={"x-stream-offset": begin})
        copied, reached = 0, False
        while not reached:
            messages = [await asyncio.wait_for(arrived.get(), REPLY_TIMEOUT_S)]
            while not arrived.empty():
                messages.append(arrived.get_nowait())
            for message in messages:
                await message.ack()
            found = [message.message_id for message in messages]
            if marker in found:
                reached = True
                messages = messages[: found.index(marker)]
            copies = [_persistent(message.body) for message in messages]
            copied += len(copies)
            send = channel.default_exchange.publish
            await asyncio.wait_for(
                asyncio.gather(*(send(copy, self.history) for copy in copies)), REPLY_TIMEOUT_S
            )
        await stream.cancel(tag)
        return copied


class Membership:
    """One member's part in a group, through one connection after the other."""

    def __init__(self, options: SourceOptions) -> None:
        self._queues = GroupQueues(options)
        self._connection: Any = None
        self._channel: Any = None
        self._put: Any = None
        self._filling: asyncio.Task[None] | None = None
        self._consuming: dict[str, str] = {}  # queue, and the tag of its consumer
        self._held: dict[int, str] = {}  # what is to be acknowledged, and its consumer's tag
        self._look_at = 0.0

    async def join(self, connection: Any, channel: Any, put: Any) -> None:
        """Have the group's messages ``put`` somewhere: at once, or when ``go_on`` says so."""
        self._connection, self._channel, self._put = connection, channel, put
        self._consuming, self._held = {}, {}
        self._filling = None
        if await self._queues.make(connection):
            self._filling = asyncio.create_task(self._queues.complete(connection))
            self._filling.add_done_callback(_noted)
            await self.go_on(JOIN_TIMEOUT_S)
        else:
            await self._begin()

    @property
    def has_to_wait(self) -> bool:
        """Whether the group is being made yet, and gets nothing."""
        return self._filling is not None

    async def go_on(self, patience: float = READ_TIMEOUT_S) -> None:
        """Look what comes next; to be called while no messages arrive."""
        if self._filling is not None:
            done, _ = await asyncio.wait([self._filling], timeout=patience)
            if done:
                filling, self._filling = self._filling, None
                filling.result()
                await self._begin()
        elif self._queues.history in self._consuming and time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + POLL_S
            await self._leave_history()

    async def acknowledge(self, message: Any) -> None:
        await message.ack()
        self._held.pop(message.delivery_tag, None)

    async def waiting(self) -> int | None:
        """What waits for members, and what this one has; ``None`` before there is a queue."""
        live = await self._queues.waiting(self._connection, self._queues.live)
        if live is None or self._filling is not None:
            return None
        history = await self._queues.waiting(self._connection, self._queues.history)
        return live[0] + (history[0] if history else 0) + len(self._held)

    async def _begin(self) -> None:
        history = await self._queues.waiting(self._connection, self._queues.history)
        if history is not None:
            await self._consume(self._queues.history)
        if history is None or not history[0]:
            await self._consume(self._queues.live)

    async def _consume(self, name: str) -> None:
        queue = await self._channel.get_queue(name, ensure=False)
        self._consuming[name] = await queue.consume(self._arrive)

    async def _arrive(self, message: Any) -> None:
        self._held[message.delivery_tag] = message.consumer_tag
        await self._put(message)

    async def _leave_history(self) -> None:
        """The group's own queue is next when the history is empty. It stays consumed, for what
        a member that dies leaves of it, until nobody else does: then it is deleted.
        """
        name = self._queues.history
        found = await self._queues.waiting(self._connection, name)
        if found is not None and found[0]:
            return
        if self._queues.live not in self._consuming:
            await self._consume(self._queues.live)
        if found is None:
            del self._consuming[name]
        elif found[1] <= 1 and self._consuming[name] not in self._held.values():
            history = await self._channel.get_queue(name, ensure=False)
            await history.cancel(self._consuming.pop(name))
            if not await self._queues.drop_history(self._connection):
                await self._consume(name)


def _noted(task: asyncio.Task[None]) -> None:
    """Nobody asks for its outcome any more when the connection is lost meanwhile."""
    if not task.cancelled():
        task.exception()


def _persistent(body: bytes, message_id: str | None = None) -> Any:
    import aio_pika

    return aio_pika.Message(
        body,
        content_type="application/json",
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        message_id=message_id,
    )
