"""What a log holds now, for readers that do not follow it."""

from __future__ import annotations

import contextlib

from streamll.brokers.copying import connected, log_exists
from streamll.brokers.opening import open_source
from streamll.brokers.source import SourceOptions
from streamll.consumer.deduplication import Deduplicator
from streamll.consumer.reading import NewEvents
from streamll.core.errors import ConfigurationError, WireError
from streamll.core.events import Event
from streamll.core.positions import Position
from streamll.core.urls import without_password
from streamll.core.wire import decode_batch, decode_entry

BEGINNING = "beginning"


async def stored_events(url: str, target: str, run_id: str | None = None) -> list[Event]:
    """The events of one run, or of all runs, each once and in the log's order.

    Raises:
        ConfigurationError: there is no such log.
        BrokerError: the broker cannot be reached.
    """
    await _expect(url, target)
    options = SourceOptions(target=target, start=BEGINNING, run_id=run_id, waits=False)
    source = open_source(url, options)
    wanted = Deduplicator(None if run_id is None else Position(run_id))
    new_events, events = NewEvents(wanted, source, BEGINNING), []
    async with connected(source):
        while entries := await source.read():
            new_events.begin(entries)
            for entry in entries:
                with contextlib.suppress(WireError):  # another program's
                    events += await new_events.of(entry, decode_entry(entry.body))
    return [event for event in events if event.run_id is not None]


async def stored_overview(url: str, target: str, runs: int) -> list[list[Event]]:
    """Entries that show what the latest ``runs`` runs are; see ``Source.overview``. Raises as
    ``stored_events`` does.
    """
    await _expect(url, target)
    source, found = open_source(url, SourceOptions(target=target)), []
    async with connected(source):
        for body in await source.overview(runs):
            with contextlib.suppress(WireError):
                found.append(decode_batch(body))
    return found


async def _expect(url: str, target: str) -> None:
    if not await log_exists(url, target):
        raise ConfigurationError(f"{without_password(url)} has no log {target!r}")
