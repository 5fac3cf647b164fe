"""Hearing of a log as it grows: others' entries by reading it, one's own when they are confirmed.

What this process writes is heard as soon as the log has confirmed it and need not be read back:
these are the log's entries, each once and in their order. A run's entries come from one writer; where
a second sink writes it as well, ``Deduplicator`` sorts that out, whichever comes first.

Of a run that nobody follows here, an entry is not even decoded, unless it tells how the run begins
or ends: its first bytes say whose it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import re
import threading
import time
from collections.abc import Callable

from streamll.brokers.opening import default_target, open_source, without_password
from streamll.brokers.sink import BrokerSink
from streamll.brokers.source import Entry, Source, SourceOptions
from streamll.consumer.deduplication import Deduplicator, decode_entry
from streamll.core.errors import WireError
from streamll.core.events import Event

logger = logging.getLogger("streamll")

RETRY_SECONDS = 0.5

AHEAD = 64
"""Batches the log has confirmed that may wait for the event loop; the next one's sink waits, too."""

PATIENCE = 1.0
"""How long it does. A loop that stands still may be waiting for this very sink."""

HEAD = re.compile(
    rb'\{"id":"(?P<writer>[0-9a-f]+):[0-9]+",(?:"traceparent":"[^"\\]*",)?"v":1,'
    rb'(?:"run_id":"(?P<run>[^"\\]+)",)?'
)
"""How the entries begin that sinks of this version write."""

OF_A_RUN = b'"run.'
"""In every entry that has a run's first or last event."""


class LogTail:
    """Tells ``hear`` of the events of each entry, from when it ``listens`` on.

    ``follows`` says whether a run's events are wanted; of others ``hear`` gets those entries that
    have their first or last event, and ``glimpse`` is told that there was something.
    """

    def __init__(
        self,
        url: str,
        sink: BrokerSink,
        *,
        hear: Callable[[list[Event]], None],
        glimpse: Callable[[str], None],
        follows: Callable[[str], bool],
    ) -> None:
        self.entries_read = 0
        self.reachable = False
        self.since = time.monotonic()
        self.interrupted = False
        self._url = url
        self._sink = sink
        self._hear = hear
        self._glimpse = glimpse
        self._follows = follows
        self._reading = Deduplicator()
        self._source: Source | None = None
        self._task: asyncio.Task[None] | None = None
        self._at_end = asyncio.Event()

    @property
    def listens(self) -> bool:
        return self._at_end.is_set()

    async def listening(self) -> None:
        await self._at_end.wait()

    def start(self) -> bool:
        """Begin, on this event loop; False: it has begun already."""
        if self._task is not None:
            return False
        loop, room = asyncio.get_running_loop(), threading.Semaphore(AHEAD)

        def hear(entries: list[list[Event]], receipt: object, *, has_room: bool) -> None:
            if has_room:
                room.release()
            self._hear_own(entries, receipt)

        def confirmed(entries: list[list[Event]], receipt: object) -> None:
            has_room = room.acquire(timeout=PATIENCE)
            heard = functools.partial(hear, entries, receipt, has_room=has_room)
            try:
                loop.call_soon_threadsafe(heard)
            except RuntimeError:  # the loop has ended, and with it all readers
                if has_room:
                    room.release()

        self._sink.confirm_to(confirmed)
        self._task = asyncio.create_task(self._listen(), name="streamll journal")
        return True

    async def stop(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _listen(self) -> None:
        options = SourceOptions(target=default_target(self._url), start="new")
        source = self._source = open_source(self._url, options)
        told = False
        while True:
            try:
                await source.connect()
                self._mark(reachable=True)
                told = False
                self._at_end.set()
                while True:
                    for entry in await source.read():
                        self._take(entry)
            except asyncio.CancelledError:
                await source.close()
                raise
            except Exception as error:  # noqa: BLE001 - the log may be away for a while
                self._mark(reachable=False)
                if not told:
                    place = without_password(self._url)
                    logger.warning("cannot read the log %s (%s)", place, type(error).__name__)
                    told = True
                await asyncio.sleep(RETRY_SECONDS)

    def _mark(self, *, reachable: bool) -> None:
        if reachable != self.reachable:
            self.interrupted = self.interrupted or self.reachable
            self.reachable, self.since = reachable, time.monotonic()

    def _hear_own(self, entries: list[list[Event]], receipt: object) -> None:
        if self._source is not None:
            self._source.skip(receipt)
        for events in entries:
            self._tell(self._reading.fresh(events))

    def _take(self, entry: Entry) -> None:
        self.entries_read += 1
        head = HEAD.match(entry.body)
        if head is not None:
            if head["writer"].decode() == self._sink.producer:
                return
            if head["run"] is not None and OF_A_RUN not in entry.body:
                run_id = head["run"].decode()
                if not self._follows(run_id):
                    self._glimpse(run_id)
                    return
        try:
            letter = decode_entry(entry.body)
        except WireError as error:
            logger.debug("an entry of the log is none of streamll's: %s", error)
        else:
            self._tell(self._reading.read(letter))

    def _tell(self, events: list[Event]) -> None:
        if events:
            self._hear(events)
