"""``ReadSession``: one consumer reading one log: connect, read, deduplicate, acknowledge.

Whatever a log holds, a session goes on: an entry that is not an event, or that makes handlers fail,
becomes a dead letter or is left out, and a broker that goes away is waited for.

What a group has given this member is its own until it is acknowledged: from the moment it is read,
whether its handler runs or it waits behind others, the claim is extended. An entry that comes again
meanwhile, as after a lost connection, is acknowledged together with the first, not handled beside
it.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import sys
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from streamll.brokers.source import Entry, Source, SourceOptions
from streamll.consumer.deduplication import LRU, Deduplicator
from streamll.consumer.lost_runs import BEGINNING, CLOCK_SKEW_S, LostRuns
from streamll.consumer.reading import NewEvents, follow
from streamll.core.errors import BrokerError, WireError, logger
from streamll.core.events import TERMINAL, Event
from streamll.core.positions import Position
from streamll.core.run_view import is_message
from streamll.core.wire import DecodedEntry, decode_entry, encode_batch
from streamll.flow.retry import Backoff

RECONNECT_BACKOFF = Backoff(attempts=sys.maxsize, base=0.1, cap=5.0)

LAG_INTERVAL_S = 1.0

STOP_CHECK_S = 0.2
"""How often a pause before the next attempt checks whether the consumer is stopping."""

LAST_ATTEMPTS = 3
"""How often a dead letter is tried again once the consumer is stopping."""


class ConsumerStatistics(msgspec.Struct, kw_only=True):
    """Counts since the consumer was created.

    Attributes:
        received: events read, duplicates left out.
        handled: events all of whose handlers have returned.
        duplicates: events that were read again and left out.
        retried: calls of handlers that were repeated.
        dead_lettered: events whose handler failed for good, and a group's unreadable entries.
        malformed: entries that are not streamll's, or damaged.
        redelivered: entries that were given to a member of the group before.
        reconnects: connections made after the first one.
        lag: entries of the group that are not acknowledged yet. ``None`` without a group, or while
            the broker cannot know; RabbitMQ leaves out what other members hold.
        connected: whether the log is being read.
    """

    received: int = 0
    handled: int = 0
    duplicates: int = 0
    retried: int = 0
    dead_lettered: int = 0
    malformed: int = 0
    redelivered: int = 0
    reconnects: int = 0
    lag: int | None = None
    connected: bool = False


class ConsumerState:
    """Shared by a consumer and its sessions, across threads."""

    def __init__(self) -> None:
        self.begun = False
        self.stopping = False
        self.connected = threading.Event()
        self.counts = ConsumerStatistics()

    def begin(self) -> None:
        self.begun, self.stopping = True, False


class ReadEntry(msgspec.Struct):
    """An entry that was read, and its events that are new."""

    entry: Entry
    decoded: DecodedEntry
    events: list[Event]
    done: bool = False


@dataclass(eq=False)
class ReadSession:
    """Reads through one ``source``. Counts into ``state``, and ends when that is stopping.

    As an asynchronous context manager it extends this member's claims, and disconnects at the end.
    """

    source: Source
    options: SourceOptions
    position: Position | None
    state: ConsumerState
    max_deliveries: int
    append_dead_letter: Callable[[bytes], Awaitable[None]]
    lost_runs: LostRuns | None = None

    def __post_init__(self) -> None:
        self._in_group = self.options.group is not None
        self._counts = self.state.counts
        self._deduplicator = Deduplicator(self.position)
        self._last_cursor = self.options.start
        self._before = BEGINNING
        """The cursor of the last entry of the batch before this one."""
        self._new_events = NewEvents(self._deduplicator, self.source, self.options.start)
        self._handled: LRU[str, None] = LRU()  # ids of the entries that are done
        self._held: dict[int, Entry] = {}  # given to this member and not acknowledged yet
        self._in_progress: dict[str, list[Entry]] = {}  # by id: an entry and its duplicates
        self._unacknowledged: deque[Entry] = deque()  # done, but the broker could not be told
        self._suspecting = False  # the first of a series of suspects has been read
        self._latest = 0.0
        """When the last event was created that was read."""
        self._was_connected = False
        self._warned = False
        self._closing = False

    @property
    def over(self) -> bool:
        """Whether the one run that is read has ended."""
        return self._deduplicator.ended

    async def __aenter__(self) -> ReadSession:  # noqa: PYI034 - Self is not in Python 3.10
        self._keeping_alive = asyncio.create_task(self._keep_alive())
        return self

    async def __aexit__(self, *error: object) -> None:
        self._closing = True
        self._keeping_alive.cancel()
        await asyncio.wait([self._keeping_alive])
        self.state.connected.clear()
        with contextlib.suppress(Exception):
            await self._acknowledge_late()
        with contextlib.suppress(Exception):
            await self.source.close()

    async def entries(self) -> AsyncGenerator[ReadEntry, None]:
        """Every readable entry until the consumer stops, across any number of connections."""
        reading = follow(self.source, self._connected, self._failed, lambda: self.state.stopping)
        async with contextlib.aclosing(reading) as batches:
            async for entries in batches:
                self._new_events.begin(entries)
                if entries:
                    self._before = BEGINNING if self._last_cursor == "new" else self._last_cursor
                    self._last_cursor = entries[-1].cursor
                if self._in_group:
                    self._held.update((id(entry), entry) for entry in entries)
                for entry in entries:
                    read = await self._accept(entry)
                    if read is not None:
                        yield read
                if not entries or not all(map(self.is_suspect, entries)):
                    self._suspecting = False
                behind = bool(entries) and self._latest < time.time() - CLOCK_SKEW_S
                for read in await self._of_lost_runs(behind=behind):
                    yield read

    async def done_with(self, read: ReadEntry) -> None:
        """All events of the entry have been handled."""
        self._counts.handled += len(read.events)
        key = read.decoded.id or read.entry.cursor
        self._handled.put(key, None)
        for each in self._in_progress.pop(key, ()):
            await self._acknowledge(each)
        read.done = True

    def is_suspect(self, entry: Entry) -> bool:
        """Whether the entry was delivered so often that handling it may be what ends processes.

        Then nothing must be handled beside it, so that it alone is to blame the next time.
        """
        return self._in_group and entry.deliveries > self.max_deliveries

    async def dead_letter_event(self, event: Event, handler: Any, failure: BaseException) -> bool:
        """Make a dead letter of an event whose handler failed for good, with the error in it.

        False if it could not be written before the consumer stopped.
        """
        name = getattr(handler, "__qualname__", type(handler).__name__)
        kind, which = type(failure).__name__, event.event_id or event.event_type
        text = "consumer: handler %s failed on %s (%s); the event becomes a dead letter"
        logger.warning(text, name, which, kind)
        said = str(failure).encode("utf-8", "replace").decode()  # JSON has no half of a character
        error = {"type": kind, "message": said, "handler": name}
        [envelope] = encode_batch([event])
        body = envelope[:-1] + b',"error":' + msgspec.json.encode(error) + b"}"
        return await self._dead_letter(body)

    async def _keep_alive(self) -> None:
        """Extend this member's claims and look up the lag. Runs until it is cancelled."""
        third = self.options.claim_after / 3
        interval = min(LAG_INTERVAL_S, third)
        extend_at = 0.0
        while not self._closing:
            # Whatever fails here fails in ``read`` as well, and is reported there.
            if self._held and time.monotonic() >= extend_at:
                extend_at = time.monotonic() + third - interval / 2
                with contextlib.suppress(Exception):
                    await self.source.extend_claim(list(self._held.values()))
            with contextlib.suppress(Exception):
                await self._acknowledge_late()
            with contextlib.suppress(Exception):
                self._counts.lag = await self.source.lag()
            if not self._closing:  # a client library may swallow a cancellation
                await asyncio.sleep(interval)

    # --- reading --------------------------------------------------------------------------------

    def _connected(self, failures: int) -> None:
        if self._was_connected or failures:
            self._counts.reconnects += 1
            logger.info("consumer: %s is back", self.source.name)
        self._was_connected = True
        self.state.connected.set()
        if self.lost_runs is not None:
            self.lost_runs.hear_all()

    async def _failed(self, error: Exception, failures: int) -> None:
        """Warn at the first failure, and wait; raise if the very first connection cannot succeed."""
        self.state.connected.clear()
        name, (reason, fatal) = self.source.name, self.source.diagnose(error)
        if fatal and not self._was_connected:
            raise BrokerError(f"{name}: {reason}") from error
        # On a background thread, once the process ends, threads of an executor can no longer begin.
        ends = isinstance(error, RuntimeError) and not threading.main_thread().is_alive()
        if failures == 1 and not ends:
            logger.warning("consumer: %s cannot be read (%s); retrying", name, reason)
        pause = RECONNECT_BACKOFF.delay(failures) or 0.0
        while pause > 0 and not self.state.stopping:
            await asyncio.sleep(min(pause, STOP_CHECK_S))
            pause -= STOP_CHECK_S

    async def _accept(self, entry: Entry) -> ReadEntry | None:
        """The entry with its new events; ``None`` if there is nothing to handle."""
        counts = self._counts
        counts.redelivered += entry.deliveries > 1
        try:
            decoded = decode_entry(entry.body)
        except WireError as error:
            counts.malformed += 1
            await self._give_up(entry, str(error))
            return None
        if self._in_group and not await self._take(entry, decoded):
            return None
        events = decoded.events
        if events:
            self._latest = events[-1].timestamp
        if events and is_message(events[0]):  # no event for anybody's handlers
            return ReadEntry(entry, decoded, [])
        if not self._in_group:
            events = await self._new_events.of(entry, decoded)
        counts.duplicates += max(len(decoded.events) - len(events), 0)  # events: perhaps with a gap
        counts.received += len(events)
        if self.lost_runs is not None and decoded.events:
            self.lost_runs.hear(decoded.events, self._before)
        return ReadEntry(entry, decoded, events) if decoded.events else None

    async def _of_lost_runs(self, *, behind: bool) -> list[ReadEntry]:
        """What readers are told of runs whose process is silent; it is in no log."""
        if self.lost_runs is None:
            return []
        found = []
        with contextlib.suppress(Exception):  # the log is away: ``read`` fails as well
            for events in await self.lost_runs.due(behind=behind):
                if events[-1].event_type in TERMINAL:
                    self._deduplicator.close(events[-1].run_id or "")
                self._counts.received += len(events)
                entry = Entry(cursor=self._last_cursor, body=b"")
                found.append(ReadEntry(entry, DecodedEntry(None, None, events), events))
        return found

    async def _take(self, entry: Entry, decoded: DecodedEntry) -> bool:
        """Whether an entry that the group was given is to be handled here and now."""
        key = decoded.id or entry.cursor
        duplicates = self._in_progress.get(key)
        if duplicates is not None or not decoded.events or key in self._handled:
            self._counts.duplicates += len(decoded.events)
            if duplicates is None:
                await self._acknowledge(entry)
            else:  # it came again while its handlers run or wait for their turn
                duplicates.append(entry)
            return False
        if self.is_suspect(entry):
            # Suspects are handled in order, with nothing beside them, so it was the first of those
            # that were handled alone that ended the process; that one only held the others.
            first, self._suspecting = not self._suspecting, True
            if first and entry.deliveries > self.max_deliveries + 1:
                times = entry.deliveries
                await self._give_up(entry, f"delivered {times} times, never acknowledged")
                return False
        self._in_progress[key] = [entry]
        return True

    # --- dead letters and acknowledgements ------------------------------------------------------

    async def _give_up(self, entry: Entry, reason: str) -> None:
        """An entry that cannot be handled: a group's becomes a dead letter; a reader leaves it out,
        since every other reader meets it as well.
        """
        if not self._warned:
            self._warned = True
            text = "consumer: entry %s of %s is passed over: %s (logged once; statistics() counts them)"
            logger.warning(text, entry.cursor, self.source.name, reason)
        if not self._in_group:
            return
        error = {"type": "Unreadable", "message": reason, "entry": entry.cursor}
        try:
            body = {"error": error, "body": entry.body.decode()}
        except UnicodeDecodeError:
            body = {"error": error, "body_base64": base64.b64encode(entry.body).decode()}
        if await self._dead_letter(msgspec.json.encode(body)):
            await self._acknowledge(entry)

    async def _dead_letter(self, body: bytes) -> bool:
        """Write a dead letter, however long the broker takes to come back.

        False if it could not be written and the consumer is stopping.
        """
        failures = 0
        while True:
            try:
                await self.append_dead_letter(body)
            except Exception as error:  # noqa: BLE001 - brokers fail in their own ways
                failures += 1
                reason = self.source.diagnose(error).reason
                if failures == 1:
                    text = "consumer: a dead letter of %s cannot be written (%s); retrying"
                    logger.warning(text, self.source.name, reason)
                if self.state.stopping and failures > LAST_ATTEMPTS:
                    logger.error("consumer: a dead letter could not be written (%s)", reason)  # noqa: TRY400
                    return False
                await asyncio.sleep(RECONNECT_BACKOFF.delay(failures) or 0.0)
            else:
                self._counts.dead_lettered += 1
                return True

    async def _acknowledge(self, entry: Entry) -> None:
        """Acknowledge to the broker. Where that fails the entry stays claimed, for later."""
        if not self._in_group:
            return
        try:
            await self.source.acknowledge(entry)
        except Exception as error:  # noqa: BLE001 - brokers fail in their own ways
            logger.debug("consumer: to be acknowledged later (%s)", type(error).__name__)
            self._unacknowledged.append(entry)
        else:
            self._held.pop(id(entry), None)

    async def _acknowledge_late(self) -> None:
        while self._unacknowledged:
            await self.source.acknowledge(self._unacknowledged[0])
            self._held.pop(id(self._unacknowledged.popleft()), None)
