"""The log as a server sees it: one tail of everything for all readers of this process.

``Journal`` hears of everything in the log from when it was opened on, once (``tail``), and hands
each event to the ``Feed`` of its run, if anybody in this process reads it. What came before is read
for each reader from the log itself. Who falls behind what a feed keeps does that, too: a slow reader
costs no memory.

Events outside any run whose type begins with ``server.`` are the processes' talk with each other
(``runner``); they are no reader's business.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncGenerator, Callable, Iterator

from streamll.brokers.opening import (
    create_parent_folder,
    default_target,
    open_sink,
    open_source,
    without_password,
)
from streamll.brokers.sink import BrokerSink
from streamll.brokers.source import READ_BATCH_ENTRIES, Entry, SourceOptions
from streamll.consumer.deduplication import Deduplicator, decode_entry
from streamll.core.errors import StreamllError, WireError
from streamll.core.events import TERMINAL, Event
from streamll.serve.log.buffer import RunBuffer
from streamll.serve.log.frames import Item, Position, items_of, reached
from streamll.serve.log.tail import RETRY_SECONDS, LogTail

SHORT_READ_IS_THE_END = ("sqlite:", "redis:", "rediss:", "unix:")
CLOCKS_APART = 2.0
"""Seconds by which the clocks of the machines that write a log may differ."""

TURNS = 8
"""Readers that look into the log at once."""

START_SECONDS = 5.0
"""What a start waits for a log that is away; it goes on trying behind that."""
AWAY_SECONDS = 30.0
"""How long readers wait in silence for a log that is away, unless told otherwise."""

APPEARS_SECONDS = 0.5
"""From the beginning of a run to its first entry, at most, unless the log is very slow."""

TALK = "server."


class LogAway(StreamllError):
    """The log cannot be read at the moment."""

    def __init__(self) -> None:
        super().__init__("the log cannot be read")


class RunLog:
    """One log, written and read by this process's event loop.

    ``patience``: seconds that a log may be away before its readers are told.
    """

    def __init__(self, url: str, patience: float = AWAY_SECONDS) -> None:
        self.url = url
        self.patience = patience
        self.place = without_password(url)
        self.sink = open_sink(url)
        assert isinstance(self.sink, BrokerSink)
        self._target = default_target(url)
        self._ends_short = url.startswith(SHORT_READ_IS_THE_END)
        self._is_local = url.startswith("sqlite:")  # a page's reader need not keep its connection
        self._turns = asyncio.Semaphore(TURNS)
        self._buffers: dict[str, RunBuffer] = {}
        self._tail = LogTail(
            url, self.sink, hear=self._hear, glimpse=self._glimpse, follows=self._follows
        )
        self.talk: list[Callable[[Event], None]] = []
        self.everything: list[Callable[[list[Event]], None]] = []
        self.glimpses: list[Callable[[str], None]] = []
        self.follows_all = True
        """Whether also runs that nobody reads here are heard of in full."""
        self._opened_at = math.inf

    async def start(self) -> None:
        """Begin to listen. When it ``listens``, nothing written from then on can be missed."""
        create_parent_folder(self.url)
        if self._tail.start():
            self._opened_at = time.monotonic()
        patience = self._opened_at + START_SECONDS - time.monotonic()
        if not self.listens and patience > 0:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._tail.listening(), patience)

    @property
    def listens(self) -> bool:
        return self._tail.listens

    async def listening(self) -> None:
        """Wait until it ``listens``, however long that takes."""
        await self._tail.listening()

    @property
    def reachable(self) -> bool:
        return self._tail.reachable

    @property
    def since(self) -> float:
        """Since when it has been reachable, or away."""
        return self._tail.since

    @property
    def interrupted(self) -> bool:
        """It has been reachable and then away, at least once."""
        return self._tail.interrupted

    @property
    def is_given_up(self) -> bool:
        """The log has been away for longer than its readers wait."""
        return not self.reachable and time.monotonic() - self.since > self.patience

    @property
    def entries_read(self) -> int:
        return self._tail.entries_read

    async def close(self) -> None:
        await self._tail.stop()
        await asyncio.to_thread(self.sink.stop)

    # --- reading ------------------------------------------------------------------------------

    @contextlib.contextmanager
    def buffer(self, run_id: str) -> Iterator[RunBuffer]:
        """The feed of a run, from now on, for one more reader."""
        buffer = self._buffers.get(run_id)
        if buffer is None:
            buffer = self._buffers[run_id] = RunBuffer(run_id)
        buffer.readers += 1
        try:
            yield buffer
        finally:
            buffer.readers -= 1
            if not buffer.readers:
                self._buffers.pop(run_id, None)

    async def history(
        self, position: Position, patience: float = 0.0
    ) -> AsyncGenerator[list[Event], None]:
        """What the log holds of a run behind ``position``, and then no more.

        Raises:
            LogAway: it cannot be read, for ``patience`` seconds.
        """
        options = SourceOptions(
            target=self._target, start="beginning", run_id=position.run_id, waits=False
        )
        source = open_source(self.url, options)
        reading = Deduplicator()
        if position.seq >= 0:
            reading.resume(position.run_id, position.seq, position.offset)
        latest = time.time() + CLOCKS_APART
        connected, complete = False, False
        failing_since: float | None = None
        try:
            while not complete:
                try:
                    async with self._turns:  # so many connections at once, however many readers
                        if not connected:
                            await source.connect()
                            connected = True
                        entries = await source.read()
                        complete = not entries or (
                            len(entries) < READ_BATCH_ENTRIES and self._ends_short
                        )
                        if complete or self._is_local:
                            await source.close()
                            connected = False
                except Exception as error:
                    connected, failing_since = False, failing_since or time.monotonic()
                    if time.monotonic() - failing_since >= patience:
                        raise LogAway from error
                    await asyncio.sleep(RETRY_SECONDS)
                    continue
                failing_since = None
                letters = read_all(entries, reading)
                events = [e for each in letters for e in each if e.run_id == position.run_id]
                if events:
                    yield events
                    if events[-1].event_type in TERMINAL:
                        return
                if any(each and each[-1].timestamp > latest for each in letters):
                    return  # a log that is written to all the time has no end to wait for
        finally:
            await source.close()

    async def appears(self, run_id: str, seconds: float = APPEARS_SECONDS) -> bool:
        """Whether the log has something of a run, or gets it soon: it may have begun elsewhere a
        moment ago.
        """
        with self.buffer(run_id) as buffer:
            async with contextlib.aclosing(self.history(Position(run_id))) as pages:
                async for _ in pages:
                    return True
            if buffer.start == buffer.end:
                await asyncio.wait({buffer.news()}, timeout=seconds)
            return buffer.start < buffer.end

    async def overview(self, runs: int) -> list[list[Event]]:
        """What the log says of its latest runs: the events of the first and last entry of each."""
        source = open_source(self.url, SourceOptions(target=self._target))
        try:
            await source.connect()
            bodies = await source.overview(runs)
        finally:
            await source.close()
        letters = []
        for body in bodies:
            with contextlib.suppress(WireError):
                letters.append(decode_entry(body).events)
        return letters

    async def read(self, position: Position) -> AsyncGenerator[list[Item], None]:
        """A run's events behind ``position`` to its end, as they come.

        Now and then, when the feed is woken without news, an empty list: time for a heartbeat.
        Nothing is missed between the log and the feed: what the log did not hold when it was read
        was written later, and the feed has listened since before.

        Raises:
            LogAway: the log is away for longer than ``patience``.
        """
        with self.buffer(position.run_id) as buffer:
            index = buffer.index_behind(position.seq)
            while True:
                if index is None:
                    async with contextlib.aclosing(self._catch_up(position, buffer)) as pages:
                        async for items in pages:
                            position = reached(items, position)
                            yield items
                            if items[-1].event.event_type in TERMINAL:
                                return
                    index = buffer.index_behind(position.seq)
                index = buffer.start if index is None else index
                kept = buffer.since(index)
                if kept is None:
                    index = None
                    continue
                items = kept
                index += len(items)
                if items and items[0].first <= position.seq:
                    items = unread(items, position)
                position = reached(items, position)
                yield items
                if index >= buffer.end:
                    if buffer.ended:
                        return
                    await buffer.news()
                    if self.is_given_up:
                        raise LogAway

    async def _catch_up(
        self, position: Position, buffer: RunBuffer
    ) -> AsyncGenerator[list[Item], None]:
        """What the log holds behind ``position``, as far as the feed does not go back.

        A busy feed lets go of more while the log is read, so the log is read again from there,
        until the feed goes back far enough or the log has no more.
        """
        begun: int | None = None
        while begun != position.seq:
            begun = position.seq
            async with contextlib.aclosing(self.history(position, self.patience)) as pages:
                async for events in pages:
                    items = items_of(events, position.seq)
                    position = reached(items, position)
                    yield items
                    if buffer.index_behind(position.seq) is not None:
                        return
            if buffer.start == buffer.end:
                return

    # --- listening ----------------------------------------------------------------------------

    def _hear(self, events: list[Event]) -> None:
        """The events of one entry."""
        run_id = events[0].run_id
        if run_id is None:
            for event in events:
                if event.event_type.startswith(TALK):
                    for listener in self.talk:
                        listener(event)
            return
        for hear in self.everything:
            hear(events)
        buffer = self._buffers.get(run_id)
        if buffer is not None:
            buffer.add(events)

    def _glimpse(self, run_id: str) -> None:
        for told in self.glimpses:
            told(run_id)

    def _follows(self, run_id: str) -> bool:
        return self.follows_all or run_id in self._buffers

    def wake(self) -> None:
        for buffer in list(self._buffers.values()):
            buffer.wake()

    @property
    def buffers(self) -> dict[str, RunBuffer]:
        return self._buffers


def unread(items: list[Item], position: Position) -> list[Item]:
    """What of the items a reader at ``position`` has not had: the first may be cut."""
    reading = Deduplicator()
    reading.resume(position.run_id, position.seq, position.offset)
    events = reading.fresh([item.event for item in items])
    return items_of(events, position.seq)


def read_all(entries: list[Entry], reading: Deduplicator) -> list[list[Event]]:
    """The events of each entry, without copies; foreign entries are passed over."""
    letters = []
    for entry in entries:
        with contextlib.suppress(WireError):
            letters.append(reading.read(decode_entry(entry.body)))
    return letters
