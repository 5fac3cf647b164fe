"""What a sink has yet to get confirmed: parcels in order, bounded by bytes.

Plain data and no I/O. A parcel is one entry of a log: consecutive events of one run under one
context. When it is sent it gets an ``id``, which names the producer and counts what he sends;
sent again it keeps it, so that a reader can tell a copy.

Beyond ``max_bytes`` the oldest parcels are dropped; what was lost is announced by a ``stream.gap``
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

HEADING = 128
"""About what id and traceparent add to a parcel."""

KEPT_BYTES = 2**20
"""Beyond this, parcels that wait are bytes and nothing else."""

JOINED_BYTES = 2**14
"""Up to this size, what waits of one run becomes one parcel: after an outage a broker takes a few
large ones in a fraction of the time."""

TEXTS = frozenset({TokenEvent, FieldStart, FieldEnd, Thinking})
"""Kinds that hold texts and numbers only: read back, they are what they were."""


class Parcel(msgspec.Struct, gc=False):
    """One entry of a log. ``events`` are those it holds, ``stands_for`` counts the parts of merged
    tokens and the losses it announces as well. ``heading`` has the id, which it gets when it is to
    be sent. ``told`` are the events themselves, where they need not be read back to be what the
    log has.
    """

    run_id: str | None
    context: Mapping[str, Any]
    first: int | None
    last: int | None
    events: int
    stands_for: int
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
        return len(self.rest) + HEADING


class Outbox:
    """Parcels that wait, oldest first. ``bytes`` never exceeds ``max_bytes`` after ``add``.

    With ``keeps_events`` parcels have what they were made of, as long as they are few.
    """

    def __init__(self, max_bytes: int, max_entry_bytes: int) -> None:
        self.keeps_events = False
        self.max_bytes = max_bytes
        self.max_entry_bytes = max_entry_bytes
        self.bytes = 0
        self.events = 0
        self.dropped = 0
        self.oversized = 0
        self._parcels: deque[Parcel] = deque()
        self._latest: dict[str | None, Parcel] = {}  # of each run, unless a gap came after it
        self._joined_bytes = min(JOINED_BYTES, max_entry_bytes, max_bytes // 8)
        self._tried = 0  # so many of the oldest have an id, since they may have arrived already
        self._lost: dict[str | None, tuple[int, str]] = {}
        self.producer = uuid.uuid4().hex
        self._made = 0

    def __bool__(self) -> bool:
        return bool(self._parcels or self._lost)

    def add(self, events: Iterable[Event], traceparent: Callable[[str | None], str | None]) -> None:
        """Pack events behind those that wait. ``traceparent`` tells that of a run."""
        for group in grouped(events):
            self._pack(group, traceparent(group[0].identity.run_id))
        while self.bytes > self.max_bytes and len(self._parcels) > 1:
            parcel = self._parcels.popleft()
            self._forget(parcel)
            self._tried = 0  # what comes next must have a higher id than the gap in front of it
            self.dropped += parcel.events
            self._lose(parcel.run_id, parcel.stands_for, "overflow")

    def head(self, max_parcels: int, max_bytes: int) -> list[Parcel]:
        """The oldest parcels, at least one; they stay until ``sent``."""
        self._announce()
        parcels: list[Parcel] = []
        size = 0
        for parcel in self._parcels:
            size += parcel.size
            if parcels and (len(parcels) >= max_parcels or size > max_bytes):
                break
            parcels.append(parcel)
        for parcel in parcels[self._tried :]:
            self._number(parcel)
        self._tried = max(self._tried, len(parcels))
        return parcels

    def sent(self, count: int) -> None:
        """The oldest ``count`` parcels have been confirmed."""
        for _ in range(count):
            self._forget(self._parcels.popleft())
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
                gap = self._gap(events[0].run_id, stands_for(events), "oversized")
                self._parcels.append(gap)
                self._latest.pop(gap.run_id, None)
            return
        first, last = events[0], events[-1]
        parcel = Parcel(
            first.identity.run_id,
            first.context,
            first.seq,
            last.seq,
            len(events),
            stands_for(events),
            traceparent,
            envelope[1:],
            self._kept(events),
        )
        self.events += len(events)
        latest = self._latest.get(parcel.run_id)
        if latest is None or not self._join(latest, parcel):
            self._latest[parcel.run_id] = parcel
            self._parcels.append(parcel)
            self.bytes += parcel.size

    def _join(self, earlier: Parcel, later: Parcel) -> bool:
        """Make one of two parcels of a run, if the earlier one has not been sent yet."""
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
        earlier.stands_for += later.stands_for
        if earlier.told is not None:
            earlier.told = None if later.told is None else [*earlier.told, *later.told]
        self.bytes += earlier.size
        return True

    def _kept(self, events: list[Event]) -> list[Event] | None:
        if not self.keeps_events or self.bytes > KEPT_BYTES:
            return None
        if not all(type(event) in TEXTS and not event.extra for event in events):
            return None
        return events if all(type(v) is str for v in events[0].context.values()) else None

    def _number(self, parcel: Parcel) -> None:
        """Head the envelope with the keys that belong to its way through a broker."""
        self._made += 1
        trace = f'"{tracing.KEY}":"{parcel.traceparent}",' if parcel.traceparent else ""
        parcel.heading = f'{{"id":"{self.producer}:{self._made}",{trace}'.encode()

    def _forget(self, parcel: Parcel) -> None:
        self.bytes -= parcel.size
        self.events -= parcel.events
        if self._latest.get(parcel.run_id) is parcel:
            del self._latest[parcel.run_id]

    def _lose(self, run_id: str | None, count: int, reason: str) -> None:
        self._lost[run_id] = (self._lost.get(run_id, (0, ""))[0] + count, reason)

    def _announce(self) -> None:
        for run_id, (count, reason) in self._lost.items():
            gap = self._gap(run_id, count, reason)
            self._parcels.insert(self._tried, gap)
        self._lost.clear()

    def _gap(self, run_id: str | None, count: int, reason: str) -> Parcel:
        identity = NOBODY if run_id is None else Identity(run_id=run_id)
        event = StreamGap(timestamp=time.time(), identity=identity, count=count, reason=reason)
        [envelope] = encode_batch([event])
        gap = Parcel(run_id, NOTHING, None, None, 0, count, None, envelope[1:])
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


def stands_for(events: Sequence[Event]) -> int:
    """How many events of their runs these stand for."""
    counts = [event.count for event in events if isinstance(event, (TokenEvent, StreamGap))]
    return len(events) - len(counts) + sum(counts)
