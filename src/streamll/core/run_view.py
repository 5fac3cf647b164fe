"""What a run has said so far: one fold over its events, for every reader that keeps state.

``RunView`` takes the events of a run one by one, in their order, and holds what they add up to:
the text and values of each field (corrections applied, superseded attempts gone), what is open,
the run's status, totals and last ``seq``. It may join in the middle of a run, and events may be
missing; then text and totals are those of the events it got.

A token costs one call and one ``list.append``. Memory: the text of the run; of its unfinished
calls with ``keep_ended=False``; none with ``keep_text=False``.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from streamll.core import events as ev
from streamll.core.errors import AmbiguousFieldError, UnknownFieldError
from streamll.core.events import CALLS, NOBODY, Event, Identity, TokenEvent, Totals
from streamll.core.ordering import Key, failure_of, key_of
from streamll.core.partials import PartialValue
from streamll.core.usage import Sums
from streamll.core.visitor import EventVisitor

RUNNING, ENDED, FAILED, CANCELLED = "running", "ended", "failed", "cancelled"
STATUS: Mapping[type[Event], str] = MappingProxyType(
    {ev.RunEnd: ENDED, ev.RunError: FAILED, ev.RunCancelled: CANCELLED}
)
"""A run's status by its last event."""

MANY = ("evaluate", "compile")
"""What makes very many calls."""

FieldKey = tuple[str | None, int, int, str]  # call, attempt, candidate, name
Owner = tuple[str | None, str]  # predictor and name of a field


class FieldView(msgspec.Struct, eq=False):
    """One field as one attempt of one call writes it. ``length`` is in characters."""

    identity: Identity
    name: str
    parts: list[str] = []
    length: int = 0
    has_text: bool = False  # a token or a correction has come, if only an empty one
    value: PartialValue | None = None  # with ``keep_values``

    @property
    def text(self) -> str:
        return "".join(self.parts)

    @property
    def owner(self) -> Owner:
        return self.identity.predictor, self.name


class RunView(EventVisitor):
    """The state of one run.

    Args:
        known: the program's output fields as ``(predictor, names)``; ``text`` of one of these
            is empty rather than an error before its first token.
        keep_text: keep the text of fields; without it only their ``length``.
        keep_ended: keep the fields of calls that have ended; without it only unfinished ones.
        keep_values: keep the value of typed fields as well (``FieldView.value``).
    """

    def __init__(
        self,
        known: Iterable[tuple[str, Iterable[str]]] = (),
        *,
        keep_text: bool = True,
        keep_ended: bool = True,
        keep_values: bool = False,
    ) -> None:
        self.run_id: str | None = None
        self.program: str | None = None
        self.started_at: float | None = None
        self.first_token_at: float | None = None
        self.end: Totals | None = None
        """The run's last event: ``RunEnd``, ``RunError`` or ``RunCancelled``."""
        self.fields: dict[FieldKey, FieldView] = {}
        """In the order in which they began, without those of superseded attempts."""
        self.open: dict[Key, Event] = {}
        """What is under way: the events that opened it, by ``key_of``, outermost first."""
        self.token_count = 0
        """Tokens with text, superseded attempts included."""
        self.retries = 0
        """Attempts that were superseded."""
        self.lost = 0
        """Events that ``stream.gap`` reported as lost."""
        self._many: set[str | None] = set()
        self._known = {(predictor, name) for predictor, names in known for name in names}
        self._keeps_text = keep_text
        self._keeps_ended = keep_ended
        self._keeps_values = keep_values
        self._unfinished: dict[str | None, list[FieldView]] = {}  # fields of calls under way
        self._superseded: dict[Owner, str] = {}  # texts that nothing has replaced yet
        self._current = NO_FIELD  # the field of the last token
        self._last: Event | None = None
        self._usage = Sums()
        self._generated = 0  # completion tokens of streamed calls …
        self._generating_s = 0.0  # … and the time from their first token to their end

    # --- events in ------------------------------------------------------------------------------

    def feed(self, event: Event) -> Event:
        """Take the next event of the run, and return it, so that it can be passed on."""
        if type(event) is TokenEvent:
            field = self._current
            if event.identity is not field.identity or event.field != field.name:
                field = self._begin_text(event, event.field)
            if event.token:
                self.token_count += event.count
                field.length += len(event.token)
                if self._keeps_text:
                    field.parts.append(event.token)
            self._last = event
        else:
            self._feed_other(event)
        return event

    def _feed_other(self, event: Event) -> None:
        if event.seq is not None:
            self._last = event
        if self.started_at is None:
            self.started_at = event.timestamp
        self.visit(event)
        if event.opens and event.opens != "run":
            self.open[key_of(event, event.opens)] = event
            if event.opens in CALLS and self._is_inside_many(event.parent_call_id):
                self._many.add(event.call_id)
        elif event.closes:
            self.open.pop(key_of(event, event.closes), None)
            if event.closes in CALLS:
                self._end_call(event.call_id)

    def _begin_text(self, event: Event, name: str) -> FieldView:
        if self.started_at is None:
            self.started_at = event.timestamp
        if self.first_token_at is None:
            self.first_token_at = event.timestamp
        self._current = field = self._begin(event, name)
        field.has_text = True
        self._superseded.pop(field.owner, None)
        return field

    def _begin(self, event: Event, name: str) -> FieldView:
        field = self.field(event, name)
        if field is None:
            field = FieldView(event.identity, name)
            self.fields[event.call_id, event.attempt, event.candidate, name] = field
            self._unfinished.setdefault(event.call_id, []).append(field)
        return field

    def _end_call(self, call_id: str | None) -> None:
        for field in self._unfinished.pop(call_id, ()):
            if not self._keeps_ended:
                self._forget(field)

    def _forget(self, field: FieldView) -> None:
        who = field.identity
        self.fields.pop((who.call_id, who.attempt, who.candidate, field.name), None)
        self._current = NO_FIELD

    def is_one_of_many(self, event: Event) -> bool:
        """Whether its call was made by an evaluation or optimizer, as very many are."""
        return event.call_id in self._many

    def _is_inside_many(self, parent: str | None) -> bool:
        return parent in self._many or any((what, parent) in self.open for what in MANY)

    def on_run_start(self, event: ev.RunStart) -> None:
        self.run_id, self.program, self.started_at = event.run_id, event.program, event.timestamp

    def on_field_corrected(self, event: ev.FieldCorrected) -> None:
        field = self._begin(event, event.field)
        field.parts = [event.text] if self._keeps_text else []
        field.length = len(event.text)
        field.has_text = True

    def on_field_partial(self, event: ev.FieldPartial) -> None:
        if self._keeps_values:
            field = self._begin(event, event.field)
            if field.value is None:
                field.value = PartialValue()
            field.value.apply(event)

    def on_lm_superseded(self, event: ev.LMSuperseded) -> None:
        self.retries += 1
        fields = self._unfinished.get(event.call_id, [])
        for field in [each for each in fields if each.identity.attempt == event.attempt]:
            fields.remove(field)
            self._forget(field)
            if field.parts and not field.identity.candidate:
                self._superseded[field.owner] = field.text

    def on_lm_end(self, event: ev.LMEnd) -> None:
        self._usage.add_call(event)
        if event.attempt:  # the times are of the last attempt, the tokens of all
            return
        if event.streamed and event.time_to_first_token is not None and event.completion_tokens:
            self._generated += event.completion_tokens
            if (per_chunk := event.time_per_output_chunk) is not None:
                self._generating_s += per_chunk * (event.chunks - 1)
            else:
                self._generating_s += max(0.0, event.duration - event.time_to_first_token)

    def on_stream_gap(self, event: ev.StreamGap) -> None:
        self.lost += event.count

    def on_run_end(self, event: Totals) -> None:
        self.end = event

    on_run_error = on_run_cancelled = on_run_end

    # --- the run --------------------------------------------------------------------------------

    @property
    def seq(self) -> int:
        """The last sequence number so far, a merged token's last one included; -1 before any."""
        last = self._last
        if last is None or last.seq is None:
            return -1
        return last.seq + last.count - 1 if isinstance(last, TokenEvent) else last.seq

    @property
    def latest_at(self) -> float | None:
        """When the last event was created, in seconds since the epoch."""
        return None if self._last is None else self._last.timestamp

    @property
    def status(self) -> str:
        """``"running"``, ``"ended"``, ``"failed"`` or ``"cancelled"``."""
        return RUNNING if self.end is None else STATUS[type(self.end)]

    @property
    def totals(self) -> Totals:
        """What the run has used: as its last event reports it, until then as far as is known."""
        if self.end is not None:
            return self.end
        started, first = self.started_at or 0.0, self.first_token_at
        return Totals(
            duration=max(0.0, (self.latest_at or started) - started),
            time_to_first_token=None if first is None else max(0.0, first - started),
            **self._usage.of_run(),
        )

    def used(self, more: Iterable[Event] = ()) -> dict[str, Any]:
        """Tokens, calls and cost so far, as in ``Totals``; ``more`` events end further LM calls."""
        usage = copy.deepcopy(self._usage)
        for event in more:
            if isinstance(event, ev.LMEnd):
                usage.add_call(event)
        return usage.of_run()

    @property
    def tokens_per_second(self) -> float | None:
        """The rate at which the streamed LM calls generated; ``None`` if no usage is known."""
        if self._generated > 1 and self._generating_s > 0:
            return self._generated / self._generating_s
        return None

    # --- text -----------------------------------------------------------------------------------

    def text(self, field: str) -> str:
        """The text of ``field`` so far; ``"predictor.field"`` if several predictors have it.

        The texts of several calls of a predictor are joined in the order in which they began.

        Raises:
            AmbiguousFieldError: several predictors have the field; the message lists them.
            UnknownFieldError: no predictor has it.
        """
        seen = {each.owner for each in self._with_text()} | self._known
        owners = [owner for owner in seen if field in (owner[1], qualified(*owner))]
        if len(owners) == 1:
            return "".join(each.text for each in self._with_text() if each.owner == owners[0])
        names = ", ".join(sorted(qualified(*owner) for owner in owners or seen))
        if not owners:
            raise UnknownFieldError(f"no output field {field!r}; there are: {names or 'none yet'}")
        raise AmbiguousFieldError(
            f"several predictors have a field {field!r}; ask for one of: {names}"
        )

    def field(self, event: Event, name: str) -> FieldView | None:
        """The field of this name in the call and attempt that ``event`` belongs to."""
        return self.fields.get((event.call_id, event.attempt, event.candidate, name))

    def texts(self) -> dict[Owner, str]:
        """All texts so far by predictor and field, in the order in which they began."""
        joined: dict[Owner, str] = {}
        for field in self._with_text():
            joined[field.owner] = joined.get(field.owner, "") + field.text
        return joined

    def named_texts(self) -> dict[str, str]:
        """``texts`` by ``"predictor.field"``."""
        return named(self.texts())

    def last_texts(self) -> dict[Owner, str]:
        """What a reader of a failed run saw last: ``texts`` and superseded ones without another."""
        texts = self.texts()
        for owner, text in self._superseded.items():
            texts[owner] = texts.get(owner, "") + text
        return texts

    def whole_text(self) -> str:
        """The text of all fields and calls, in the order in which they began."""
        return "".join(field.text for field in self._with_text())

    def partial_texts(self) -> dict[str, str]:
        """The texts of calls that have not ended, by ``"predictor.field"``."""
        return {
            qualified(*field.owner): field.text
            for fields in self._unfinished.values()
            for field in fields
            if field.has_text and not field.identity.candidate
        }

    def _with_text(self) -> Iterable[FieldView]:
        """Of several completions the first."""
        return (f for f in self.fields.values() if f.has_text and not f.identity.candidate)


RUN_LOST = "RunLost"
"""``error_type`` of a run whose process is gone."""
RUN_GONE = "the process that ran it is gone"
ALIVE = "server.alive"
"""Type of the message by which a process reports in a log that ``data["runs"]`` are under way."""

MESSAGES = "server."
"""How the types of messages between processes begin, which are for no reader."""

NO_FIELD = FieldView(NOBODY, "")


def qualified(predictor: str | None, field: str) -> str:
    """``"predictor.field"``; outside any predictor just ``"field"``."""
    return f"{predictor}.{field}" if predictor else field


def named(texts: Mapping[Owner, str]) -> dict[str, str]:
    """Texts by ``"predictor.field"``."""
    return {qualified(*owner): text for owner, text in texts.items()}


def is_message(event: Event) -> bool:
    """Whether it is one process's word to the others, outside any run."""
    return event.identity.run_id is None and event.event_type.startswith(MESSAGES)


def silence_notice(run_id: str, lost_s: float) -> Event:
    """What readers of a run are told whose process is silent. It is in no log and has no ``seq``."""
    message = f"the process of this run is silent; after {lost_s:.0f} s it counts as lost"
    return ev.Status(message=message, timestamp=time.time(), identity=Identity(run_id=run_id))


def closing_events(
    view: RunView, run_id: str, now: float, error_type: str, message: str
) -> list[Event]:
    """The events by which a run ends whose process is gone; ``run.error`` is the last one.

    They close what is open, innermost first: fields with the text they have, calls as failed.

    Args:
        view: the run so far. ``RunView(keep_ended=False)`` keeps what is needed here.
        run_id: the run, whose first event may be missing in ``view``.
        now: the events' timestamp.
        error_type, message: how the run failed.
    """
    events: list[Event] = []

    def add(kind: type[Event], who: Identity, /, **own: Any) -> None:
        seq = view.seq + 1 + len(events)
        events.append(kind(seq=seq, timestamp=now, identity=who, **own))

    for opened in reversed(view.open.values()):
        field = view.field(opened, opened.field) if isinstance(opened, ev.FieldStart) else None
        facts = {name: getattr(opened, name) for name in ev.own_fields(type(opened))} | {
            "length": field.length if field else 0,
            "complete": False,
            "duration": max(0.0, (view.latest_at or opened.timestamp) - opened.timestamp),
            "waited": max(0.0, now - opened.timestamp),
            "outcome": "withdrawn",
            "error_type": error_type,
            "message": "still running when its process was lost",
        }
        kind, own = failure_of(opened.opens, **facts)
        add(kind, opened.identity, **own)
    failed = {"error_type": error_type, "message": message, "partial": view.partial_texts()}
    totals = {name: getattr(view.totals, name) for name in ev.own_fields(ev.Totals)}
    add(ev.RunError, Identity(run_id=run_id), **failed, **totals | view.used(events))
    return events
