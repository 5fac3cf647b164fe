"""The log as a server sees it: one tail of everything for all readers of this process.

``Journal`` reads the log once, from when it was opened on, and hands each event to the ``Feed`` of
its run, if anybody in this process reads it. What came before is read for each reader from the
log itself. Who falls behind what a feed keeps does that, too: a slow reader costs no memory.

Events outside any run whose type begins with ``server.`` are the processes' talk with each other
(``runner``); they are no reader's business.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import math
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator

from streamll.brokers.opening import default_target, open_sink, open_source, without_password
from streamll.brokers.source import LIMIT, Entry, Options
from streamll.consumer.reading import Letter, Reading, read_letter
from streamll.core.errors import StreamllError, WireError
from streamll.core.events import TERMINAL, Event
from streamll.serve.frames import Item, Position, items_of
from streamll.sinks.base import BaseSink

logger = logging.getLogger("streamll")

KEPT_EVENTS = 4_000
"""Events of a run that are kept for its readers, at least; twice that at most."""

SHORT_READ_IS_THE_END = ("sqlite:", "redis:", "rediss:", "unix:")
CLOCKS_APART = 2.0
"""Seconds by which the clocks of the machines that write a log may differ."""

TURNS = 8
"""Readers that look into the log at once."""

RETRY_SECONDS = 0.5
START_SECONDS = 5.0
"""What a start waits for a log that is away; it goes on trying behind that."""
AWAY_SECONDS = 30.0
"""How long readers wait in silence for a log that is away, unless told otherwise."""

TALK = "server."


class LogAway(StreamllError):
    """The log cannot be read at the moment."""

    def __init__(self) -> None:
        super().__init__("the log cannot be read")


class Feed:
    """The latest events of one run, shared by its readers in this process."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self.readers = 0
        self.ended = False
        self.heard_at = time.monotonic()
        self._items: deque[Item] = deque()
        self._dropped = 0  # items that are no longer kept
        self._last = -1
        self._news = asyncio.Event()

    def add(self, events: list[Event]) -> None:
        self.heard_at = time.monotonic()
        for item in items_of(events, self._last):
            self._items.append(item)
            self._last = item.last
            self.ended = self.ended or item.event.event_type in TERMINAL
        if len(self._items) > 2 * KEPT_EVENTS:
            for _ in range(KEPT_EVENTS):
                self._items.popleft()
            self._dropped += KEPT_EVENTS
        self.wake()

    def wake(self) -> None:
        """Let every waiting reader look."""
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def wait(self) -> None:
        await self._news.wait()

    def index_behind(self, seq: int) -> int | None:
        """Where a reader goes on who has had everything up to ``seq``; ``None``: in the log.

        A feed that has heard nothing yet cannot tell.
        """
        if not self._items or self._items[0].first > seq + 1:
            return None
        for index, item in enumerate(self._items):
            if item.last > seq:
                return self._dropped + index
        return self._dropped + len(self._items)

    def since(self, index: int) -> list[Item] | None:
        """The items from ``index`` on; ``None`` if they are no longer kept."""
        start = index - self._dropped
        if start < 0:
            return None
        return list(itertools.islice(reversed(self._items), len(self._items) - start))[::-1]

    @property
    def start(self) -> int:
        """The index of the first item that is kept."""
        return self._dropped

    @property
    def has_items(self) -> bool:
        return bool(self._items)

    def is_at_end(self, index: int) -> bool:
        return index >= self._dropped + len(self._items)


class Journal:
    """One log, written and read by this process's event loop.

    ``patience``: seconds that a log may be away before its readers are told.
    """

    def __init__(self, url: str, patience: float = AWAY_SECONDS) -> None:
        self.url = url
        self.patience = patience
        self.place = without_password(url)
        self.sink: BaseSink = open_sink(url)
        self._target = default_target(url)
        self._ends_short = url.startswith(SHORT_READ_IS_THE_END)
        self._turns = asyncio.Semaphore(TURNS)
        self._feeds: dict[str, Feed] = {}
        self._tail: asyncio.Task[None] | None = None
        self._at_end = asyncio.Event()
        self.talk: list[Callable[[Event], None]] = []
        self.everything: list[Callable[[list[Event]], None]] = []
        self.entries_read = 0
        self.reachable = False
        self.since = time.monotonic()
        """Since when it has been reachable, or away."""
        self.interrupted = False
        """It has been reachable and then away, at least once."""
        self._opened_at = math.inf

    async def start(self) -> None:
        """Begin to listen. When it ``listens``, nothing written from then on can be missed."""
        if self._tail is None:
            self._tail = asyncio.create_task(self._listen(), name="streamll journal")
            self._opened_at = time.monotonic()
        patience = self._opened_at + START_SECONDS - time.monotonic()
        if not self.listens and patience > 0:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._at_end.wait(), patience)

    @property
    def listens(self) -> bool:
        return self._at_end.is_set()

    @property
    def is_given_up(self) -> bool:
        """The log has been away for longer than its readers wait."""
        return not self.reachable and time.monotonic() - self.since > self.patience

    async def listening(self) -> None:
        """Wait until it ``listens``, however long that takes."""
        await self._at_end.wait()

    async def close(self) -> None:
        if self._tail is not None:
            self._tail.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._tail
            self._tail = None
        await asyncio.to_thread(self.sink.stop)

    # --- reading ------------------------------------------------------------------------------

    @contextlib.contextmanager
    def feed(self, run_id: str) -> Iterator[Feed]:
        """The feed of a run, from now on, for one more reader."""
        feed = self._feeds.get(run_id)
        if feed is None:
            feed = self._feeds[run_id] = Feed(run_id)
        feed.readers += 1
        try:
            yield feed
        finally:
            feed.readers -= 1
            if not feed.readers:
                self._feeds.pop(run_id, None)

    async def history(
        self, position: Position, patience: float = 0.0
    ) -> AsyncGenerator[list[Event], None]:
        """What the log holds of a run behind ``position``, and then no more.

        Raises:
            LogAway: it cannot be read, for ``patience`` seconds.
        """
        options = Options(target=self._target, start="beginning", run_id=position.run_id)
        source = open_source(self.url, options)
        reading = Reading()
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
                        complete = not entries or (len(entries) < LIMIT and self._ends_short)
                        if complete:
                            await source.close()
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

    async def overview(self, runs: int) -> list[list[Event]]:
        """What the log says of its latest runs: the events of the first and last entry of each."""
        source = open_source(self.url, Options(target=self._target))
        try:
            await source.connect()
            bodies = await source.overview(runs)
        finally:
            await source.close()
        letters = []
        for body in bodies:
            with contextlib.suppress(WireError):
                letters.append(read_letter(body).events)
        return letters

    async def read(self, position: Position, feed: Feed) -> AsyncIterator[list[Item]]:
        """A run's events behind ``position`` to its end, as they come.

        Now and then, when the feed is woken without news, an empty list: time for a heartbeat.
        Nothing is missed between the log and the feed: what the log did not hold when it was read
        was written later, and the feed has listened since before.

        Raises:
            LogAway: the log is away for longer than ``patience``.
        """
        index = feed.index_behind(position.seq)
        while True:
            if index is None:
                async for items in self._catch_up(position, feed):
                    position = items[-1].reached(position)
                    yield items
                    if items[-1].event.event_type in TERMINAL:
                        return
                index = feed.index_behind(position.seq)
            index = feed.start if index is None else index
            kept = feed.since(index)
            if kept is None:
                index = None
                continue
            items = kept
            index += len(items)
            if items and items[0].first <= position.seq:
                items = unread(items, position)
            if items:
                position = items[-1].reached(position)
            yield items
            if feed.ended and feed.is_at_end(index):
                return
            if feed.is_at_end(index):
                await self._news(feed)

    async def _news(self, feed: Feed) -> None:
        await feed.wait()
        if self.is_given_up:
            raise LogAway

    async def _catch_up(self, position: Position, feed: Feed) -> AsyncGenerator[list[Item], None]:
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
                    position = items[-1].reached(position)
                    yield items
                    if feed.index_behind(position.seq) is not None:
                        return
            if not feed.has_items:
                return

    # --- listening ----------------------------------------------------------------------------

    async def _listen(self) -> None:
        source = open_source(self.url, Options(target=self._target, start="new"))
        reading = Reading()
        told = False
        while True:
            try:
                await source.connect()
                self._mark(reachable=True)
                told = False
                self._at_end.set()
                while True:
                    self._hear(read_all(await source.read(), reading))
            except asyncio.CancelledError:
                await source.close()
                raise
            except Exception as error:  # noqa: BLE001 - the log may be away for a while
                self._mark(reachable=False)
                if not told:
                    logger.warning("cannot read the log %s (%s)", self.place, type(error).__name__)
                    told = True
                await asyncio.sleep(RETRY_SECONDS)

    def _mark(self, *, reachable: bool) -> None:
        if reachable != self.reachable:
            self.interrupted = self.interrupted or self.reachable
            self.reachable, self.since = reachable, time.monotonic()

    def _hear(self, letters: list[list[Event]]) -> None:
        for events in letters:
            if not events:
                continue
            self.entries_read += 1
            run_id = events[0].run_id
            if run_id is None:
                for event in events:
                    if event.event_type.startswith(TALK):
                        for listener in self.talk:
                            listener(event)
                continue
            for hear in self.everything:
                hear(events)
            feed = self._feeds.get(run_id)
            if feed is not None:
                feed.add(events)

    def wake(self) -> None:
        for feed in list(self._feeds.values()):
            feed.wake()

    @property
    def feeds(self) -> dict[str, Feed]:
        return self._feeds


def unread(items: list[Item], position: Position) -> list[Item]:
    """What of the items a reader at ``position`` has not had: the first may be cut."""
    reading = Reading()
    reading.resume(position.run_id, position.seq, position.offset)
    events = reading.read(Letter(None, None, [item.event for item in items]))
    return items_of(events, position.seq)


def read_all(entries: list[Entry], reading: Reading) -> list[list[Event]]:
    """The events of each entry, without copies; foreign entries are passed over."""
    letters = []
    for entry in entries:
        try:
            letters.append(reading.read(read_letter(entry.body)))
        except WireError as error:
            logger.debug("an entry of the log is none of streamll's: %s", error)
    return letters
