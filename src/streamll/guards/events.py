"""The events of one run, guarded: each comes in as it happens, those that may leave come out.

``Guarding`` finds what an event's text belongs to and hands it on: to the text of a field or of the
model (``texts``), or, for all that is not a piece of something, to a ``ValueGuard``. Of what comes out
some waits for a verdict (``pending``); what leaves gets its numbers (``numbering``).

The run gives each event its ``seq`` when it has left, and calls all of this under its lock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from msgspec.structs import replace

from streamll.core import events as ev
from streamll.core.events import NOTHING, Event, Identity
from streamll.guards.numbering import FieldCount, Numbering, Place
from streamll.guards.pending import Hold, Leaving, Pending
from streamll.guards.rules import Guard
from streamll.guards.scopes import ScopeGuards
from streamll.guards.text import Form
from streamll.guards.texts import FieldText, LooseText, Pieces, notice
from streamll.guards.values import ValueGuard


class GuardedCall(Protocol):
    """The call that an event is of: a ``capture.run.scope.Scope``."""

    guards: tuple[Guard, ...]


class OpenField(NamedTuple):
    """A field whose tokens come now, for the short way of ``Guarding.release``."""

    identity: Identity  # kept, since it is known by its id
    scope: ScopeGuards
    tokens: Pieces
    counted: FieldCount


class Guarding:
    """Guards the events of one run."""

    def __init__(self) -> None:
        self.pending = Pending()
        self.stopped: ev.Guarded | None = None
        """What told readers that a guard whose action is ``"stop"`` has found something."""
        self._numbers = Numbering()
        self._scopes: dict[int, ScopeGuards] = {}
        self._fields: dict[str | None, dict[Place, FieldText]] = {}  # by call
        self._loose: dict[str | None, dict[tuple[int, int, str, int], LooseText]] = {}
        self._open: dict[tuple[int, str], OpenField] = {}  # by identity's id and name

    def feed(self, event: Event, scope: GuardedCall) -> list[Leaving]:
        """The events that leave because of this one, each with the scope whose receivers get it."""
        events = self._guarded(event, scope.guards) if scope.guards else [event]
        return self._pass_on(events, scope)

    def release(
        self, identity: Identity, field: str, token: str, context: Mapping[str, Any]
    ) -> tuple[str, int, int] | tuple[()] | None:
        """``feed`` for most tokens, before there is an event: what to make one of.

        Its text, index and offset; nothing, if all of the text is held back; ``None`` where there
        is more to say than a token can: then ``feed`` is to have an event with this very token.
        """
        known = self._open.get((id(identity), field))
        if known is None or self.pending.waiting:
            return None
        if context is not NOTHING and context is not known.scope.clean:
            return None
        tokens = known.tokens
        text = tokens.guard.feed(token)
        if tokens.guard.hits:
            tokens.fed = text
            return None
        if not text:
            return ()
        tokens.passed += len(text)
        return known.counted.add(text)

    def _pass_on(self, events: Sequence[Event], scope: GuardedCall) -> list[Leaving]:
        for event in events:
            if type(event) is ev.Guarded and event.action == "stop":
                self.stopped = self.stopped or event
        return self._numbered(
            [(event, scope) for event in events if self.pending.passes(event, scope)]
        )

    def _numbered(self, leaving: list[Leaving]) -> list[Leaving]:
        return [(self._numbers.number(event), scope) for event, scope in leaving]

    # --- what a call tells apart from its events ----------------------------------------------------

    def begin_field(
        self, identity: Identity, field: str, form: Form, guards: tuple[Guard, ...]
    ) -> None:
        """A field is about to start, whose tokens are written in this form."""
        self._numbers.begin(identity, field)
        rules = self._of(guards).of_field(identity.predictor, field)
        if rules is not None:
            place = (identity.attempt, identity.candidate, field)
            text = FieldText(rules, field, form)
            self._fields.setdefault(identity.call_id, {})[place] = text

    def finish_texts(
        self, identity: Identity, scope: GuardedCall, timestamp: float
    ) -> list[Leaving]:
        """The reply of this attempt is complete: what of it belongs to no field has ended."""
        texts = self._loose.get(identity.call_id, {})
        ended = [key for key in texts if key[0] == identity.attempt]
        events = [event for key in ended for event in texts.pop(key).finish(timestamp)]
        return self._pass_on(events, scope)

    def shown(self, identity: Identity, field: str) -> str | None:
        """What has left of the text of a field; ``None`` if no guard has seen it."""
        return self._numbers.shown(identity, field)

    def has_begun(self, identity: Identity) -> bool:
        """Whether any field of this attempt has begun."""
        return self._numbers.has_begun(identity)

    # --- verdicts that come later -------------------------------------------------------------------

    def settle(self, place: Hold, events: Sequence[Event]) -> list[Leaving]:
        """These events come in the ``place`` that ``pending`` has held; returns all that leave."""
        return self._numbered(self.pending.settle(place, events))

    def abandon(self) -> list[Leaving]:
        """The run ends: what waits leaves without a verdict, as was said when it was held."""
        return self._numbered(self.pending.abandon())

    # --- by kind ------------------------------------------------------------------------------------

    def _guarded(self, event: Event, guards: tuple[Guard, ...]) -> list[Event]:
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
        count = self._numbers.count(event.identity, event.field)
        if text.is_open and count is not None:
            known = OpenField(event.identity, scope, text.tokens, count)
            self._open[id(event.identity), event.field] = known
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
            self._open.pop((id(event.identity), event.field), None)
        return events

    def _of_model(self, event: Any, scope: ScopeGuards) -> list[Event]:
        if scope.everything is None:
            return [event]
        index = 0
        found: list[Event] = []
        if isinstance(event, ev.ToolCallDelta):
            index = event.index
            names = ValueGuard(scope.everything)
            event = replace(event, name=names.value(event.name))
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
            scope = self._scopes[id(guards)] = ScopeGuards(guards)
        return scope
