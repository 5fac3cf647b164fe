"""The events of one run under its checks: each comes in as it happens, and out once its text is judged.

As an event comes in, checks are asked about its texts, and it gets its place in the order (``lanes``).
Once all verdicts are known it passes the same ``Rewriting`` as under other guards, whose rules are now
these verdicts. Of a text in pieces (tokens, thinking, the growing text of a value) whole parts come
out, so that a piece may come out as several or together with others.

The raw text of a value in JSON is asked about when all of it is there, by the texts in it.

The run calls all of this under its lock.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from streamll.core import events as ev
from streamll.core.errors import logger
from streamll.core.events import CALLS, Event, Identity
from streamll.core.parsing.values.builder import COMPLETE, PARTIAL, Pointer
from streamll.guards.checked import CheckedText, Part
from streamll.guards.checks import Inquiries, Inquiry
from streamll.guards.lanes import Lanes, Waiting
from streamll.guards.numbering import Place
from streamll.guards.rewriting import Rewriting
from streamll.guards.rules import Check
from streamll.guards.scopes import MAX_CONTEXTS, SERVERS_OWN, ScopeGuards, is_about
from streamll.guards.text import Form
from streamll.guards.values import ValueGuard
from streamll.guards.verdicts import Asking, Judging, Piece, Source, Verdicts, WrittenValue

Leaving = tuple[Event, Any]
"""An event, and the scope whose receivers get it."""


class _Field:
    """A field of one attempt, as its text comes in."""

    def __init__(self, checks: tuple[Check, ...], inquiries: Inquiries, form: Form) -> None:
        self._checks = checks
        self._inquiries = inquiries
        self.form = form
        self.text: Source = self._begin(form)
        self.last: ev.TokenEvent | None = None
        self.leaf: tuple[Pointer, Source] | None = None  # the text of a value that is open

    def _begin(self, form: Form) -> Source:
        if form == "json":
            return WrittenValue(self._checks, self._inquiries)
        return CheckedText(self._checks, self._inquiries)

    def grow(self, event: ev.FieldPartial) -> Source:
        """The text of a value that this event begins, or goes on with."""
        if not event.append or self.leaf is None or self.leaf[0] != event.pointer:
            self.leaf = (event.pointer, self._begin("plain"))
        return self.leaf[1]


def _ends_text(event: Event) -> bool:
    """Whether all of a field's text has come."""
    if isinstance(event, ev.TokenEvent):
        return event.finish_reason is not None
    return isinstance(event, ev.FieldEnd) and event.complete


LooseKey = tuple[int, int, str, int]


class Checking:
    """The checks of one run. ``released`` is called when something has left by a verdict."""

    def __init__(
        self,
        inquiries: Inquiries,
        released: Callable[[], None] = lambda: None,
        parent_of: Callable[[str], str | None] = lambda _: None,
    ) -> None:
        self.inquiries = inquiries
        self._tell = released
        self._parent_of = parent_of
        self._lanes = Lanes()
        self._out: list[Leaving] = []
        self._found: list[Inquiry] = []
        self._asking: dict[int, ScopeGuards] = {}
        self._contexts: dict[tuple[int, int], tuple[Any, list[Inquiry]]] = {}
        self._fields: dict[str | None, dict[Place, _Field]] = {}  # by call
        self._loose: dict[str | None, dict[LooseKey, tuple[Source, Event]]] = {}
        self._rewriting = Rewriting(functools.partial(Verdicts, inquiries))

    def take(self) -> list[Leaving]:
        """What has come out since this was called."""
        out, self._out = self._out, []
        return out

    def waits(self, scope: Any) -> bool:
        """Whether any event of this scope, or of one inside it, has not come out."""
        return any(thing.scope.is_within(scope) for thing in self._lanes)

    def judging(self, walk: Callable[[Any], Any]) -> Judging:
        """A value that is no event's, under checks."""
        return Judging(self.inquiries, walk)

    def abandon(self) -> None:
        """The run was left: all comes out at once, without what has no verdict."""
        self.inquiries.close()

    # --- what a call tells apart from its events ----------------------------------------------------

    def begin_field(
        self, identity: Identity, field: str, form: Form, checks: tuple[Check, ...]
    ) -> None:
        """A field is about to start, whose tokens are written in this form."""
        self._rewriting.begin_field(identity, field, form, checks)
        if ours := tuple(each for each in checks if is_about(each, identity.predictor, field)):
            place = (identity.attempt, identity.candidate, field)
            made = _Field(ours, self.inquiries, form)
            self._fields.setdefault(identity.call_id, {})[place] = made

    def finish_texts(
        self, identity: Identity, scope: Any, checks: tuple[Check, ...], timestamp: float
    ) -> None:
        """The reply of this attempt is complete."""
        texts = self._loose.get(identity.call_id, {})
        for key in [key for key in texts if key[0] == identity.attempt]:
            text, event = texts.pop(key)
            last = replace(event, timestamp=timestamp)
            if isinstance(last, ev.ToolCallDelta):
                last = replace(last, name=None)
            self._pieces(last, scope, checks, text, text.finish())

    # --- coming in ----------------------------------------------------------------------------------

    def put(self, event: Event, scope: Any, checks: tuple[Check, ...]) -> None:
        """The next event, under the checks of its scope."""
        self._locate(event)
        if checks:
            self._by_kind(event, scope, checks)
        else:
            self._add(event, scope, ())

    def _locate(self, event: Event) -> None:
        """Have it known which calls are around the event's."""
        call, around = event.call_id, event.parent_call_id
        while call is not None and not self._lanes.knows(call):
            self._lanes.is_inside(call, around)
            call, around = around, None if around is None else self._parent_of(around)

    def _by_kind(self, event: Any, scope: Any, checks: tuple[Check, ...]) -> None:
        kind = type(event)
        if kind is ev.Guarded:
            is_held = event.field is not None and self._field_of(event) is not None
            self._add(replace(event, offset=None) if is_held else event, scope, checks)
            return
        if kind in (ev.TokenEvent, ev.FieldPartial, ev.FieldEnd, ev.FieldCorrected):
            field = self._field_of(event)
            if field is None:
                self._add(event, scope, checks)
            else:
                self._of_field(event, scope, checks, field)
            return
        if kind in (ev.Thinking, ev.Refusal, ev.ToolCallDelta):
            self._of_model(event, scope, checks)
            return
        if kind is ev.LMSuperseded:
            self._forget(event, event.attempt)
        elif event.closes in CALLS:
            self._forget(event)
        self._of(checks).contents(event)
        self._add(event, scope, checks)

    def _field_of(self, event: Any) -> _Field | None:
        fields = self._fields.get(event.call_id, {})
        return fields.get((event.attempt, event.candidate, event.field))

    def _forget(self, event: Event, attempt: int | None = None) -> None:
        for places in (self._fields, self._loose):
            texts: dict[Any, Any] = places.get(event.call_id, {})
            for key in [key for key in texts if attempt in (None, key[0])]:
                del texts[key]

    def _of_field(self, event: Any, scope: Any, checks: tuple[Check, ...], field: _Field) -> None:
        if isinstance(event, ev.TokenEvent) and event.token:
            field.last = event
            self._pieces(event, scope, checks, field.text, field.text.feed(event.token))
            return
        rules = self._of(checks).of_field(event.predictor, event.field)
        assert rules is not None
        values = ValueGuard(rules)
        if _ends_text(event):
            self._finish_field(event, scope, checks, field)
        elif isinstance(event, ev.FieldPartial):
            for key in event.pointer:
                values.key(key) if type(key) is str else None
            if isinstance(event.value, str) and (event.append or event.state == PARTIAL):
                self._grow(event, scope, checks, field)
                return
            values.value(event.value)
        elif isinstance(event, ev.FieldCorrected):
            values.text(event.text, field.form)
            values.value(event.value)
        self._add(event, scope, checks)

    def _finish_field(
        self, event: Event, scope: Any, checks: tuple[Check, ...], field: _Field
    ) -> None:
        if field.last is not None:
            last, field.last = replace(field.last, timestamp=event.timestamp), None
            self._pieces(last, scope, checks, field.text, field.text.finish())

    def _grow(
        self, event: ev.FieldPartial, scope: Any, checks: tuple[Check, ...], field: _Field
    ) -> None:
        """A text in a value: empty at first, then part by part."""
        text = field.grow(event)
        parts = text.feed(event.value)
        more = replace(event, append=True, state=PARTIAL)
        if not event.append:
            self._add(replace(event, value="", state=PARTIAL), scope, checks)
        if event.state == COMPLETE:
            parts += text.finish()
            field.leaf = None
        self._pieces(more, scope, checks, text, parts)
        if event.state == COMPLETE:
            self._add(replace(event, value="", append=True), scope, checks)

    def _of_model(self, event: Any, scope: Any, checks: tuple[Check, ...]) -> None:
        everything = self._of(checks).everything
        if everything is None:
            self._add(event, scope, checks)
            return
        is_call = isinstance(event, ev.ToolCallDelta)
        if is_call and event.name:
            ValueGuard(everything).key(event.name)
            self._add(replace(event, arguments=""), scope, checks)
            event = replace(event, name=None)
        texts = self._loose.setdefault(event.call_id, {})
        key = (event.attempt, event.candidate, event.event_type, event.index if is_call else 0)
        if key in texts:
            text = texts[key][0]
        else:
            ours = tuple(check for check in checks if check.fields is None)
            text = (
                WrittenValue(ours, self.inquiries) if is_call else CheckedText(ours, self.inquiries)
            )
        texts[key] = text, event
        piece = event.arguments if is_call else event.text
        self._pieces(event, scope, checks, text, text.feed(piece))

    def _pieces(
        self,
        event: Any,
        scope: Any,
        checks: tuple[Check, ...],
        source: Source,
        parts: Iterable[Part],
    ) -> None:
        """The event once for each part of the text that it has a piece of."""
        attribute = _PIECES[type(event)]
        for part in parts:
            piece = Piece(part.text)
            piece.part, piece.source = part, source
            self._found += part.inquiries
            self._add(replace(event, **{attribute: piece}), scope, checks)

    def _add(self, event: Event, scope: Any, checks: tuple[Check, ...]) -> None:
        """The event comes out in its turn, once all that was asked for it has a verdict."""
        if checks:
            self._found += self._of_context(event.context, checks)
        asked, self._found[:] = list(dict.fromkeys(self._found)), []
        undecided = [inquiry for inquiry in asked if inquiry.verdict is None]
        begins = event.opens in CALLS or event.opens == "run"
        follows = (event.parent_call_id,) if type(event) is ev.LMEnd else ()  # with the text of it
        thing = Waiting(
            event.call_id, undecided=len(undecided), begins=begins, follows=follows, scope=scope
        )
        thing.go = lambda: self._go(event, thing, checks, asked)
        for inquiry in undecided:
            inquiry.then.append(lambda _: self._decided(thing))
        self._lanes.put(thing)

    def _of_context(self, context: Any, checks: tuple[Check, ...]) -> list[Inquiry]:
        """What was asked about a context, of which many events have the same."""
        if context is ev.NOTHING:
            return []
        place = (id(context), id(checks))
        known = self._contexts.get(place)
        if known is None:
            if len(self._contexts) >= MAX_CONTEXTS:
                self._contexts.clear()
            before, self._found[:] = list(self._found), []
            others = {name: v for name, v in context.items() if name not in SERVERS_OWN}
            self._of(checks).value(others)
            known = self._contexts[place] = context, list(self._found)
            self._found[:] = before
        return known[1]

    def _of(self, checks: tuple[Check, ...]) -> ScopeGuards:
        asking = self._asking.get(id(checks))
        if asking is None:
            rules = functools.partial(Asking, self.inquiries, self._found)
            asking = self._asking[id(checks)] = ScopeGuards(checks, rules)
        return asking

    # --- coming out ---------------------------------------------------------------------------------

    def _decided(self, thing: Waiting) -> None:
        self._lanes.decided(thing)
        if self._out:
            self._tell()

    def _go(
        self, event: Event, thing: Waiting, checks: tuple[Check, ...], asked: Sequence[Inquiry]
    ) -> None:
        if event.closes in CALLS:
            self._lanes.forget(event.call_id)
        if thing.has_waited:
            event = replace(event, timestamp=time.time())
        events = self._judged(event, checks, asked) if checks else [event]
        self._out += ((_plain(each), thing.scope) for each in events)

    def _judged(
        self, event: Event, checks: tuple[Check, ...], asked: Sequence[Inquiry]
    ) -> list[Event]:
        self.inquiries.keep(asked)
        try:
            return self._rewriting.guarded(event, checks)
        except Exception as error:  # noqa: BLE001 - on no account may what follows wait for ever
            text = "a %s event could not be judged (%s) and is withheld"
            logger.warning(text, event.event_type, type(error).__name__)
            return []


_PIECES: Mapping[Any, str] = {
    ev.TokenEvent: "token",
    ev.FieldPartial: "value",
    ev.Thinking: "text",
    ev.Refusal: "text",
    ev.ToolCallDelta: "arguments",
}
"""What an event calls its piece of a text."""


def _plain(event: Event) -> Event:
    """The event with a plain text for its piece."""
    attribute = _PIECES.get(type(event))
    if attribute is not None and isinstance(piece := getattr(event, attribute), Piece):
        return replace(event, **{attribute: str(piece)})
    return event
