"""``buffer(source, n, seconds=…)``: what came within a while, as one list.

The one operator that waits for two things at once, so its source is read by a producer of its own,
at most one batch ahead.
"""

from __future__ import annotations

import time
from typing import Any

import anyio

from streamll.core.errors import ChannelClosed
from streamll.flow.bridge import Bridge

MAX_BATCH_ITEMS = 1_000
"""Items of a batch that is bounded by time only."""


class Batches(Bridge):
    """Lists of up to ``n`` items; each list is complete ``seconds`` after its first item."""

    def __init__(self, source: Any, n: int | None, seconds: float) -> None:
        self._most = n or MAX_BATCH_ITEMS
        super().__init__(source, capacity=self._most, name="buffer")
        self._seconds = seconds
        self._batch: list[Any] = []  # kept over a cancelled read
        self._deadline = 0.0

    def _read(self) -> list[Any]:
        self._producer.start(on_loop=False)
        channel = self._producer.channel
        while not self._complete():
            timeout = self._remaining() if self._batch else None
            try:
                self._add(channel.get_batch(self._most - len(self._batch), timeout))
            except (TimeoutError, ChannelClosed):
                break
        return self._take()

    async def _aread(self) -> list[Any]:
        self._producer.start(on_loop=True)
        channel = self._producer.channel
        while not self._complete():
            timeout = self._remaining() if self._batch else None
            try:
                with anyio.fail_after(timeout):
                    self._add(await channel.get_batch_async(self._most - len(self._batch)))
            except (TimeoutError, ChannelClosed):
                break
        return self._take()

    def _feed(self, read: list[Any]) -> list[list[Any]]:
        return [read]

    def _complete(self) -> bool:
        return len(self._batch) >= self._most or (bool(self._batch) and self._remaining() <= 0)

    def _remaining(self) -> float:
        return self._deadline - time.monotonic()

    def _add(self, items: list[Any]) -> None:
        if not self._batch:
            self._deadline = time.monotonic() + self._seconds
        self._batch += items

    def _take(self) -> list[Any]:
        batch, self._batch = self._batch, []
        if not batch:
            raise ChannelClosed("the source has ended")
        return batch
