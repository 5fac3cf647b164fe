"""What came within a while, as one list: the one operator that must wait for two things at once.

The source is read in a thread (``for``) or a task (``async for``) of its own, at most one batch
ahead.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import anyio

from streamll.core.errors import ChannelClosed
from streamll.streams.merge import MergedStream

MOST = 1_000
"""Items of a batch that has only a time."""


class Batches:
    """``buffer(source, n, seconds=…)``."""

    def __init__(self, source: Any, n: int | None, seconds: float) -> None:
        self._source = source
        self._most = n or MOST
        self._seconds = seconds

    def __iter__(self) -> Iterator[list[Any]]:
        with self._reading() as merged:
            ended = False
            while not ended:
                batch: list[Any] = []
                deadline: float | None = None
                while len(batch) < self._most:
                    remaining = None if deadline is None else deadline - time.monotonic()
                    try:
                        item = merged.take(remaining)
                    except TimeoutError:
                        break
                    except ChannelClosed:
                        ended = True
                        break
                    batch.append(item)
                    deadline = deadline or time.monotonic() + self._seconds
                if batch:
                    yield batch

    async def __aiter__(self) -> AsyncIterator[list[Any]]:
        async with self._areading() as merged:
            ended = False
            while not ended:
                batch: list[Any] = []
                try:
                    batch.append(await merged.take_async())
                    with anyio.move_on_after(self._seconds):
                        while len(batch) < self._most:
                            batch.append(await merged.take_async())
                except ChannelClosed:
                    ended = True
                if batch:
                    yield batch

    @contextmanager
    def _reading(self) -> Iterator[MergedStream]:
        merged = self._merged()
        try:
            merged.start_threads()
            yield merged
        finally:
            merged.close()

    @asynccontextmanager
    async def _areading(self) -> AsyncIterator[MergedStream]:
        merged = self._merged()
        try:
            merged.start_tasks()
            yield merged
        finally:
            await merged.aclose()

    def _merged(self) -> MergedStream:
        return MergedStream([self._source], buffer_size=self._most, raise_errors=True)
