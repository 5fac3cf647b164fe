"""The legal order of a run's events, derived from the event classes.

``OrderCheck`` reads events of any number of runs and raises
``OutOfOrder`` at the first that no run can produce, naming the event and the rule:

* ``run.start`` comes first; exactly one of ``run.end``, ``run.error``, ``run.cancelled`` last;
* ``seq`` is contiguous from 0; a merged token counts for the tokens it replaces, a
  ``stream.gap`` for the events it reports as lost;
* what a class ``opens`` is closed exactly once, by a class that ``closes`` it: fields before
  their call, everything before the run's last event (a straggling call may outlive its parent);
* a class with ``inside`` only comes while that is open; calls of one run may interleave;
* tokens of a field are contiguous in ``token_index`` and ``offset``; ``field.end`` has their
  total ``length``; ``field.corrected`` follows it, at most once; a ``field.partial`` comes
  after its ``field.start``, the last one (the program's own value) after ``field.end``;
* after ``lm.superseded`` the call's fields start again, as the next ``attempt``.

Nothing here knows locks or clocks. Events outside any run are not checked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from streamll.core.errors import OutOfOrder
from streamll.core.events import CALLS, KINDS, Event, TokenEvent, own_fields
from streamll.core.visitor import EventVisitor

FAILURES: Mapping[str, type[Event]] = MappingProxyType(
    {
        kind.closes: kind
        for kind in KINDS.values()
        if kind.closes and {"error_type", "complete", "outcome"} & {*kind.__struct_fields__}
    }
)
"""What was opened → the kind that closes it as failed."""


def failure_of(what: str, /, **known: Any) -> tuple[type[Event], dict[str, Any]]:
    """The kind of event that closes ``what`` as failed, and those of the known facts it has."""
    kind = FAILURES[what]
    return kind, {name: known[name] for name in own_fields(kind) if name in known}


Key = tuple[str, Any]


class OrderCheck:
    """Checks events of any number of runs, one at a time, in the order a reader got them.

    ``holes=True`` is for a reader that sees part of a run (a filter, an inner sink): sequence
    numbers need only rise, and the run's first and last event may be missing.
    """

    def __init__(self, *, holes: bool = False) -> None:
        self._holes = holes
        self._runs: dict[str, _RunOrder] = {}

    def check(self, event: Event) -> None:
        """Check the next event; raise ``OutOfOrder`` if it cannot follow those before it."""
        run_id = event.run_id
        if event.event_type == "stream.gap":
            for run in self._runs.values() if run_id is None else [self._run(run_id)]:
                run.lose(event)
        elif run_id is None:
            if event.seq is not None:
                raise _error(event, "an event outside any run has no seq")
        else:
            self._run(run_id).check(event)

    def check_all(self, events: Iterable[Event]) -> None:
        """Check all of ``events``, and that their runs have ended."""
        for event in events:
            self.check(event)
        self.finish()

    def finish(self) -> None:
        """There are no more events; raises ``OutOfOrder`` if a run has not ended."""
        for run_id, run in self._runs.items():
            if not (run.ended or self._holes):
                raise OutOfOrder(f"run {run_id}: its last event is missing (run.end, run.error…)")

    def _run(self, run_id: str) -> _RunOrder:
        if run_id not in self._runs:
            self._runs[run_id] = _RunOrder(holes=self._holes)
        return self._runs[run_id]


class _OpenField(msgspec.Struct):
    """Tokens and characters of an open field so far."""

    tokens: int = 0
    length: int = 0


class _CallOrder(msgspec.Struct):
    """What must be known of a call: its attempt and the fields that have ended."""

    attempt: int = 0
    ended: set[tuple[int, int, str]] = set()
    corrected: set[tuple[int, int, str]] = set()


class _RunOrder(EventVisitor):
    """The state of one run: what is open, and how many of its events are accounted for."""

    def __init__(self, *, holes: bool) -> None:
        self.ended = False
        self._holes = holes
        self._lossy = holes
        self._last = -1
        self._accounted = 0
        self._open: dict[Key, _OpenField | None] = {}
        self._calls: dict[str | None, _CallOrder] = {}

    def lose(self, gap: Event) -> None:
        self._accounted += gap.data["count"]
        self._lossy = True

    def check(self, event: Event) -> None:
        _require(not self.ended, event, "nothing follows a run's last event")
        self._check_seq(event)
        if event.inside not in ("", "run"):
            self._check_inside(event)
        if event.closes == "run":
            self._end(event)
        elif event.closes:
            self._close(event)
        elif event.opens and event.opens != "run":
            self._begin(event)
        self.visit(event)  # what holds for its kind alone

    def _check_seq(self, event: Event) -> None:
        seq, is_start = event.seq, event.event_type == "run.start"
        if seq is None:
            raise _error(event, "every event of a run has a seq")
        _require(not is_start or self._last < 0, event, "run.start comes first and once")
        _require(is_start or self._last >= 0 or self._lossy, event, "run.start comes first")
        _require(seq > self._last, event, f"seq rises; the last was {self._last}")
        rule = (
            f"seq is contiguous and {self._accounted} is missing; losses are reported by stream.gap"
        )
        _require(self._holes or seq <= self._accounted, event, rule)
        self._last = seq
        self._accounted += event.count if isinstance(event, TokenEvent) else 1

    def _check_inside(self, event: Event) -> None:
        if event.inside == "field":
            is_open = key_of(event, "field") in self._open
        else:
            call_id = event.call_id
            kinds = CALLS if event.inside == "call" else (event.inside,)
            is_open = call_id is None or any((kind, call_id) in self._open for kind in kinds)
        _require(self._holes or is_open, event, f"comes only inside its open {event.inside}")
        attempt = self._call(event).attempt
        as_said = self._holes or event.attempt == attempt
        _require(as_said, event, f"the call is at attempt {attempt}, as lm.superseded says")

    def _begin(self, event: Event) -> None:
        key = key_of(event, event.opens)
        _require(key not in self._open, event, f"this {event.opens} is open already")
        is_field = event.opens == "field"
        if is_field:
            is_first = _field_key(event) not in self._call(event).ended
            _require(is_first, event, "a field is streamed once per attempt")
        self._open[key] = _OpenField() if is_field else None

    def _close(self, event: Event) -> None:
        key = key_of(event, event.closes)
        if self._holes and key not in self._open:
            return
        _require(key in self._open, event, f"this {event.closes} is not open")
        if event.closes in CALLS:
            self._check_fields_closed(event)
            self._calls.pop(event.call_id, None)
        field = self._open.pop(key)
        if field is not None:
            length, streamed = event.data["length"], field.length
            is_whole = length == streamed or (self._lossy and length > streamed)
            _require(is_whole, event, f"length {length}, but {streamed} characters were streamed")
            self._call(event).ended.add(_field_key(event))

    def _check_fields_closed(self, event: Event) -> None:
        for what, key in self._open:
            if what == "field" and key[0] == event.call_id:
                raise _error(event, f"field {key[-1]!r} of this call is still open")

    def _end(self, event: Event) -> None:
        for what, key in self._open:
            name = key[-1] if isinstance(key, tuple) else key
            raise _error(event, f"{what} {name!r} is still open")
        self.ended = True

    def _call(self, event: Event) -> _CallOrder:
        return self._calls.setdefault(event.call_id, _CallOrder())

    # --- rules of single kinds --------------------------------------------------------------------

    def on_token(self, event: TokenEvent) -> None:
        field = self._open.get(key_of(event, "field"))
        if field is None:
            return
        found, expected = (event.token_index, event.offset), (field.tokens, field.length)
        rule = f"token_index and offset are contiguous: {expected} expected, {found} found"
        _require(found == expected or (self._lossy and found >= expected), event, rule)
        field.tokens = event.token_index + event.count
        field.length = event.offset + len(event.token)

    def on_field_partial(self, event: Event) -> None:
        begun = key_of(event, "field") in self._open or _field_key(event) in self._call(event).ended
        _require(self._holes or begun, event, "comes only after the field's start")

    def on_field_corrected(self, event: Event) -> None:
        call, key = self._call(event), _field_key(event)
        _require(self._holes or key in call.ended, event, "comes only after the field's end")
        _require(key not in call.corrected, event, "a field is corrected at most once")
        call.corrected.add(key)

    def on_lm_superseded(self, event: Event) -> None:
        self._check_fields_closed(event)
        self._call(event).attempt = event.attempt + 1


def key_of(event: Event, what: str) -> Key:
    """Identifies one open thing: ``what`` it is and its id."""
    if what in ("trace", "question"):
        return what, event.data[f"{what}_id"]
    if what == "field":
        return what, (event.call_id, *_field_key(event))
    return what, event.call_id


def _field_key(event: Event) -> tuple[int, int, str]:
    return event.candidate, event.attempt, event.data["field"]


def _require(holds: bool, event: Event, rule: str) -> None:
    if not holds:
        raise _error(event, rule)


def _error(event: Event, rule: str) -> OutOfOrder:
    call = f" of call {event.call_id}" if event.call_id else ""
    return OutOfOrder(f"{event.event_type} (seq {event.seq}{call}): {rule}")
