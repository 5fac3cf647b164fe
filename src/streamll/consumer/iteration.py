"""``async for event in consumer``, for readers that give up waiting and come back.

An asynchronous generator ends when an ``anext`` on it is cancelled. So each step of the generator
that reads is a task of its own, and an ``anext`` only waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator

from streamll.core.events import Event
from streamll.flow.dual import DualIterator


class Iteration(DualIterator[Event]):
    """The events of the lists that ``batches`` yields. On one event loop."""

    def __init__(self, batches: AsyncGenerator[list[Event], None]) -> None:
        self._batches = batches
        self._loop: asyncio.AbstractEventLoop | None = None
        self._step: asyncio.Task[list[Event]] | None = None
        self._closing: asyncio.Task[None] | None = None

    async def _aread(self) -> list[Event]:
        self._loop = asyncio.get_running_loop()
        step = self._step = self._step or asyncio.create_task(self._advance())
        await asyncio.wait({step})
        self._step = None
        if self._over:
            raise StopAsyncIteration
        return step.result()

    async def _advance(self) -> list[Event]:
        return await anext(self._batches)

    def _feed(self, read: list[Event]) -> list[Event]:
        return read

    def _release(self) -> None:
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed, and all that ran on it
                self._loop.call_soon_threadsafe(self._close_soon)

    async def aclose(self) -> None:
        """Stop reading and disconnect."""
        self.leave()
        if self._loop is not None:
            await asyncio.shield(self._close_soon())

    def _close_soon(self) -> asyncio.Task[None]:
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())
        return self._closing

    async def _close(self) -> None:
        if self._step is not None:
            self._step.cancel()
            await asyncio.gather(self._step, return_exceptions=True)
        await self._batches.aclose()
