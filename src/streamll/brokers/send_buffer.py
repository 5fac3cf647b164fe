"""What a sink has yet to get confirmed: entries in order, bounded by bytes.

Plain data and no I/O. A entry is one entry of a log: consecutive events of one run under one
context. When it is sent it gets an ``id``, which names the producer and counts what he sends;
sent again it keeps it, so that a reader can tell a copy.

Beyond ``max_bytes`` the oldest entries are dropped; what was lost is announced by a ``stream.gap``
of the run that goes out before anything else.
"""

from __future__ import annotations

import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from streamll.brokers import tracing
from streamll.core.events import (
    NOBODY,
    NOTHING,
    Event,
    FieldEnd,
    FieldStart,
    Identity,
    StreamGap,
    Thinking,
    TokenEvent,
)
from streamll.core.wire import decode_batch, encode_batch, opening

HEADING_BYTES = 128
"""About what id and traceparent add to a entry."""

KEEP_EVENTS_BYTES = 2**20
"""Beyond this, entries that wait are bytes and nothing else."""

JOIN_BYTES = 2**14
"""Up to this size, what waits of one run becomes one entry: after an outage a broker takes a few
large ones in a fraction of the time."""

TEXTS = frozenset({TokenEvent, FieldStart, FieldEnd, Thinking})
"""Kinds that hold texts and numbers only: read back, they are what they were."""


class PendingEntry(msgspec.Struct, gc=False):
    """One entry of a log. ``events`` are those it holds, ``original_count`` counts the parts of merged
    tokens and the losses it announces as well. ``heading`` has the id, which it gets when it is to
    be sent. ``told`` are the events themselves, where they need not be read back to be what the
    log has.
    """

    run_id: str | None
    context: Mapping[str, Any]
    first: int | None
    last: int | None
    events: int
    original_count: int
    traceparent: str | None
    rest: bytes
    told: list[Event] | None = None
    heading: bytes = b""

    @property
    def body(self) -> bytes:
        return self.heading + self.rest

    @property
    def logged(self) -> list[Event]:
        """The events as a reader of the log gets them."""
        return decode_batch(self.body) if self.told is None else self.told

    @property
    def size(self) -> int:
        return len(self.rest) + HEADING_BYTES


class SendBuffer:
    """Parcels that wait, oldest first. ``bytes`` never exceeds ``max_bytes`` after ``add``.

    With ``keeps_events`` entries have what they were made of, as long as they are few.
    """

    def __init__(self, max_bytes: int, max_entry_bytes: int) -> None:
        self.keeps_events = False
        self.max_bytes = max_bytes
        self.max_entry_bytes = max_entry_bytes
        self.bytes = 0
        self.events = 0
        self.dropped = 0
        self.oversized = 0
        self._entries: deque[PendingEntry] = deque()
        self._latest: dict[str | None, PendingEntry] = {}  # of each run, unless a gap came after it
        self._joined_bytes = min(JOIN_BYTES, max_entry_bytes, max_bytes // 8)
        self._tried = 0  # so many of the oldest have an id, since they may have arrived already
        self._lost: dict[str | None, tuple[int, str]] = {}
        self.producer = uuid.uuid4().hex
        self._made = 0

    def __bool__(self) -> bool:
        return bool(self._entries or self._lost)

    def add(self, events: Iterable[Event], traceparent: Callable[[str | None], str | None]) -> None:
        """Pack events behind those that wait. ``traceparent`` tells that of a run."""
        for group in grouped(events):
            self._pack(group, traceparent(group[0].identity.run_id))
        while self.bytes > self.max_bytes and len(self._entries) > 1:
            entry = self._entries.popleft()
            self._forget(entry)
            self._tried = 0  # what comes next must have a higher id than the gap in front of it
            self.dropped += entry.events
            self._lose(entry.run_id, entry.original_count, "overflow")

    def head(self, max_parcels: int, max_bytes: int) -> list[PendingEntry]:
        """The oldest entries, at least one; they stay until ``sent``."""
        self._announce()
        entries: list[PendingEntry] = []
        size = 0
        for entry in self._entries:
            size += entry.size
            if entries and (len(entries) >= max_parcels or size > max_bytes):
                break
            entries.append(entry)
        for entry in entries[self._tried :]:
            self._number(entry)
        self._tried = max(self._tried, len(entries))
        return entries

    def sent(self, count: int) -> None:
        """The oldest ``count`` entries have been confirmed."""
        for _ in range(count):
            self._forget(self._entries.popleft())
        self._tried -= count

    def _pack(self, events: list[Event], traceparent: str | None) -> None:
        [envelope] = encode_batch(events)
        if len(envelope) > self.max_entry_bytes:
            if len(events) > 1:
                middle = len(events) // 2
                self._pack(events[:middle], traceparent)
                self._pack(events[middle:], traceparent)
            else:
                self.oversized += 1
                gap = self._gap(events[0].run_id, original_count(events), "oversized")
                self._entries.append(gap)
                self._latest.pop(gap.run_id, None)
            return
        first, last = events[0], events[-1]
        entry = PendingEntry(
            first.identity.run_id,
            first.context,
            first.seq,
            last.seq,
            len(events),
            original_count(events),
            traceparent,
            envelope[1:],
            self._kept(events),
        )
        self.events += len(events)
        latest = self._latest.get(entry.run_id)
        if latest is None or not self._join(latest, entry):
            self._latest[entry.run_id] = entry
            self._entries.append(entry)
            self.bytes += entry.size

    def _join(self, earlier: PendingEntry, later: PendingEntry) -> bool:
        """Make one of two entries of a run, if the earlier one has not been sent yet."""
        if (
            earlier.heading
            or len(earlier.rest) + len(later.rest) > self._joined_bytes
            or earlier.traceparent != later.traceparent
            or earlier.context != later.context
        ):
            return False
        head = opening(earlier.run_id, earlier.context)[1:]
        if not (earlier.rest.startswith(head) and later.rest.startswith(head)):
            return False  # a context that is written in a roundabout way
        self.bytes -= earlier.size
        earlier.rest = earlier.rest[:-2] + b"," + later.rest[len(head) :]
        earlier.last = later.last
        earlier.events += later.events
        earlier.original_count += later.original_count
        if earlier.told is not None:
            earlier.told = None if later.told is None else [*earlier.told, *later.told]
        self.bytes += earlier.size
        return True

    def _kept(self, events: list[Event]) -> list[Event] | None:
        if not self.keeps_events or self.bytes > KEEP_EVENTS_BYTES:
            return None
        if not all(type(event) in TEXTS and not event.extra for event in events):
            return None
        return events if all(type(v) is str for v in events[0].context.values()) else None

    def _number(self, entry: PendingEntry) -> None:
        """Head the envelope with the keys that belong to its way through a broker."""
        self._made += 1
        trace = f'"{tracing.KEY}":"{entry.traceparent}",' if entry.traceparent else ""
        entry.heading = f'{{"id":"{self.producer}:{self._made}",{trace}'.encode()

    def _forget(self, entry: PendingEntry) -> None:
        self.bytes -= entry.size
        self.events -= entry.events
        if self._latest.get(entry.run_id) is entry:
            del self._latest[entry.run_id]

    def _lose(self, run_id: str | None, count: int, reason: str) -> None:
        self._lost[run_id] = (self._lost.get(run_id, (0, ""))[0] + count, reason)

    def _announce(self) -> None:
        for run_id, (count, reason) in self._lost.items():
            gap = self._gap(run_id, count, reason)
            self._entries.insert(self._tried, gap)
        self._lost.clear()

    def _gap(self, run_id: str | None, count: int, reason: str) -> PendingEntry:
        identity = NOBODY if run_id is None else Identity(run_id=run_id)
        event = StreamGap(timestamp=time.time(), identity=identity, count=count, reason=reason)
        [envelope] = encode_batch([event])
        gap = PendingEntry(run_id, NOTHING, None, None, 0, count, None, envelope[1:])
        self.bytes += gap.size
        return gap


def grouped(events: Iterable[Event]) -> Iterator[list[Event]]:
    """The events by run, each run's in order; a new group begins where the context changes."""
    runs: dict[str | None, list[Event]] = {}
    done: list[list[Event]] = []
    for event in events:
        run_id = event.identity.run_id
        group = runs.get(run_id)
        if group is not None:
            context = group[-1].context
            if event.context is context or event.context == context:
                group.append(event)
                continue
        group = runs[run_id] = [event]
        done.append(group)
    return iter(done)


def original_count(events: Sequence[Event]) -> int:
    """How many events of their runs these stand for."""
    counts = [event.count for event in events if isinstance(event, (TokenEvent, StreamGap))]
    return len(events) - len(counts) + sum(counts)
