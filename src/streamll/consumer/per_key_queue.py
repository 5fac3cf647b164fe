"""Work in order per run, beside other runs' work, and never more of it than there is room for."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class PerKeyQueue(Generic[T]):
    """One lane per run. PerKeyQueue work side by side, ``concurrency`` of them at a time.

    ``work`` must not raise.
    """

    def __init__(
        self, work: Callable[[T], Awaitable[None]], *, concurrency: int, capacity: int
    ) -> None:
        self._work = work
        self._turns = asyncio.Semaphore(concurrency)
        self._capacity = capacity
        self._load = 0
        self._lanes: dict[Hashable, deque[tuple[T, int]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._eased = asyncio.Event()

    async def add(self, lane: Hashable, item: T, weight: int) -> None:
        """Queue an item of so many events; waits while there are too many."""
        while self._load and self._load + weight > self._capacity:
            self._eased.clear()
            await self._eased.wait()
        self._load += weight
        queue = self._lanes.get(lane)
        if queue is not None:
            queue.append((item, weight))
            return
        self._lanes[lane] = deque([(item, weight)])
        task = asyncio.create_task(self._drive(lane))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def finish(self) -> None:
        """Wait until all work is done."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def cancel(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def _drive(self, lane: Hashable) -> None:
        queue = self._lanes[lane]
        while queue:
            item, weight = queue[0]
            async with self._turns:
                await self._work(item)
            queue.popleft()
            self._load -= weight
            self._eased.set()
        del self._lanes[lane]
