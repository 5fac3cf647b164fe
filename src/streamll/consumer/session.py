"""One consumer's dealings with one log: connect, read, tell what is new, acknowledge, bury.

Whatever comes through a log, a session goes on: what is no event, or makes handlers fail, becomes a
dead letter or is passed over, and a broker that goes away is waited for.

What a group has given this member is its own until it is acknowledged: from the moment it was
read, whether its handler has begun, runs for an hour or waits behind others, the broker is told
that somebody is at it. What comes a second time meanwhile, as after a lost connection, is not
handled beside the first but acknowledged together with it.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import sys
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator
from typing import Any

import msgspec

from streamll.brokers.source import Entry, Source, SourceOptions
from streamll.consumer.deduplication import DecodedEntry, Deduplicator, SeenIds, decode_entry
from streamll.consumer.handlers import HandlerFailure
from streamll.core.errors import BrokerError, WireError
from streamll.core.events import Event
from streamll.core.wire import encode_batch
from streamll.flow.retry import Backoff

logger = logging.getLogger("streamll")

RECONNECT = Backoff(attempts=sys.maxsize, base=0.1, cap=5.0)
LAG_INTERVAL_S = 1.0


class ConsumerStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Counts since the consumer was made.

    ``received`` and ``handled`` are events, ``duplicates`` those passed over; ``dead_lettered``
    counts events whose handler failed for good, and entries that are no events, ``malformed``
    ones; ``redelivered`` entries were another member's before. ``lag`` is how many entries wait to
    be read, or, in a group, acknowledged; ``None`` where the broker cannot tell. RabbitMQ tells it
    of readers up to 5 seconds late, and of groups without what other members hold.
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


class ReadState:
    """What a consumer counts, and whether it shall go on; shared by its sessions."""

    def __init__(self) -> None:
        self.stopping = False
        self.connected = threading.Event()
        self.received = self.handled = self.duplicates = self.retried = 0
        self.dead_lettered = self.malformed = self.redelivered = self.reconnects = 0
        self.lag: int | None = None

    def statistics(self) -> ConsumerStatistics:
        names = [name for name in ConsumerStatistics.__struct_fields__ if name != "connected"]
        return ConsumerStatistics(
            **{name: getattr(self, name) for name in names}, connected=self.connected.is_set()
        )


class ReadSession:
    """Reads through one ``Source``. Counts into ``state``, ends when that says so."""

    def __init__(
        self,
        source: Source,
        options: SourceOptions,
        position: tuple[str, int, int | None] | None,
        state: ReadState,
    ) -> None:
        self._source = source
        self._options = options
        self._state = state
        self._reading = Deduplicator()
        self._handled = SeenIds()
        self._held: dict[int, Entry] = {}  # given to this member and not acknowledged yet
        self._under_way: dict[str, list[Entry]] = {}  # by decoded: its entry, and copies of it
        self._owed: deque[Entry] = deque()  # done, but the broker was away and does not know yet
        self._suspecting = False  # the first of some that may end processes has come
        self._complained = False
        self._closing = False
        if position is not None:
            self._reading.resume(*position)

    @property
    def over(self) -> bool:
        """Whether the one run that is read has no more events."""
        run_id = self._options.run_id
        return run_id is not None and self._reading.has_ended(run_id)

    async def decoded_entries(
        self,
    ) -> AsyncGenerator[tuple[Entry, DecodedEntry, list[Event]], None]:
        """Every entry that is one of streamll's, and its events that are new."""
        entries = self._entries()
        try:
            async for entry in entries:
                decoded = await self._read(entry)
                if decoded is not None:
                    yield entry, decoded, self._news(decoded)
        finally:
            await entries.aclose()

    async def done_with(self, entry: Entry, decoded: DecodedEntry, events: int) -> None:
        """Everything in the entry has been handled."""
        self._state.handled += events
        self._handled.add(decoded)
        for each in self._under_way.pop(decoded.id or entry.cursor, ()):
            await self._acknowledge(each)

    def suspects(self, entry: Entry) -> bool:
        """Whether the entry was given out so often that its handling may be what ends processes.

        Then nothing should be handled beside it, so that it alone is to blame the next time.
        """
        return self._options.group is not None and entry.deliveries > self._options.max_deliveries

    async def dead_letter_event(self, failure: HandlerFailure) -> bool:
        """A handler failed for good: its event becomes a dead letter, the error beside it.

        False if that could not be written before the consumer was to end.
        """
        name = getattr(failure.handler, "__qualname__", type(failure.handler).__name__)
        logger.warning(
            "consumer: handler %s failed on %s (%s); it is a dead letter now",
            name,
            failure.event.event_id or failure.event.event_type,
            type(failure.error).__name__,
        )
        error = {
            "type": type(failure.error).__name__,
            "message": str(failure.error),
            "handler": name,
        }
        [envelope] = encode_batch([failure.event])
        return await self._bury(envelope[:-1] + b',"error":' + msgspec.json.encode(error) + b"}")

    async def stay_alive(self) -> None:
        """Tell the broker what this member is busy with, and look how much waits. Never ends."""
        third = self._options.claim_after / 3
        every = min(LAG_INTERVAL_S, third)
        keep_at = 0.0
        while not self._closing:
            # Whatever fails here fails for who reads as well, and is told there.
            if self._held and time.monotonic() >= keep_at:
                keep_at = time.monotonic() + third - every / 2
                with contextlib.suppress(Exception):
                    await self._source.extend_claim(list(self._held.values()))
            with contextlib.suppress(Exception):
                await self._settle()
            with contextlib.suppress(Exception):
                self._state.lag = await self._source.lag()
            if not self._closing:  # a client library may swallow a cancellation
                await asyncio.sleep(every)

    async def close(self, alive: asyncio.Task[None]) -> None:
        self._closing = True
        alive.cancel()
        await asyncio.wait([alive])
        self._state.connected.clear()
        with contextlib.suppress(Exception):
            await self._settle()
        with contextlib.suppress(Exception):
            await self._source.close()

    # --- reading --------------------------------------------------------------------------------

    async def _entries(self) -> AsyncGenerator[Entry, None]:
        """Entries until the consumer stops, across any number of connections."""
        failures = 0
        ever = False
        state, source = self._state, self._source
        while not state.stopping:
            try:
                await source.connect()
                if ever or failures:
                    state.reconnects += 1
                    logger.info("consumer: %s is back", source.name)
                failures, ever = 0, True
                state.connected.set()
                while not state.stopping:
                    entries = await source.read()
                    if self._options.group is not None:
                        self._held.update((id(entry), entry) for entry in entries)
                    for entry in entries:
                        yield entry
                    if not entries or not all(map(self.suspects, entries)):
                        self._suspecting = False
            except Exception as error:  # noqa: BLE001 - brokers fail in their own ways
                failures += 1
                state.connected.clear()
                self._lost(error, failures, ever=ever)
            pause = (RECONNECT.delay(failures) or 0.0) if failures else 0.0
            while pause > 0 and not state.stopping:
                await asyncio.sleep(min(pause, 0.2))
                pause -= 0.2

    def _lost(self, error: Exception, failures: int, *, ever: bool) -> None:
        fatal_reason = self._source.fatal_reason(error)
        if fatal_reason is not None and not ever:
            raise BrokerError(fatal_reason) from error
        if failures == 1:
            logger.warning(
                "consumer: %s cannot be read (%s); it tries on",
                self._source.name,
                fatal_reason or self._source.describe(error),
            )

    async def _read(self, entry: Entry) -> DecodedEntry | None:
        """The entry's events; ``None`` when it has been dealt with already."""
        if entry.deliveries > 1:
            self._state.redelivered += 1
        try:
            decoded = decode_entry(entry.body)
        except WireError as error:
            self._state.malformed += 1
            await self._give_up(entry, str(error))
            return None
        if self._options.group is None:
            return decoded if decoded.events else None
        return decoded if await self._is_for_us(entry, decoded) else None

    async def _is_for_us(self, entry: Entry, decoded: DecodedEntry) -> bool:
        """Whether an entry that a group was given shall be handled here and now."""
        key = decoded.id or entry.cursor
        copies = self._under_way.get(key)
        if copies is not None:  # it came again, while its handlers run or wait for their turn
            copies.append(entry)
            self._state.duplicates += len(decoded.events)
            return False
        if not decoded.events or decoded in self._handled:
            self._state.duplicates += len(decoded.events)
            await self._acknowledge(entry)
            return False
        if self._is_to_blame(entry):
            await self._give_up(entry, f"given out {entry.deliveries} times, never acknowledged")
            return False
        self._under_way[key] = [entry]
        return True

    def _is_to_blame(self, entry: Entry) -> bool:
        """Whether the entry ended the process that handled it last.

        Suspects are handled in order and with nothing beside them, so it is the first of those
        that somebody had alone; the others were only in the same hands.
        """
        if not self.suspects(entry):
            return False
        first, self._suspecting = not self._suspecting, True
        return first and entry.deliveries > self._options.max_deliveries + 1

    def _news(self, decoded: DecodedEntry) -> list[Event]:
        if self._options.group is None:
            before = self._reading.duplicates
            events = self._reading.read(decoded)
            self._state.duplicates += self._reading.duplicates - before
        else:
            events = decoded.events
        if self._options.run_id is not None:
            events = [event for event in events if event.run_id == self._options.run_id]
        self._state.received += len(events)
        return events

    # --- what went wrong ------------------------------------------------------------------------

    async def _give_up(self, entry: Entry, reason: str) -> None:
        """An entry that cannot be handled: a group's becomes a dead letter, a reader's is passed
        over, since every other reader meets it as well.
        """
        if not self._complained:
            self._complained = True
            logger.warning(
                "consumer: entry %s of %s is passed over: %s (said once; statistics() count them)",
                entry.cursor,
                self._source.name,
                reason,
            )
        if self._options.group is None:
            return
        body: Any = {"error": {"type": "Unreadable", "message": reason, "entry": entry.cursor}}
        try:
            body["body"] = entry.body.decode()
        except UnicodeDecodeError:
            body["body_base64"] = base64.b64encode(entry.body).decode()
        if await self._bury(msgspec.json.encode(body)):
            await self._acknowledge(entry)

    async def _bury(self, body: bytes) -> bool:
        """Add a dead letter, however long the broker takes to come back, unless it is the end."""
        failures = 0
        while True:
            try:
                await self._source.dead_letter(body)
            except Exception as error:  # noqa: BLE001 - brokers fail in their own ways
                failures += 1
                reason = self._source.describe(error)
                if failures == 1:
                    logger.warning(
                        "consumer: a dead letter of %s cannot be written (%s); it tries on",
                        self._source.name,
                        reason,
                    )
                if self._state.stopping and failures > 3:  # noqa: PLR2004
                    logger.error("consumer: a dead letter could not be written (%s)", reason)  # noqa: TRY400
                    return False
                await asyncio.sleep(RECONNECT.delay(failures) or 0.0)
            else:
                self._state.dead_lettered += 1
                return True

    async def _acknowledge(self, entry: Entry) -> None:
        """Tell the broker. Where that fails the entry stays this member's, and is owed."""
        if self._options.group is None:
            return
        try:
            await self._source.acknowledge(entry)
        except Exception as error:  # noqa: BLE001 - brokers fail in their own ways
            logger.debug("consumer: to be acknowledged later (%s)", type(error).__name__)
            self._owed.append(entry)
        else:
            self._held.pop(id(entry), None)

    async def _settle(self) -> None:
        """Acknowledge what could not be when its turn was."""
        while self._owed:
            await self._source.acknowledge(self._owed[0])
            self._held.pop(id(self._owed.popleft()), None)
