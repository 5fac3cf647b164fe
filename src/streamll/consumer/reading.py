"""Reading a source across any number of connections, and what a trim took away meanwhile."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable

from streamll.brokers.source import Entry, Source
from streamll.consumer.deduplication import Deduplicator, gap_before
from streamll.core.events import Event
from streamll.core.wire import DecodedEntry


class NewEvents:
    """The new events of entries, behind a ``stream.gap`` where the log was trimmed unread."""

    def __init__(self, deduplicator: Deduplicator, source: Source, start: str) -> None:
        self._deduplicator = deduplicator
        self._source = source
        self._border = self._cursor = None if start == "new" else start

    def begin(self, batch: list[Entry]) -> None:
        """A batch was read: what is missing before its first entry comes before all of them."""
        self._border = self._cursor
        if batch:
            self._cursor = batch[-1].place or batch[-1].cursor

    async def of(self, entry: Entry, decoded: DecodedEntry) -> list[Event]:
        place = entry.place or entry.cursor
        events = self._deduplicator.read(decoded, place, self._border)
        hole = self._deduplicator.hole
        if hole is not None and await self._was_trimmed(hole.after, place):
            return [gap_before(events[0], hole.lost), *events]
        return events

    async def _was_trimmed(self, after: str, place: str) -> bool:
        try:
            return await self._source.was_trimmed(after, place)
        except Exception:  # noqa: BLE001 - where nobody can say, the hole is told
            return True


async def follow(
    source: Source,
    connected: Callable[[int], None],
    failed: Callable[[Exception, int], Awaitable[None]],
    stopping: Callable[[], bool] = lambda: False,
) -> AsyncGenerator[list[Entry], None]:
    """What ``source`` reads, batch by batch; a batch is empty where nothing came for a while.

    Args:
        connected: called with each connection, and how many attempts in a row have failed before.
        failed: gets each failure, and how many there have been in a row. It waits and returns to
            have it tried again, or raises.
        stopping: ends it, once what was read has been taken.
    """
    failures = 0
    while not stopping():
        try:
            await source.connect()
            connected(failures)
            failures = 0
            while not stopping():
                yield await source.read()
        except Exception as error:  # noqa: BLE001 - brokers fail in their own ways
            failures += 1
            await failed(error, failures)
