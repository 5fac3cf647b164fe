"""Events under the guards of their scope: each comes in as it happens, those come out that may leave.

``Rewriting`` finds what an event's text belongs to and hands it on: to the text of a field or of the
model (``texts``), or, for all that is not a piece of something, to a ``ValueGuard``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from msgspec.structs import replace

from streamll.core import events as ev
from streamll.core.events import Event, Identity
from streamll.guards.numbering import FieldCount, Numbering, Place
from streamll.guards.rules import Guard
from streamll.guards.scopes import ScopeGuards
from streamll.guards.text import ExactRules, Form, Rules
from streamll.guards.texts import FieldText, LooseText, Pieces, notice
from streamll.guards.values import ValueGuard


class OpenField(NamedTuple):
    """A field whose tokens come now, for the short way of ``Guarding.release``."""

    identity: Identity  # kept, since it is known by its id
    scope: ScopeGuards
    tokens: Pieces
    counted: FieldCount


class Rewriting:
    """Events in, events out: without what the guards of their scope forbid. Nothing of it waits.

    With the ``numbers`` of what leaves, fields are found in ``open`` whose tokens may take the short way.
    """

    def __init__(
        self,
        rules: Callable[[tuple[Guard, ...]], Rules] = ExactRules,
        numbers: Numbering | None = None,
    ) -> None:
        self.open: dict[tuple[int, str], OpenField] = {}  # by identity's id and name
        self._rules = rules
        self._numbers = numbers
        self._scopes: dict[int, ScopeGuards] = {}
        self._fields: dict[str | None, dict[Place, FieldText]] = {}  # by call
        self._loose: dict[str | None, dict[tuple[int, int, str, int], LooseText]] = {}

    def begin_field(
        self, identity: Identity, field: str, form: Form, guards: tuple[Guard, ...]
    ) -> None:
        """A field is about to start, whose tokens are written in this form."""
        rules = self._of(guards).of_field(identity.predictor, field)
        if rules is not None:
            place = (identity.attempt, identity.candidate, field)
            text = FieldText(rules, field, form)
            self._fields.setdefault(identity.call_id, {})[place] = text

    def finish_texts(self, identity: Identity, timestamp: float) -> list[Event]:
        """What comes out as this attempt's texts end that belong to no field."""
        texts = self._loose.get(identity.call_id, {})
        ended = [key for key in texts if key[0] == identity.attempt]
        return [event for key in ended for event in texts.pop(key).finish(timestamp)]

    # --- by kind ------------------------------------------------------------------------------------

    def guarded(self, event: Event, guards: tuple[Guard, ...]) -> list[Event]:
        """What comes out for this event."""
        scope = self._of(guards)
        context, hits = scope.context(event.context)
        found: list[Event] = []
        if context is not event.context:
            event = replace(event, context=context)
            found = [notice(event, guard) for guard in hits]
        return self._around(event, found, self._by_kind(event, scope))

    def _by_kind(self, event: Any, scope: ScopeGuards) -> list[Event]:
        kind = type(event)
        if kind is ev.TokenEvent:
            return self._token(event, scope)
        if kind in (ev.FieldPartial, ev.FieldEnd, ev.FieldCorrected):
            return self._of_field(event)
        if kind in (ev.Thinking, ev.Refusal, ev.ToolCallDelta):
            return self._of_model(event, scope)
        if kind is ev.LMSuperseded:
            self._forget(event, event.attempt)
        elif event.closes in ev.CALLS:
            self._forget(event)
        return self._whole(event, scope)

    def _token(self, event: ev.TokenEvent, scope: ScopeGuards) -> list[Event]:
        text = self._text_of(event)
        if text is None:
            return [event]
        events = text.token(event)
        count = None if self._numbers is None else self._numbers.count(event.identity, event.field)
        if text.is_open and count is not None:
            known = OpenField(event.identity, scope, text.tokens, count)
            self.open[id(event.identity), event.field] = known
        return events

    def _text_of(self, event: Any) -> FieldText | None:
        fields = self._fields.get(event.call_id, {})
        return fields.get((event.attempt, event.candidate, event.field))

    def _of_field(self, event: Any) -> list[Event]:
        text = self._text_of(event)
        if text is None:
            return [event]
        if isinstance(event, ev.FieldPartial):
            events = text.partial(event)
        else:
            events = text.end(event) if isinstance(event, ev.FieldEnd) else text.corrected(event)
        if not text.is_open:
            self.open.pop((id(event.identity), event.field), None)
        return events

    def _of_model(self, event: Any, scope: ScopeGuards) -> list[Event]:
        if scope.everything is None:
            return [event]
        index = 0
        found: list[Event] = []
        if isinstance(event, ev.ToolCallDelta):
            index = event.index
            names = ValueGuard(scope.everything)
            event = replace(event, name=event.name and names.key(event.name))
            found = [notice(event, guard) for guard in names.hits]
        texts = self._loose.setdefault(event.call_id, {})
        key = (event.attempt, event.candidate, event.event_type, index)
        if key not in texts:
            texts[key] = LooseText(scope.everything, event)
        return [*found, *texts[key].feed(event)]

    def _forget(self, event: Event, attempt: int | None = None) -> None:
        """The call, or one attempt of it, is over: what is held of its texts goes with it."""
        if attempt is None:
            self._fields.pop(event.call_id, None)
            self._loose.pop(event.call_id, None)
        texts = self._loose.get(event.call_id, {})
        for key in [key for key in texts if key[0] == attempt]:
            del texts[key]

    def _whole(self, event: Event, scope: ScopeGuards) -> list[Event]:
        """An event whose content is all there."""
        guarded, hits = scope.contents(event)
        found: list[Event] = [notice(event, guard) for guard in hits]
        return self._around(guarded, found, [guarded])

    def _around(self, event: Event, found: list[Event], events: list[Event]) -> list[Event]:
        """What was found in ``event`` is told before it; where it opens something, after it."""
        if not found:
            return events
        return [*events, *found] if event.opens else [*found, *events]

    def _of(self, guards: tuple[Guard, ...]) -> ScopeGuards:
        scope = self._scopes.get(id(guards))
        if scope is None:
            scope = self._scopes[id(guards)] = ScopeGuards(guards, self._rules)
        return scope
