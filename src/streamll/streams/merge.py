"""Several streams as one: items as they come, each with its source.

Every source has a small queue of its own, and waits when that is full; sources that have
something take turns, so a fast one cannot crowd out a slow one. Leaving the merged stream closes
all sources.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import AsyncIterator, Hashable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, NamedTuple

from streamll.core.errors import ChannelClosed, StreamllError
from streamll.flow.channel import Channel
from streamll.streams.sources import aopened, checked, close_from_elsewhere, opened
from streamll.streams.stream_events import Error

BUFFER_SIZE = 16
"""Items of one source that may wait."""


AT_ONCE = 256
END = object()


class Tagged(NamedTuple):
    """An item and the source it comes from: its place in the list, or its key."""

    source: Hashable
    event: Any


class _Lane:
    """One source, its queue, and how it ended."""

    def __init__(self, name: Hashable, source: Any, buffer_size: int) -> None:
        self.name = name
        self.source = source
        self.channel: Channel[Any] = Channel(buffer_size, name=f"source {name}")
        self.error: Exception | None = None
        self.left = False
        self.open: list[Any] = []  # what can be closed from another thread

    def leave(self) -> None:
        self.left = True
        self.channel.abandon()
        for source in self.open:
            close_from_elsewhere(source)


class MergedStream:
    """What ``aggregate_streams`` returns: iterate over it with ``for`` or ``async for``, once.

    ``close`` (or leaving a ``with`` block, or the loop) closes all sources.
    """

    def __init__(
        self,
        sources: Iterable[Any] | Mapping[Hashable, Any],
        *,
        buffer_size: int = BUFFER_SIZE,
        stop_on_error: bool = False,
        raise_errors: bool = False,
    ) -> None:
        named = sources.items() if isinstance(sources, Mapping) else enumerate(sources)
        self._lanes = [_Lane(name, checked(source), buffer_size) for name, source in named]
        self._stop_on_error = stop_on_error
        self._raise_errors = raise_errors  # of the sources themselves, not those they tell of
        # One entry for every item, and one for every end.
        self._ready: Channel[_Lane] = Channel(
            max(1, len(self._lanes) * (buffer_size + 1)), name="merged"
        )
        self._turns: dict[_Lane, int] = {}  # what each lane has, in the order of their turns
        self._open = len(self._lanes)
        self._threads: list[threading.Thread] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._started = False

    # --- reading ----------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Tagged]:
        self.start_threads()
        try:
            while self._open:
                self._hear(None)
                if (tagged := self._next()) is not None:
                    yield tagged
        finally:
            self.close()

    async def __aiter__(self) -> AsyncIterator[Tagged]:
        self.start_tasks()
        try:
            while self._open:
                await self._hear_async()
                if (tagged := self._next()) is not None:
                    yield tagged
        finally:
            await self.aclose()

    def take(self, timeout: float | None = None) -> Any:
        """The next item, without its source. ``ChannelClosed`` at the end, ``TimeoutError``."""
        while self._open:
            self._hear(timeout)
            if (tagged := self._next()) is not None:
                return tagged.event
        raise ChannelClosed("all sources have ended")

    async def take_async(self) -> Any:
        """The same on an event loop. Cancelling the wait loses nothing."""
        while self._open:
            await self._hear_async()
            if (tagged := self._next()) is not None:
                return tagged.event
        raise ChannelClosed("all sources have ended")

    def _hear(self, timeout: float | None) -> None:
        """Note which lanes have something; wait only if none is known to."""
        if not self._turns or not self._ready.empty:
            self._note(self._ready.get_batch(AT_ONCE, timeout))

    async def _hear_async(self) -> None:
        if not self._turns or not self._ready.empty:
            self._note(await self._ready.get_batch_async(AT_ONCE))

    def _note(self, lanes: list[_Lane]) -> None:
        for lane in lanes:
            self._turns[lane] = self._turns.get(lane, 0) + 1

    def _next(self) -> Tagged | None:
        """One item of the lane whose turn it is; then it is the next one's."""
        lane = next(iter(self._turns))
        if (left := self._turns.pop(lane) - 1) > 0:
            self._turns[lane] = left
        try:
            item = lane.channel.get(timeout=0)
        except ChannelClosed:
            self._open -= 1
            if lane.error is None:
                return None
            if self._raise_errors:
                raise lane.error from None
            item = Error(lane.error)
        if self._stop_on_error and isinstance(item, Error):
            raise item.error
        return Tagged(lane.name, item)

    # --- starting ---------------------------------------------------------------------------

    def start_threads(self) -> None:
        """Read every source in a thread of its own."""
        self._start()
        for lane in self._lanes:
            run = contextvars.copy_context().run
            name = f"streamll source {lane.name}"
            thread = threading.Thread(target=run, args=(self._pump, lane), name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def start_tasks(self) -> None:
        """Read every source in a task of this event loop."""
        self._start()
        self._tasks = [asyncio.create_task(self._apump(lane)) for lane in self._lanes]

    def _start(self) -> None:
        if self._started:
            raise StreamllError("a merged stream is read once; merge the sources once more")
        self._started = True

    # --- leaving ----------------------------------------------------------------------------

    def close(self) -> None:
        """Close every source; their threads end as soon as they notice."""
        for lane in self._lanes:
            lane.leave()
        for thread in self._threads:
            thread.join(0.2)

    async def aclose(self) -> None:
        """The same on an event loop."""
        for lane in self._lanes:
            lane.left = True
            lane.channel.abandon()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=2.0)

    def __enter__(self) -> Iterator[Tagged]:
        self._entered = iter(self)
        return self._entered

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._entered.close()  # type: ignore[attr-defined]

    async def __aenter__(self) -> AsyncIterator[Tagged]:
        self._aentered = self.__aiter__()
        return self._aentered

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._aentered.aclose()  # type: ignore[attr-defined]

    # --- from the sources -------------------------------------------------------------------

    def _pump(self, lane: _Lane) -> None:
        try:
            with opened(lane.source, lane.open.append) as items:
                while not lane.left and (item := next(items, END)) is not END:
                    self._put(lane, item)
                    lane.channel.wait_for_space()
        except Exception as error:  # noqa: BLE001 - an item for the reader
            lane.error = error
        finally:
            self._end(lane)

    async def _apump(self, lane: _Lane) -> None:
        try:
            async with aopened(lane.source) as items:
                async for item in items:
                    self._put(lane, item)
                    await lane.channel.wait_for_space_async()
        except Exception as error:  # noqa: BLE001
            lane.error = error
        finally:
            self._end(lane)

    def _put(self, lane: _Lane, item: Any) -> None:
        lane.channel.put(item)
        self._ready.put(lane)

    def _end(self, lane: _Lane) -> None:
        lane.channel.close()
        with contextlib.suppress(ChannelClosed):
            self._ready.put(lane)


def aggregate_streams(
    streams: Iterable[Any] | Mapping[Hashable, Any],
    *,
    buffer_size: int = BUFFER_SIZE,
    stop_on_error: bool = False,
) -> MergedStream:
    """Merge streams fairly; each item is ``(source, event)``.

    Args:
        streams: anything to iterate over, with ``for`` or ``async for``; a mapping gives names.
        buffer_size: items of one source that may wait for the reader.
        stop_on_error: a failing source ends the merged stream with its error. Otherwise its
            error is an item (``StreamEvent.Error``) and the others go on.
    """
    return MergedStream(streams, buffer_size=buffer_size, stop_on_error=stop_on_error)
