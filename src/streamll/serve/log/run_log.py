"""The log as a server sees it: one tail for all readers of this process, and its history.

``LogTail`` gets everything that is appended to the log once. Earlier events each reader reads from
the log itself. So does a reader that falls behind what a ``RunBuffer`` keeps: a slow reader costs
no memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Container

from streamll.brokers.log_files import create_parent_folder
from streamll.brokers.opening import default_target, open_sink, open_source
from streamll.brokers.sink import BrokerSink
from streamll.brokers.source import READ_BATCH_ENTRIES, Entry, Source, SourceOptions
from streamll.consumer.deduplication import Deduplicator
from streamll.consumer.reading import NewEvents
from streamll.core.errors import LogAway, ServerStopping, WireError, logger
from streamll.core.events import TERMINAL
from streamll.core.positions import Position
from streamll.core.wire import decode_batch, decode_entry
from streamll.flow.ending import end, endable
from streamll.serve.log.buffer import RunBuffer
from streamll.serve.log.frames import HEADING, EntryJSON, Item, items_of
from streamll.serve.log.index import KEPT_RUNS, RunIndex
from streamll.serve.log.places import BEGINNING
from streamll.serve.log.tail import RETRY_S, LogTail, run_of

SHORT_READ_IS_THE_END = ("sqlite:", "redis", "unix:")
CLOCK_SKEW_S = 2.0
"""How far the clocks of the machines that write a log may differ."""

CONCURRENT_READS = 8
"""Readers that read the log at once."""

START_S = 5.0
"""How long ``start`` waits for a log that is away; after that it is tried in the background."""
AWAY_S = 30.0
"""How long readers wait for a log that is away, by default."""

APPEARS_S = 0.5
"""The longest from the start of a run to its first entry, unless the log is very slow."""


class RunLog:
    """One log, written and read by this process's event loop.

    Args:
        away_s: seconds for which the log may be away before its readers get ``LogAway``.
        lost_s: seconds of silence after which a run counts as lost; see ``RunIndex``.
    """

    def __init__(self, url: str, *, away_s: float = AWAY_S, lost_s: float = 60.0) -> None:
        self.url = url
        self.away_s = away_s
        sink = open_sink(url)
        assert isinstance(sink, BrokerSink)
        self.sink = sink
        sink.is_followed = True  # answers come as controls
        self.index = RunIndex(lost_s)
        self.tail = LogTail(url, self.sink, self.index)
        self.buffer, self.buffers = self.tail.buffer, self.tail.buffers
        self._target = default_target(url)
        self._ends_short = url.startswith(SHORT_READ_IS_THE_END)
        self._is_local = url.startswith("sqlite:")  # reconnecting for each batch costs nothing
        self._turns = asyncio.Semaphore(CONCURRENT_READS)
        self._tasks: list[asyncio.Task[None]] = []
        self._survey: asyncio.Task[None] | None = None
        self._started_at = math.inf

    async def start(self) -> None:
        """Begin to follow the log. Once ``tail.begun`` is set, nothing that is appended is missed."""
        create_parent_folder(self.url)
        if not self._tasks:
            self._started_at = time.monotonic()
            self._tasks = [asyncio.create_task(endable(self.tail.run()), name="streamll log tail")]
            self._tasks += [asyncio.create_task(self._fill_index(), name="streamll run index")]
        left = self._started_at + START_S - time.monotonic()
        if not self.tail.begun.is_set() and left > 0:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self.tail.begun.wait(), left)

    async def close(self) -> None:
        await end(*filter(None, [self._survey, *self._tasks]))
        await asyncio.to_thread(self.sink.stop)

    @property
    def is_given_up(self) -> bool:
        """The log has been away for longer than its readers wait."""
        return not self.tail.reachable and time.monotonic() - self.tail.since > self.away_s

    def check(self) -> None:
        """Raise ``LogAway`` if the log cannot be read now."""
        if not self.tail.reachable:
            raise LogAway

    # --- reading ------------------------------------------------------------------------------

    async def history(
        self, position: Position, away_s: float = 0.0
    ) -> AsyncGenerator[list[Item], None]:
        """What the log has of a run after ``position`` now, in batches.

        Raises:
            LogAway: it could not be read for ``away_s`` seconds.
        """
        place = await self._place_before(position.run_id)
        source = self._source_of(position.run_id, place)
        new_events = NewEvents(Deduplicator(position), source, BEGINNING)
        run_id, latest = position.run_id, time.time() + CLOCK_SKEW_S

        async def items_in(entries: list[Entry]) -> list[Item]:
            nonlocal latest, position
            new_events.begin(entries)
            batch: list[Item] = []
            for entry in entries:
                if entry is not entries[-1] and _is_of_another(entry, run_id):
                    continue
                with contextlib.suppress(WireError):  # another program's
                    decoded = decode_entry(entry.body)
                    events = await new_events.of(entry, decoded)
                    batch += items_of(events, position, EntryJSON(entry.body, decoded.events))
                    position = batch[-1].position if batch else position
                    if decoded.events and decoded.events[-1].timestamp > latest:
                        latest = -math.inf  # a log that is written to all the time has no end
            return batch

        async with contextlib.aclosing(self._batches(source, items_in, away_s)) as batches:
            async for batch in batches:
                if batch:
                    yield batch
                if latest < 0 or (batch and batch[-1].event.event_type in TERMINAL):
                    return

    def _source_of(self, run_id: str | None, start: str) -> Source:
        """Up to the log's present end."""
        options = SourceOptions(target=self._target, start=start, run_id=run_id, waits=False)
        return open_source(self.url, options)

    async def _place_before(self, run_id: str) -> str:
        """Where to begin to read a run: SQLite has an index of its own, others' logs are surveyed once."""
        if self._is_local or not self.tail.begun.is_set():
            return BEGINNING
        if not self.tail.places.complete:
            if self._survey is None or self._survey.done():
                self._survey = asyncio.create_task(self._look_for_runs(), name="streamll survey")
            await asyncio.wait({self._survey})
        return self.tail.places.before(run_id)

    async def _look_for_runs(self) -> None:
        """Find where the runs begin that the log has by now."""
        begins: dict[str, str] = {}
        last, latest, is_over = BEGINNING, time.time() + CLOCK_SKEW_S, False

        async def look(entries: list[Entry]) -> list[Item]:
            nonlocal last, is_over
            for entry in entries[-1:]:
                with contextlib.suppress(WireError):
                    events = decode_entry(entry.body).events
                    is_over = bool(events) and events[-1].timestamp > latest
            for entry in entries:
                run_id = run_of(entry, HEADING.match(entry.body))
                if run_id is not None and run_id not in begins:
                    begins[run_id] = last
                last = entry.cursor
            return []

        source = self._source_of(None, BEGINNING)
        with contextlib.suppress(LogAway):  # the next reader tries again
            async with contextlib.aclosing(self._batches(source, look, 0.0)) as batches:
                async for _ in batches:
                    if is_over:
                        break
            self.tail.places.found(begins, last)

    async def _batches(
        self,
        source: Source,
        items_in: Callable[[list[Entry]], Awaitable[list[Item]]],
        away_s: float,
    ) -> AsyncGenerator[list[Item], None]:
        """What ``items_in`` finds in what a source has up to the log's present end."""
        connected = complete = False
        failing_since: float | None = None
        try:
            while not complete:
                try:
                    async with self._turns:  # bounds connections, however many readers there are
                        if not connected:
                            await source.connect()
                            connected = True
                        entries = await source.read()
                        items = await items_in(entries)
                        is_short = len(entries) < READ_BATCH_ENTRIES
                        complete = not entries or (is_short and self._ends_short)
                        if complete or self._is_local:
                            connected = False
                            with contextlib.suppress(Exception):  # the entries are good anyway
                                await source.close()
                except Exception as error:
                    connected, failing_since = False, failing_since or time.monotonic()
                    if time.monotonic() - failing_since >= away_s:
                        raise LogAway from error
                    await asyncio.sleep(RETRY_S)
                else:
                    failing_since = None
                    yield items
        finally:
            await source.close()

    async def appears(self, run_id: str, seconds: float = APPEARS_S) -> bool:
        """Whether the log has something of a run, or gets it soon: it may have been started
        elsewhere a moment ago.
        """
        with self.buffer(run_id) as buffer:
            async with contextlib.aclosing(self.history(Position(run_id))) as batches:
                async for _ in batches:
                    return True
            if buffer.is_empty:
                await asyncio.wait({buffer.changed()}, timeout=seconds)
            return not buffer.is_empty

    async def read(self, position: Position) -> AsyncGenerator[list[Item], None]:
        """A run's events after ``position`` as they happen, up to its end.

        Nothing is missed between the log and the buffer: what the log did not have when it was
        read was written later, and the buffer was there before.

        Raises:
            LogAway: the log is away for longer than ``away_s``.
            ServerStopping: readers were dismissed.
        """
        with self.buffer(position.run_id) as buffer:
            index, told = buffer.index_after(position.seq), None
            dismissals = buffer.dismissals
            joined = index is not None
            while True:
                buffered = None if index is None else buffer.since(index)
                if buffered and not joined:
                    joined, buffered = True, _if_next(buffered, position)
                if buffered is None:
                    async with contextlib.aclosing(self._catch_up(position, buffer)) as batches:
                        async for items in batches:
                            position = items[-1].position
                            yield items
                            if items[-1].event.event_type in TERMINAL:
                                return
                    index = buffer.index_after(position.seq) or buffer.start
                    continue
                index = buffer.end
                if items := unread(buffered, position):
                    position = items[-1].position
                    yield items
                if index >= buffer.end:
                    if buffer.ended or (buffer.is_empty and self.index.is_over_at(position)):
                        return  # its end came before the buffer, or is in it
                    if buffer.notice is not None and told is not buffer.notice:
                        told = buffer.notice
                        yield [Item(told, position)]
                        continue
                    await self._changed(buffer, dismissals)

    async def _changed(self, buffer: RunBuffer, dismissals: int) -> None:
        if buffer.dismissals == dismissals:  # else it was busy when the others were woken
            await buffer.changed()
        if buffer.dismissals != dismissals:
            raise ServerStopping
        if self.is_given_up:
            raise LogAway

    def dismiss(self, but: Container[str] = (), only: str | None = None) -> None:
        """Send readers away of runs not in ``but``, once they would wait: they can resume elsewhere.

        ``only``: those of this run.
        """
        for run_id, buffer in self.buffers.items():
            if run_id not in but and only in (None, run_id):
                buffer.dismissals += 1
                buffer.wake()

    async def _catch_up(
        self, position: Position, buffer: RunBuffer
    ) -> AsyncGenerator[list[Item], None]:
        """What the log has after ``position``, up to what the buffer still has.

        Meanwhile the buffer of a busy run drops more, so the log is read again from there, until
        the buffer reaches back far enough or the log has no more.
        """
        begun = None
        while begun != position and not (begun and buffer.is_empty):
            begun = position
            async with contextlib.aclosing(self.history(position, self.away_s)) as batches:
                async for items in batches:
                    position = items[-1].position
                    yield items
                    if buffer.index_after(position.seq) is not None:
                        return

    # --- the list of runs -----------------------------------------------------------------------

    async def indexed(self, wait_s: float = 5.0) -> RunIndex:
        """The index, once it has the runs from before this process followed the log, or so much later.

        Raises:
            LogAway: the log could not be read yet.
        """
        if not self.tail.begun.is_set():
            raise LogAway
        await asyncio.wait({self._tasks[-1]}, timeout=wait_s)
        return self.index

    async def _fill_index(self) -> None:
        """Look up the runs from before this process followed the log."""
        await self.tail.begun.wait()
        for failures in itertools.count():
            try:
                await self._read_overview()
            except Exception as error:  # noqa: BLE001 - the log may be away for a while
                if not failures:
                    logger.warning("cannot list the runs of the log (%s)", type(error).__name__)
                await asyncio.sleep(RETRY_S)
            else:
                self.tail.follows_all = False
                return

    async def _read_overview(self) -> None:
        """The first and the last entry of each of the latest runs."""
        source = open_source(self.url, SourceOptions(target=self._target))
        try:
            await source.connect()
            bodies = await source.overview(KEPT_RUNS)
        finally:
            await source.close()
        entries = []
        for body in bodies:
            with contextlib.suppress(WireError):
                entries.append(decode_batch(body))
        self.index.fill(entries)


def _is_of_another(entry: Entry, run_id: str) -> bool:
    """Whether its first bytes say that it is of another run: then it need not be decoded."""
    heading = HEADING.match(entry.body)
    return heading is not None and run_of(entry, heading) not in (None, run_id)


def _if_next(items: list[Item], position: Position) -> list[Item] | None:
    """``None`` where something is missing before them: the log's history tells why."""
    return items if items[0].first <= position.seq + 1 else None


def unread(items: list[Item], position: Position) -> list[Item]:
    """The items after ``position``, which the first of them may include in part."""
    if not items or items[0].first > position.seq or items[0].event.seq is None:
        return items
    return items_of(Deduplicator(position).fresh([item.event for item in items]), position)
