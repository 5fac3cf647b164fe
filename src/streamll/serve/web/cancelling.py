"""Stopping a program that runs for one reader alone, who stays to hear how it ends.

Leaving ``streamll.stream`` stops the program, and discards what it says from then on: nobody is
there. Here somebody is, so ``Unread`` listens beside the reader and keeps what he has not had.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator
from typing import Any

from streamll.core.errors import StreamCancelled
from streamll.core.events import TERMINAL, Event
from streamll.serve.log.frames import Item, items_of
from streamll.serve.log.streams import items_of_call

END_SECONDS = 5.0
"""What a program that was stopped gets to end in: a tool that blocks may need longer."""


class Unread:
    """An outlet for ``streamll.stream(sinks=[…])``. Holds no more than the reader's channel."""

    def __init__(self) -> None:
        self._events: deque[Event] = deque()
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()

    def put(self, event: Event) -> None:
        """From any thread."""
        self._events.append(event)
        if event.event_type in TERMINAL:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._ended.set)

    def had(self, seq: int) -> None:
        """The reader has had everything up to ``seq``."""
        events = self._events
        while events and (events[0].seq is None or events[0].seq <= seq):
            events.popleft()

    async def rest(self) -> list[Event]:
        """What the reader has not had, to the run's end."""
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._ended.wait(), END_SECONDS)
        rest = list(self._events)
        self._events.clear()
        return rest


class OwnRun:
    """A program that runs for one reader: ``items`` are its items, ``cancel`` stops it."""

    def __init__(self, call: Any, unread: Unread) -> None:
        self._call = call
        self._unread = unread
        self._leaving: asyncio.Task[None] | None = None
        self._events: Any = None

    def cancel(self) -> None:
        """Stop the program; ``items`` go on to ``run.cancelled``."""
        if self._leaving is None and self._events is not None:
            self._leaving = asyncio.ensure_future(self._events.aclose())

    async def items(self) -> AsyncGenerator[list[Item], None]:
        last = -1
        batches = items_of_call(self._call, self._entered)
        try:
            async with contextlib.aclosing(batches):
                async for items in batches:
                    last = items[-1].last
                    self._unread.had(last)
                    yield items
        except StreamCancelled:
            if self._leaving is None:
                raise
        if self._leaving is not None:
            await self._leaving
            self._unread.had(last)
            yield items_of(await self._unread.rest(), last)

    def _entered(self, events: Any) -> None:
        self._events = events
