"""From a log's entries to events, each once. No I/O.

A log may hold an entry twice: a sink that did not hear the confirmation sends it again. Two copies
of a run may even be cut differently, where one of two sinks had to merge tokens. ``Deduplicator`` gives
each event once:

* an entry says who wrote it and which of his it is; one that is not newer than his last of that
  run is a copy (of different runs, brokers may store them in any order);
* tokens are compared by their place in the field call (``token_index``, ``offset``), and a merged
  one of which a part is known is cut there;
* all other events by ``seq``, which rises within a run.

A reader that goes on from a position is given what the log has behind the event it had last. Where
that event is not in this log as it was, since tokens were merged in another way, ``seq`` and
``offset`` decide: a merged token is cut at ``offset``, or given whole where that is not known. (So
is one that was merged across calls, if the reader's last event came in a later entry: then it is
not known yet that the reader has had all of it.)

It relies on what sinks promise: the first copy of every event comes in the run's order. That does
not hold for a member of a group, who gets what another member left behind; see ``SeenIds``.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Any, Generic, TypeVar

import msgspec

from streamll.core.events import TERMINAL, Event, TokenEvent
from streamll.core.wire import decode_batch

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

LRU_SIZE = 20_000
"""Runs, and writers, that are remembered: the least recently seen is forgotten first."""


class Envelope(msgspec.Struct):
    """The keys of an entry that belong to its way through a broker."""

    id: str | None = None
    traceparent: str | None = None


_envelope = msgspec.json.Decoder(Envelope)


class DecodedEntry(msgspec.Struct):
    """One entry, read: its events and how it came."""

    id: str | None
    traceparent: str | None
    events: list[Event]


def decode_entry(body: bytes) -> DecodedEntry:
    """The events of an entry's body.

    Raises:
        WireError: it is none of streamll's, or a newer one than this version can read.
    """
    events = decode_batch(body)
    try:
        envelope = _envelope.decode(body)
    except msgspec.MsgspecError:  # keys of these names, but not ours
        envelope = Envelope()
    return DecodedEntry(envelope.id, envelope.traceparent, events)


class LRU(Generic[K, V]):
    """A mapping that forgets what has not been used for the longest time."""

    def __init__(self, size: int = LRU_SIZE) -> None:
        self._size = size
        self._items: OrderedDict[K, V] = OrderedDict()

    def get(self, key: K) -> V | None:
        value = self._items.get(key)
        if value is not None:
            self._items.move_to_end(key)
        return value

    def put(self, key: K, value: V) -> None:
        self._items[key] = value
        self._items.move_to_end(key)
        if len(self._items) > self._size:
            self._items.popitem(last=False)

    def __contains__(self, key: K) -> bool:
        return key in self._items


class SeenIds:
    """What a member of a group has handled: the entries' ids, so that copies are passed over."""

    def __init__(self) -> None:
        self._ids: LRU[str, str] = LRU()

    def __contains__(self, decoded: DecodedEntry) -> bool:
        return decoded.id is not None and decoded.id in self._ids

    def add(self, decoded: DecodedEntry) -> None:
        if decoded.id is not None:
            self._ids.put(decoded.id, decoded.id)


class _RunProgress:
    """How far a run has been read."""

    __slots__ = ("ended", "fields", "floor", "last", "offset")

    def __init__(self, floor: int = -1, offset: int | None = None) -> None:
        self.floor = floor  # a reader that resumes has had everything up to here
        self.offset = offset  # and of the token there, characters of its field call up to here
        self.last = floor
        self.ended = False
        self.fields: dict[Any, tuple[int, int]] = {}

    def was_left_at(self, event: Event) -> bool:
        """Whether this is the very event that a reader who resumes had last."""
        if not isinstance(event, TokenEvent):
            return event.seq == self.floor and self.offset is None
        last = -1 if event.seq is None else event.seq + event.count - 1
        return last == self.floor and event.offset + len(event.token) == self.offset

    def go_on_behind(self, event: Event) -> None:
        """What the log has behind this is new, whatever its ``seq``: tokens that were merged
        across calls reach further than others that stand behind them.
        """
        self.floor = self.last = event.seq or 0
        self.ended = event.event_type in TERMINAL
        if isinstance(event, TokenEvent):
            self.fields[_field_call(event)] = _end_of(event)


class Deduplicator:
    """Gives each event once, to a reader who gets a log from one place on."""

    def __init__(self) -> None:
        self.duplicates = 0
        self._runs: LRU[str, _RunProgress] = LRU()
        self._writers: LRU[tuple[str, str | None], int] = LRU()
        self._resuming: dict[str, _RunProgress] = {}  # whose last event has not been found yet

    def resume(self, run_id: str, seq: int, offset: int | None = None) -> None:
        """The reader has had the run's events up to ``seq``.

        If that was a token, ``offset`` says where its text ended in the field call; it is needed
        only to cut a merged token in which ``seq`` is not the last part.
        """
        run = _RunProgress(seq, offset)
        self._runs.put(run_id, run)
        if seq >= 0:
            self._resuming[run_id] = run

    def has_ended(self, run_id: str) -> bool:
        """Whether the run's last event has been read, now or before."""
        run = self._runs.get(run_id)
        return run is not None and run.ended

    def read(self, decoded: DecodedEntry) -> list[Event]:
        """The events of the decoded that are new."""
        if self._is_copy(decoded):
            self.duplicates += len(decoded.events)
            return []
        return self.fresh(decoded.events)

    def fresh(self, events: list[Event]) -> list[Event]:
        """Those that are new, of events that are no copy of an entry."""
        fresh: list[Event] = []
        for event in self._behind_places(events) if self._resuming else events:
            kept = self._fresh(event)
            if kept is None:
                self.duplicates += 1
            else:
                fresh.append(kept)
        return fresh

    def _behind_places(self, events: list[Event]) -> list[Event]:
        """Without the events that readers had last, and what stands before those."""
        kept: list[Event] = []
        for event in events:
            run_id = event.run_id or ""
            run = self._resuming.get(run_id)
            if run is not None and run.was_left_at(event):
                run.go_on_behind(event)
                del self._resuming[run_id]
                before = len(kept)
                kept = [each for each in kept if each.run_id != run_id]
                self.duplicates += before - len(kept) + 1
                continue
            if run is not None and event.seq is not None and event.seq > run.floor:
                del self._resuming[run_id]  # it is not in this log as it was
            kept.append(event)
        return kept

    def _is_copy(self, decoded: DecodedEntry) -> bool:
        writer, _, number = (decoded.id or "").rpartition(":")
        if not writer or not number.isdecimal() or not decoded.events:
            return False
        key = (writer, decoded.events[0].run_id)
        if int(number) <= (self._writers.get(key) or 0):
            return True
        self._writers.put(key, int(number))
        return False

    def _fresh(self, event: Event) -> Event | None:
        """The event, or the part of it that is new; ``None`` for a copy."""
        run_id, seq = event.identity.run_id, event.seq
        if run_id is None or seq is None:  # outside any run, or a gap: only its decoded tells
            return event
        run = self._runs.get(run_id)
        if run is None:
            run = _RunProgress()
            self._runs.put(run_id, run)
        if run.ended:
            return None
        if isinstance(event, TokenEvent):
            return _fresh_token(run, event, seq)
        if event.event_type in TERMINAL:
            run.ended = True
            run.fields.clear()
        if seq <= run.last:
            return None
        run.last = seq
        if event.event_type == "field.end":
            run.fields.pop(_field_call(event), None)
        return event


def _fresh_token(run: _RunProgress, token: TokenEvent, seq: int) -> TokenEvent | None:
    key = _field_call(token)
    seen = run.fields.get(key)
    if seen is None:
        if seq <= run.floor:
            had = run.floor - seq + 1
            if had >= token.count or run.last > run.floor:
                return None
            seen = (token.token_index, token.offset)  # whole, where nobody knows where to cut
            if run.offset is not None:
                if not token.offset <= run.offset <= token.offset + len(token.token):
                    return None  # the reader was elsewhere: this was merged across calls
                seen = (token.token_index + had, run.offset)
        elif seq <= run.last:
            return None  # its field has ended
        else:
            seen = (token.token_index, token.offset)
    fresh = _cut(token, seq, *seen)
    if fresh is not None:
        run.fields[key] = _end_of(token)
    return fresh


def _end_of(token: TokenEvent) -> tuple[int, int]:
    """How many tokens and characters of its field call have come with it."""
    return token.token_index + token.count, token.offset + len(token.token)


def _cut(token: TokenEvent, seq: int, index: int, offset: int) -> TokenEvent | None:
    """What of the token comes after ``index`` tokens and ``offset`` characters of its field."""
    known = index - token.token_index
    if known <= 0:
        return token
    if known >= token.count:
        return None
    return msgspec.structs.replace(
        token,
        seq=seq + known,
        token=token.token[max(offset - token.offset, 0) :],
        token_index=index,
        offset=max(offset, token.offset),
        count=token.count - known,
    )


def position(event: Event) -> tuple[str, int, int | None]:
    """Where a reader who has had this event of a run goes on: what ``start=`` takes."""
    if event.run_id is None or event.seq is None:
        raise ValueError(f"a {event.event_type} event without run and seq has no position")
    if isinstance(event, TokenEvent):
        return event.run_id, event.seq + event.count - 1, event.offset + len(event.token)
    return event.run_id, event.seq, None


def _field_call(event: Event) -> tuple[Any, ...]:
    identity = event.identity
    field = event.data["field"] if not isinstance(event, TokenEvent) else event.field
    return identity.call_id, identity.attempt, identity.candidate, field
