"""A bounded queue whose items are worked on in order per key, and concurrently across keys."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class PerKeyQueue(Generic[T]):
    """Works on up to ``concurrency`` keys at a time. ``work`` must not raise.

    ``capacity`` bounds the weight of the items that wait or are worked on.
    """

    def __init__(
        self, work: Callable[[T], Awaitable[None]], *, concurrency: int, capacity: int
    ) -> None:
        self._work = work
        self._slots = asyncio.Semaphore(concurrency)
        self._capacity = capacity
        self._load = 0
        self._queues: dict[Hashable, deque[tuple[T, int]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._freed = asyncio.Event()

    async def add(self, key: Hashable, item: T, weight: int) -> None:
        """Queue an item; waits while the capacity is used up, unless the queue is empty."""
        while self._load and self._load + weight > self._capacity:
            self._freed.clear()
            await self._freed.wait()
        self._load += weight
        queue = self._queues.get(key)
        if queue is not None:
            queue.append((item, weight))
            return
        self._queues[key] = deque([(item, weight)])
        task = asyncio.create_task(self._drain(key))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def join(self) -> None:
        """Wait until all items are done."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def cancel(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def _drain(self, key: Hashable) -> None:
        queue = self._queues[key]
        while queue:
            item, weight = queue[0]
            async with self._slots:
                await self._work(item)
            queue.popleft()
            self._load -= weight
            self._freed.set()
        del self._queues[key]
