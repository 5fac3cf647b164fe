"""What is appended to a log, as it happens.

What this process writes itself is taken over as soon as the log has confirmed it, and not read
back: these are the log's entries, each once and in their order. A run's entries come from one
writer; where a second sink writes it as well, ``Deduplicator`` keeps the copy that comes first.

An entry of a run that nobody follows here is not even decoded, unless it has something that the list of
runs tells (``LISTED``): its first bytes have the run's id.

Events outside any run whose type begins with ``server.`` are messages between the server's
processes; readers do not get them.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
import time
from collections.abc import Callable, Iterator

from streamll.brokers.opening import default_target, open_source
from streamll.brokers.sink import BrokerSink
from streamll.brokers.source import Entry, SourceOptions
from streamll.consumer.deduplication import Deduplicator
from streamll.consumer.reading import NewEvents, follow
from streamll.core.errors import WireError, logger
from streamll.core.events import Event
from streamll.core.run_view import ALIVE, is_message
from streamll.core.urls import without_password
from streamll.core.wire import decode_entry
from streamll.serve.log.buffer import RunBuffer
from streamll.serve.log.frames import HEADING, EntryJSON
from streamll.serve.log.index import RunIndex
from streamll.serve.log.places import RunPlaces

RETRY_S = 0.5

READ_TIMEOUT_S = 1.0
"""How often a log without news is asked anew. Entries come at once; a process without runs sleeps."""

CONFIRMED_BATCHES = 64
"""Confirmed batches that may wait for the event loop; with the next one the sink waits as well …"""

SINK_WAIT_S = 1.0
"""… for so long: a blocked event loop may be waiting for this very sink."""

LISTED = re.compile(rb'"event_type":"(?:run\.|question"|answer"|guarded")')
"""Stands in every entry with an event that the index counts."""


def run_of(entry: Entry, heading: re.Match[bytes] | None) -> str | None:
    """The run of an entry, by its ``HEADING`` where it has one."""
    if heading is not None:
        return None if heading["run"] is None else heading["run"].decode()
    with contextlib.suppress(WireError):
        for event in decode_entry(entry.body).events:
            return event.run_id
    return None


class LogTail:
    """Puts each event that is appended into the ``RunBuffer`` of its run, if anybody here reads
    that, and each run into ``index``.
    """

    def __init__(self, url: str, sink: BrokerSink, index: RunIndex) -> None:
        self.buffers: dict[str, RunBuffer] = {}
        """Of the runs that are read here."""
        self.on_message: Callable[[Event], None] = lambda _: None
        """Gets the messages of the server's processes, this one's included."""
        self.follows_all = True
        """Whether the events of runs that nobody reads here are decoded, too."""
        self.places = RunPlaces()
        self.entries_read = 0
        self.delay_s = 0.0
        """From an event to its reading here, of the latest entry of another process that was decoded."""
        self.reachable = False
        self.since = time.monotonic()
        """When the log became reachable, or unreachable."""
        self.interrupted = False
        """The log was reachable and then away, at least once."""
        self.begun = asyncio.Event()
        """Set at the log's end: from then on nothing that is appended is missed."""
        self._url = url
        self._sink = sink
        self._index = index
        self._deduplicator = Deduplicator()
        options = SourceOptions(
            target=default_target(url), start="new", read_timeout=READ_TIMEOUT_S
        )
        self._source = open_source(url, options)
        self._new_events = NewEvents(self._deduplicator, self._source, options.start)

    async def run(self) -> None:
        """Follow the log until cancelled."""
        loop, room = asyncio.get_running_loop(), threading.Semaphore(CONFIRMED_BATCHES)

        def confirmed(entries: list[tuple[list[Event], bytes]], receipt: object) -> None:
            has_room = room.acquire(timeout=SINK_WAIT_S)
            taken: Callable[[], None] = room.release if has_room else lambda: None
            try:
                loop.call_soon_threadsafe(self._take_own, entries, receipt, taken)
            except RuntimeError:  # the loop has ended, and with it all readers
                taken()

        self._sink.confirm_to(confirmed)
        try:
            async for entries in follow(self._source, self._connected, self._failed):
                self._new_events.begin(entries)
                for entry in entries:
                    await self._take(entry)
        finally:
            await self._source.close()

    @contextlib.contextmanager
    def buffer(self, run_id: str) -> Iterator[RunBuffer]:
        """The buffer of a run, filled from now on, for one more reader."""
        buffer = self.buffers.setdefault(run_id, RunBuffer(run_id))
        buffer.readers += 1
        try:
            yield buffer
        finally:
            buffer.readers -= 1
            if not buffer.readers:
                self.buffers.pop(run_id, None)

    def _connected(self, _failures: int) -> None:
        self.reachable, self.since = True, time.monotonic()
        self.begun.set()

    async def _failed(self, error: Exception, failures: int) -> None:
        if self.reachable:
            self.reachable, self.since, self.interrupted = False, time.monotonic(), True
        if failures == 1:
            place = without_password(self._url)
            logger.warning("cannot read the log %s (%s)", place, type(error).__name__)
        await asyncio.sleep(RETRY_S)

    def _take_own(
        self, entries: list[tuple[list[Event], bytes]], receipt: object, taken: Callable[[], None]
    ) -> None:
        taken()
        self._source.skip(receipt)
        for events, body in entries:
            self._report(self._deduplicator.fresh(events), EntryJSON(body, events))

    async def _take(self, entry: Entry) -> None:
        self.entries_read += 1
        heading = HEADING.match(entry.body)
        self.places.hear(run_of(entry, heading), entry.cursor)
        if heading is not None:
            if heading["writer"].decode() == self._sink.producer:
                return
            if heading["run"] is not None and not LISTED.search(entry.body):
                run_id = heading["run"].decode()
                if not self.follows_all and run_id not in self.buffers:
                    self._index.hear(run_id)
                    return
        try:
            decoded = decode_entry(entry.body)
            events = await self._new_events.of(entry, decoded)
            if decoded.events:
                self.delay_s = max(0.0, time.time() - decoded.events[-1].timestamp)
            self._report(events, EntryJSON(entry.body, decoded.events))
        except WireError as error:
            logger.debug("skipped an entry of the log that is not streamll's: %s", error)
        except Exception:  # whatever somebody's entry holds, the log is read on
            logger.exception("cannot use entry %s of the log", entry.cursor)

    def _report(self, events: list[Event], entry: EntryJSON) -> None:
        if events and events[0].run_id is not None:
            self._index.add(events)
            buffer = self.buffers.get(events[0].run_id)
            if buffer is not None:
                buffer.add(events, entry)
            return
        for event in events:
            if event.event_type == ALIVE:
                run_ids = event.data.get("runs", ())
                self._index.alive(run_ids)
                for buffer in (self.buffers[each] for each in run_ids if each in self.buffers):
                    buffer.heard_at = time.monotonic()
            if is_message(event):
                self.on_message(event)
