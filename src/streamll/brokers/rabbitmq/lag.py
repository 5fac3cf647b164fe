"""How far a RabbitMQ stream goes: what a reader's lag is measured against."""

from __future__ import annotations

import asyncio
from typing import Any

REPLY_TIMEOUT_S = 5.0


class StreamExtent:
    """The last offset of a stream, as RabbitMQ's own statistics have it: up to 5 seconds late.

    They count what the stream holds. Its first offset is looked up when the log is first looked
    at, and again when the count falls: then the stream has let go of its oldest segment.
    """

    def __init__(self, log: str) -> None:
        self._name = f"{log}.log"
        self._first = 0
        self._count = 0

    async def first_and_last(self, connection: Any) -> tuple[int, int]:
        """The first offset is above the last one while the stream is empty."""
        channel = await connection.channel()
        try:
            queue = await channel.declare_queue(self._name, passive=True)
            count = int(queue.declaration_result.message_count or 0)
            if count and (not self._count or count < self._count):
                self._first = await self._look(channel, queue)
            self._count = count
        finally:
            await channel.close()
        return self._first, self._first + count - 1

    async def _look(self, channel: Any, queue: Any) -> int:
        await channel.set_qos(prefetch_count=1)
        arrived: asyncio.Queue[Any] = asyncio.Queue()
        await queue.consume(arrived.put, arguments={"x-stream-offset": "first"})
        message = await asyncio.wait_for(arrived.get(), REPLY_TIMEOUT_S)
        return int(message.headers["x-stream-offset"])
