"""Events under the guards of their scope: each comes in as it happens, those come out that may leave.

``Rewriting`` finds what an event's text belongs to and hands it on: to the text of a field or of the
model (``texts``), or, for all that is not a piece of something, to a ``ValueGuard``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from streamll.core import events as ev
from streamll.core.events import Event, Identity
from streamll.guards.numbering import Place
from streamll.guards.rules import Guard
from streamll.guards.scopes import ScopeGuards
from streamll.guards.text import ExactRules, Form, Rules
from streamll.guards.texts import FieldText, LooseText, notice
from streamll.guards.values import ValueGuard


class Rewriting:
    """Events in, events out: without what the guards of their scope forbid. Nothing of it waits."""

    def __init__(self, rules: Callable[[tuple[Guard, ...]], Rules] = ExactRules) -> None:
        self._rules = rules
        self._scopes: dict[int, ScopeGuards] = {}
        self._fields: dict[str | None, dict[Place, FieldText]] = {}  # by call
        self._loose: dict[str | None, dict[tuple[int, int, str, int], LooseText]] = {}
        self._field: tuple[Identity, str, FieldText | None] | None = None  # of the last token

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
            text = self._text_of(event)
            return [event] if text is None else text.token(event)
        if kind in (ev.FieldPartial, ev.FieldEnd, ev.FieldCorrected):
            return self._of_field(event, scope)
        if kind in (ev.Thinking, ev.Refusal, ev.ToolCallDelta):
            return self._of_model(event, scope)
        if kind is ev.LMSuperseded:
            self._forget(event, event.attempt)
        elif event.closes in ev.CALLS:
            self._forget(event)
        return self._whole(event, scope)

    def _text_of(self, event: Any) -> FieldText | None:
        last = self._field
        if last is not None and last[0] is event.identity and last[1] == event.field:
            return last[2]
        fields = self._fields.get(event.call_id, {})
        text = fields.get((event.attempt, event.candidate, event.field))
        self._field = event.identity, event.field, text
        return text

    def _of_field(self, event: Any, scope: ScopeGuards) -> list[Event]:
        text = self._text_of(event)
        if text is None:
            return [event]
        if isinstance(event, ev.FieldPartial):
            return text.partial(event)
        return text.end(event) if isinstance(event, ev.FieldEnd) else text.corrected(event)

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
        self._field = None

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
