"""``buffer(source, n, seconds=…)``: what came within a while, as one list.

The one operator that waits for two things at once, so its source is read by a producer of its own,
at most one batch ahead.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import anyio

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
        try:
            return self._producer.channel.get_batch(self._room, self._remaining())
        except TimeoutError:
            return []

    async def _aread(self) -> list[Any]:
        self._producer.start(on_loop=True)
        try:
            with anyio.fail_after(self._remaining()):
                return await self._producer.channel.get_batch_async(self._room)
        except TimeoutError:
            return []

    @property
    def _room(self) -> int:
        return self._most - len(self._batch)

    def _remaining(self) -> float | None:
        return self._deadline - time.monotonic() if self._batch else None

    def _feed(self, read: list[Any]) -> list[list[Any]]:
        if not self._batch:
            self._deadline = time.monotonic() + self._seconds
        self._batch += read
        return self._take() if not self._room or time.monotonic() >= self._deadline else []

    def _end(self, error: Exception | None) -> Iterator[list[Any]]:
        yield from self._take()
        yield from super()._end(error)

    def _take(self) -> list[list[Any]]:
        batch, self._batch = self._batch, []
        return [batch] if batch else []
