"""Entries that a sink has not got confirmed yet, in order and bounded by bytes. No I/O.

An entry holds consecutive events of one run under one context. When it is first sent it gets an
``id``: the producer's, and a number that rises with every entry. A retry keeps it, so that a reader
recognises the duplicate.

Beyond ``max_bytes`` the oldest entries are dropped. The loss is announced by a ``stream.gap`` of
the run, which is sent before anything else.
"""

from __future__ import annotations

import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from streamll.brokers import tracing
from streamll.core import events as ev
from streamll.core.wire import decode_batch, encode_batch, opening

HEADING_BYTES = 128
"""About what id and traceparent add to an entry."""

KEEP_EVENTS_BYTES = 2**20
"""While more than this waits, entries are kept as bytes only, without their event objects."""

JOIN_BYTES = 2**14
"""Up to this size, waiting entries of one run are joined: after an outage a broker takes a few
large entries in a fraction of the time."""

PLAIN_KINDS = frozenset({ev.TokenEvent, ev.FieldStart, ev.FieldEnd, ev.Thinking})
"""Kinds that hold only text and numbers: decoding their encoding gives an equal event."""


class PendingEntry(msgspec.Struct, gc=False):
    """An entry to be sent.

    Attributes:
        event_count: the events it holds; 0 for a gap this buffer announces.
        original_count: the events they stand for: parts of merged tokens and losses included.
        rest: the encoded envelope after its heading.
        events: the events themselves, where decoding the entry would give equal ones.
        heading: the envelope's ``id`` and ``traceparent``, from the first attempt to send it on.
    """

    rest: bytes
    run_id: str | None = None
    context: Mapping[str, Any] = ev.NOTHING
    first_seq: int | None = None
    last_seq: int | None = None
    event_count: int = 0
    original_count: int = 0
    traceparent: str | None = None
    events: list[ev.Event] | None = None
    heading: bytes = b""

    @classmethod
    def of(
        cls, events: Sequence[ev.Event], rest: bytes, traceparent: str | None = None
    ) -> PendingEntry:
        """The entry of these events, encoded as ``rest``."""
        first, last = events[0], events[-1]
        shared = first.run_id, first.context, first.seq, last.seq
        return cls(rest, *shared, len(events), original_count(events), traceparent)

    @property
    def body(self) -> bytes:
        return self.heading + self.rest

    @property
    def events_as_read(self) -> list[ev.Event]:
        """The events as a reader of the log gets them."""
        return decode_batch(self.body) if self.events is None else self.events

    @property
    def size(self) -> int:
        return len(self.rest) + HEADING_BYTES


class SendBuffer:
    """Waiting entries, oldest first. ``bytes`` does not exceed ``max_bytes`` after ``add``.

    With ``keeps_events`` entries keep their event objects as well, as long as little waits.
    """

    def __init__(self, max_bytes: int, max_entry_bytes: int) -> None:
        self.keeps_events = False
        self.max_bytes = max_bytes
        self.max_entry_bytes = max_entry_bytes
        self.bytes = 0
        self.event_count = 0
        self.dropped = 0
        self.oversized = 0
        self.producer = uuid.uuid4().hex
        self._entries: deque[PendingEntry] = deque()
        self._latest: dict[str | None, PendingEntry] = {}  # of each run, unless a gap follows it
        self._join_bytes = min(JOIN_BYTES, max_entry_bytes, max_bytes // 8)
        self._renumbers = False  # entries that were sent before need ids above that of a gap
        self._lost: dict[str | None, tuple[int, Mapping[str, Any]]] = {}
        """Of each run: how many events, and their context, which may name the log that is told."""
        self._numbered = 0

    def __bool__(self) -> bool:
        return bool(self._entries or self._lost)

    def add(
        self, events: Iterable[ev.Event], traceparent: Callable[[str | None], str | None]
    ) -> None:
        """Pack events into entries behind those that wait. ``traceparent`` maps run to trace."""
        for group in grouped(events):
            self._pack(group, traceparent(group[0].identity.run_id))
        while self.bytes > self.max_bytes and len(self._entries) > 1:
            entry = self._entries.popleft()
            self._forget(entry)
            self._renumbers = True
            self.dropped += entry.event_count
            lost, _ = self._lost.get(entry.run_id, (0, ev.NOTHING))
            self._lost[entry.run_id] = lost + entry.original_count, entry.context

    def head(
        self,
        max_entries: int,
        max_bytes: int,
        is_stuck: Callable[[PendingEntry], bool] | None = None,
    ) -> list[PendingEntry]:
        """The oldest entries to be sent, at least one; they stay until ``sent``.

        Those that are stuck are left out, and then it may be none.
        """
        for run_id, (count, context) in self._lost.items():
            self._entries.appendleft(self._gap(run_id, context, count, "overflow"))
        self._lost.clear()
        if self._renumbers:
            self._renumbers = False
            for entry in self._entries:
                entry.heading = b""
        entries: list[PendingEntry] = []
        size = 0
        for entry in self._entries:
            if is_stuck is not None and is_stuck(entry):
                continue
            size += entry.size
            if entries and (len(entries) >= max_entries or size > max_bytes):
                break
            entries.append(entry)
        for entry in entries:
            if not entry.heading:
                self._numbered += 1
                trace = f'"{tracing.KEY}":"{entry.traceparent}",' if entry.traceparent else ""
                entry.heading = f'{{"id":"{self.producer}:{self._numbered}",{trace}'.encode()
        return entries

    def sent(self, entries: Sequence[PendingEntry]) -> None:
        """These entries of ``head`` have been confirmed, usually all of it."""
        for number, entry in enumerate(entries):
            if self._entries[0] is not entry:  # some before it are stuck
                gone = {id(each) for each in entries[number:]}
                self._entries = deque(each for each in self._entries if id(each) not in gone)
                break
            self._entries.popleft()
        for entry in entries:
            self._forget(entry)

    def _pack(self, events: list[ev.Event], traceparent: str | None) -> None:
        """Encode events as one entry; as several if one would be too large."""
        [envelope] = encode_batch(events)
        run_id, count = events[0].run_id, len(events)
        if len(envelope) > self.max_entry_bytes:
            if count > 1:
                self._pack(events[: count // 2], traceparent)
                self._pack(events[count // 2 :], traceparent)
            else:
                self.oversized += 1
                context = events[0].context
                self._entries.append(
                    self._gap(run_id, context, original_count(events), "oversized")
                )
                self._latest.pop(run_id, None)
            return
        entry = PendingEntry.of(events, envelope[1:], traceparent)
        if self._may_keep(events):
            entry.events = events
        self.event_count += count
        latest = self._latest.get(run_id)
        if latest is None or not self._join(latest, entry):
            self._latest[run_id] = entry
            self._entries.append(entry)
            self.bytes += entry.size

    def _join(self, earlier: PendingEntry, later: PendingEntry) -> bool:
        """Append ``later`` to ``earlier``, unless that one has been sent or would be too large."""
        if (
            earlier.heading
            or len(earlier.rest) + len(later.rest) > self._join_bytes
            or earlier.traceparent != later.traceparent
            or earlier.context != later.context
        ):
            return False
        head = opening(earlier.run_id, earlier.context)[1:]
        if not (earlier.rest.startswith(head) and later.rest.startswith(head)):
            return False  # the context has another encoding
        self.bytes -= earlier.size
        earlier.rest = earlier.rest[:-2] + b"," + later.rest[len(head) :]
        earlier.last_seq = later.last_seq
        earlier.event_count += later.event_count
        earlier.original_count += later.original_count
        if earlier.events is not None:
            earlier.events = None if later.events is None else [*earlier.events, *later.events]
        self.bytes += earlier.size
        return True

    def _may_keep(self, events: list[ev.Event]) -> bool:
        """Whether the event objects equal what decoding their entry would give."""
        return (
            self.keeps_events
            and self.bytes <= KEEP_EVENTS_BYTES
            and all(type(event) in PLAIN_KINDS and not event.extra for event in events)
            and all(type(value) is str for value in events[0].context.values())
        )

    def _forget(self, entry: PendingEntry) -> None:
        self.bytes -= entry.size
        self.event_count -= entry.event_count
        if self._latest.get(entry.run_id) is entry:
            del self._latest[entry.run_id]

    def _gap(
        self, run_id: str | None, context: Mapping[str, Any], count: int, reason: str
    ) -> PendingEntry:
        identity = ev.NOBODY if run_id is None else ev.Identity(run_id=run_id)
        event = ev.StreamGap(
            timestamp=time.time(), identity=identity, context=context, count=count, reason=reason
        )
        [envelope] = encode_batch([event])
        gap = PendingEntry(envelope[1:], run_id, context, original_count=count)
        self.bytes += gap.size
        return gap


def grouped(events: Iterable[ev.Event]) -> list[list[ev.Event]]:
    """The events by run, each run's in order; a new group begins where the context changes."""
    groups: list[list[ev.Event]] = []
    latest: dict[str | None, list[ev.Event]] = {}
    for event in events:
        group = latest.get(event.identity.run_id)
        if group is not None:
            context = group[-1].context
            if event.context is context or event.context == context:
                group.append(event)
                continue
        group = latest[event.identity.run_id] = [event]
        groups.append(group)
    return groups


def original_count(events: Sequence[ev.Event]) -> int:
    """How many events these stand for: a merged token for its parts, a gap for what it lost."""
    counts = [event.count for event in events if isinstance(event, (ev.TokenEvent, ev.StreamGap))]
    return len(events) - len(counts) + sum(counts)
