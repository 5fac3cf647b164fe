"""From a log's entries to events, each once. No I/O.

A log may hold an entry twice: a sink that misses a confirmation sends it again. Two sinks may even
have split a run differently, if one of them had to merge tokens. ``Deduplicator`` gives each event
once:

* An entry has its writer's id and a counter. One whose counter is not above that writer's last for
  the run is a duplicate (entries of different runs may be stored in any order).
* Tokens are compared by their position in the field call (``token_index``, ``offset``); a merged
  token of which a part is known is cut there.
* All other events are compared by ``seq``, which rises within a run.

A reader that resumes gets what the log has behind the event it had last. If the log does not have
that very event, because tokens were merged differently, ``seq`` and ``offset`` decide: a merged
token is cut at ``offset``, or given whole if that is not known. If the log has nothing up to there
any more, since it was trimmed, a ``stream.gap`` says how much the reader has missed. (A token that was merged across
calls is given whole as well, if the reader's last event comes in a later entry: until then it is
not known that the reader has had all of it.)

This relies on the sinks' promise that the first copy of every event comes in the run's order. It
does not hold for a member of a group, which gets what another member left: that remembers entries'
ids instead.

A hole in a run's ``seq`` from one entry to the next may be the writer's own (``redact``, an inner
module's sink), or the log was trimmed before it could be read. ``hole`` tells of it;
``consumer.reading`` asks the log which it is.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Any, NamedTuple, TypeVar

import msgspec

from streamll.brokers.send_buffer import original_count
from streamll.core.events import TERMINAL, TRIMMED, Event, FieldEnd, Identity, StreamGap, TokenEvent
from streamll.core.positions import Position, position
from streamll.core.wire import DecodedEntry

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

LRU_ITEMS = 20_000
"""Runs, writers and entry ids that are remembered; the least recently used is forgotten first."""


class LRU(OrderedDict[K, V]):
    """A bounded mapping that forgets the least recently used item."""

    def latest(self, key: K) -> V | None:
        """The item, which has been used now."""
        value = self.get(key)
        if value is not None:
            self.move_to_end(key)
        return value

    def put(self, key: K, value: V) -> V:
        self[key] = value
        self.move_to_end(key)
        if len(self) > LRU_ITEMS:
            self.popitem(last=False)
        return value


class _RunProgress(msgspec.Struct):
    """How far a run has been read."""

    floor: int = -1  # a reader that resumes has had everything up to this seq
    offset: int | None = None  # and this many characters of the field call of the token there
    last: int = -1
    ended: bool = False
    accounted: int = 0  # events that were read, or announced as lost
    cursor: str | None = None  # of the last entry that had something of it
    fields: dict[Any, tuple[int, int]] = {}


class Hole(NamedTuple):
    """``lost`` events are missing behind the entry at cursor ``after``."""

    after: str
    lost: int


class Deduplicator:
    """Gives each event once to a reader that reads a log from one position on.

    With ``position`` it gives the later events of that run only. If that is the position after a
    token, its ``offset`` is needed to cut a merged token of which ``seq`` is not the last part.
    """

    def __init__(self, position: Position | None = None) -> None:
        self._runs: LRU[str, _RunProgress] = LRU()
        self._writers: LRU[tuple[str, str | None], int] = LRU()
        self._position = position
        self._resuming = False  # the reader's last event has not been found yet
        self._reaches_back = False  # the log has some event that the reader has had
        self.hole: Hole | None = None
        """What is missing before the events that were read last."""
        self._run = _RunProgress()
        """The run of ``position``."""
        if position is not None:
            run_id, seq, offset = position
            run = _RunProgress(seq, offset, last=seq, accounted=seq + 1, cursor="beginning")
            self._run = self._runs.put(run_id, run)
            self._resuming = seq >= 0

    @property
    def ended(self) -> bool:
        """Whether the last event of the run of ``position`` has been read, now or before."""
        return self._run.ended

    def close(self, run_id: str) -> None:
        """The run counts as ended: nothing of it is new any more."""
        run = self._runs.latest(run_id) or self._runs.put(run_id, _RunProgress())
        run.ended = True

    def read(
        self, entry: DecodedEntry, cursor: str | None = None, border: str | None = None
    ) -> list[Event]:
        """The events of the entry that are new.

        ``cursor`` is the entry's, and ``border`` the last one of the batch before: with these,
        ``hole`` is set where something is missing before the entry.
        """
        self.hole = None
        writer, _, number = (entry.id or "").rpartition(":")
        if writer and number.isdecimal() and entry.events:
            key = (writer, entry.events[0].run_id)
            if int(number) <= (self._writers.latest(key) or 0):
                return []
            self._writers.put(key, int(number))
        events = self.fresh(entry.events)
        if cursor is not None and events:
            self._account(events, cursor, border)
        return events

    def _account(self, events: list[Event], cursor: str, border: str | None) -> None:
        """Count an entry's new events, and see what is missing before them."""
        run = self._runs.get(events[0].identity.run_id or "")
        if run is None:  # outside any run
            return
        first, after = events[0].seq, run.cursor or border
        if first is not None and first > run.accounted and after is not None:
            self.hole = Hole(after, first - run.accounted)
        last = events[-1]
        reached = 0 if last.seq is None else position(last).seq + 1  # past the writer's own holes
        run.accounted = max(run.accounted + original_count(events), reached)
        run.cursor = cursor

    def fresh(self, events: list[Event]) -> list[Event]:
        """Those of an entry's events that are new, if the entry itself is no duplicate."""
        if self._position is not None:
            events = [event for event in events if event.run_id == self._position.run_id]
        if self._resuming:
            events = self._after_resuming(events)
        return [new for event in events if (new := self._new_part(event)) is not None]

    def _after_resuming(self, events: list[Event]) -> list[Event]:
        """The events without the one that the reader had last, and without what precedes it."""
        run = self._run
        for number, event in enumerate(events, 1):
            if event.seq is None:
                continue
            if position(event) == self._position:
                # What the log has behind it is new, whatever its ``seq``: tokens that were merged
                # across calls reach further than others that follow them.
                self._resuming = False
                run.floor = run.last = event.seq
                run.ended = event.event_type in TERMINAL
                if isinstance(event, TokenEvent):
                    run.fields[_field_call(event)] = _end_of(event)
                return events[number:]
            if event.seq > run.floor:  # this log does not have that very event
                self._resuming = False
                lost = event.seq - run.floor - 1
                if lost and not self._reaches_back:
                    return [gap_before(event, lost), *events[number - 1 :]]
                break
            self._reaches_back = True
        return events

    def _new_part(self, event: Event) -> Event | None:
        """The event, or the part of it that is new; ``None`` for a duplicate."""
        run_id, seq = event.identity.run_id, event.seq
        if run_id is None or seq is None:  # outside any run, or a gap: only the entry's id tells
            return event
        run = self._runs.latest(run_id) or self._runs.put(run_id, _RunProgress())
        if run.ended:
            return None
        if isinstance(event, TokenEvent):
            return _new_part_of_token(run, event, seq)
        if event.event_type in TERMINAL:
            run.ended = True
            run.fields.clear()
        if seq <= run.last:
            return None
        run.last = seq
        if isinstance(event, FieldEnd):
            run.fields.pop(_field_call(event), None)
        return event


def gap_before(first: Event, lost: int) -> StreamGap:
    """What a reader gets where the log was trimmed before ``first`` could be read."""
    who = Identity(run_id=first.run_id)
    return StreamGap(
        timestamp=first.timestamp, identity=who, context=first.context, count=lost, reason=TRIMMED
    )


def _new_part_of_token(run: _RunProgress, token: TokenEvent, seq: int) -> TokenEvent | None:
    key = _field_call(token)
    known = run.fields.get(key)
    if known is None:
        known = (token.token_index, token.offset)
        if seq <= run.floor:
            had = run.floor - seq + 1
            if had >= token.count or run.last > run.floor:
                return None
            if run.offset is not None:  # else it is given whole: nobody knows where to cut
                if not token.offset <= run.offset <= token.offset + len(token.token):
                    return None  # the reader was in another call: this was merged across calls
                known = (token.token_index + had, run.offset)
        elif seq <= run.last:
            return None  # its field has ended
    index, offset = known
    had = index - token.token_index
    if had >= token.count:
        return None
    run.fields[key] = _end_of(token)
    if had <= 0:
        return token
    return msgspec.structs.replace(
        token,
        seq=seq + had,
        token=token.token[max(offset - token.offset, 0) :],
        token_index=index,
        offset=max(offset, token.offset),
        count=token.count - had,
    )


def _end_of(token: TokenEvent) -> tuple[int, int]:
    """How many tokens and characters of its field call have come with this token."""
    return token.token_index + token.count, token.offset + len(token.token)


def _field_call(event: TokenEvent | FieldEnd) -> tuple[Any, ...]:
    identity = event.identity
    return identity.call_id, identity.attempt, identity.candidate, event.field
