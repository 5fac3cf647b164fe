"""What is appended to a log, as it happens.

What this process writes itself is taken over as soon as the log has confirmed it, and not read
back: these are the log's entries, each once and in their order. A run's entries come from one
writer; where a second sink writes it as well, ``Deduplicator`` keeps the copy that comes first.

An entry of a run that nobody follows here is not even decoded, unless the run begins or ends in it:
its first bytes have the run's id.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable

from streamll.brokers.opening import default_target, open_source, without_password
from streamll.brokers.sink import BrokerSink
from streamll.brokers.source import Entry, Source, SourceOptions
from streamll.consumer.deduplication import Deduplicator, decode_entry
from streamll.core.errors import WireError
from streamll.core.events import Event
from streamll.serve.log.entries import HEADING, EntryJSON

logger = logging.getLogger("streamll")

RETRY_S = 0.5

CONFIRMED_BATCHES = 64
"""Confirmed batches that may wait for the event loop; with the next one the sink waits as well …"""

SINK_WAIT_S = 1.0
"""… for so long: a blocked event loop may be waiting for this very sink."""

RUN_EVENT = b'"run.'
"""Stands in every entry with a run's first or last event."""


class LogTail:
    """Calls ``on_events`` with the events of each entry that is appended.

    Of the runs for which ``follows`` is false it gets only the entries with their first or last
    event; for the others ``on_glimpse`` is called with the run's id.
    """

    def __init__(
        self,
        url: str,
        sink: BrokerSink,
        *,
        on_events: Callable[[list[Event], EntryJSON], None],
        on_glimpse: Callable[[str], None],
        follows: Callable[[str], bool],
    ) -> None:
        self.entries_read = 0
        self.reachable = False
        self.since = time.monotonic()
        """When the log became reachable, or unreachable."""
        self.interrupted = False
        """The log was reachable and then away, at least once."""
        self.begun = asyncio.Event()
        """Set at the log's end: from then on nothing that is appended is missed."""
        self._url = url
        self._sink = sink
        self._on_events = on_events
        self._on_glimpse = on_glimpse
        self._follows = follows
        self._deduplicator = Deduplicator()
        self._source: Source | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> bool:
        """Begin, on this event loop; False if that was done before."""
        if self._task is not None:
            return False
        loop, room = asyncio.get_running_loop(), threading.Semaphore(CONFIRMED_BATCHES)

        def confirmed(entries: list[tuple[list[Event], bytes]], receipt: object) -> None:
            has_room = room.acquire(timeout=SINK_WAIT_S)

            def take() -> None:
                if has_room:
                    room.release()
                self._take_own(entries, receipt)

            try:
                loop.call_soon_threadsafe(take)
            except RuntimeError:  # the loop has ended, and with it all readers
                if has_room:
                    room.release()

        self._sink.confirm_to(confirmed)
        self._task = asyncio.create_task(self._read(), name="streamll log tail")
        return True

    async def stop(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _read(self) -> None:
        options = SourceOptions(target=default_target(self._url), start="new")
        source = self._source = open_source(self._url, options)
        warned = False
        while True:
            try:
                await source.connect()
                self._mark(reachable=True)
                warned = False
                self.begun.set()
                while True:
                    for entry in await source.read():
                        self._take(entry)
            except asyncio.CancelledError:
                await source.close()
                raise
            except Exception as error:  # noqa: BLE001 - the log may be away for a while
                self._mark(reachable=False)
                if not warned:
                    place = without_password(self._url)
                    logger.warning("cannot read the log %s (%s)", place, type(error).__name__)
                    warned = True
                await asyncio.sleep(RETRY_S)

    def _mark(self, *, reachable: bool) -> None:
        if reachable != self.reachable:
            self.interrupted = self.interrupted or self.reachable
            self.reachable, self.since = reachable, time.monotonic()

    def _take_own(self, entries: list[tuple[list[Event], bytes]], receipt: object) -> None:
        if self._source is not None:
            self._source.skip(receipt)
        for events, body in entries:
            self._report(self._deduplicator.fresh(events), EntryJSON(body, events))

    def _take(self, entry: Entry) -> None:
        self.entries_read += 1
        heading = HEADING.match(entry.body)
        if heading is not None:
            if heading["writer"].decode() == self._sink.producer:
                return
            if heading["run"] is not None and RUN_EVENT not in entry.body:
                run_id = heading["run"].decode()
                if not self._follows(run_id):
                    self._on_glimpse(run_id)
                    return
        try:
            decoded = decode_entry(entry.body)
        except WireError as error:
            logger.debug("skipped an entry of the log that is not streamll's: %s", error)
        else:
            events = self._deduplicator.read(decoded)
            self._report(events, EntryJSON(entry.body, decoded.events))

    def _report(self, events: list[Event], entry: EntryJSON) -> None:
        if events:
            self._on_events(events, entry)
