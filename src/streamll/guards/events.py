"""The events of one run, guarded: each comes in as it happens, those that may leave come out.

What the guards forbid that find it by themselves is taken out first (``rewriting``); what comes out of
that may wait for checks (``checking``); what leaves gets its numbers (``numbering``).

The run gives each event its ``seq`` when it has left, and calls all of this under its lock.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from streamll.core import events as ev
from streamll.core.events import NOTHING, Event, Identity
from streamll.guards.checking import Checking, Leaving
from streamll.guards.numbering import Numbering, qualified
from streamll.guards.rewriting import Rewriting
from streamll.guards.rules import Check, Guard
from streamll.guards.text import ExactRules, Form


class GuardedCall(Protocol):
    """The call that an event is of: a ``capture.run.scope.Scope``."""

    guards: tuple[Guard, ...]


class Guarding:
    """Guards the events of one run. ``checking`` makes what asks checks, for the first that there is.

    ``limit`` is how many characters contents are cut to.
    """

    def __init__(
        self, checking: Callable[[], Checking], limit: Callable[[], int] | None = None
    ) -> None:
        self.checking: Checking | None = None
        self.stopped: ev.Guarded | None = None
        """What told readers that a guard whose action is ``"stop"`` has found something."""
        self._make_checking = checking
        self._numbers = Numbering()
        self._exact = Rewriting(functools.partial(ExactRules, limit=limit), self._numbers)
        self._known: dict[tuple[int, ...], tuple[Guard, ...]] = {}
        self._kinds: dict[int, tuple[Any, tuple[Guard, ...], tuple[Check, ...]]] = {}

    def known(self, guards: tuple[Guard, ...]) -> tuple[Guard, ...]:
        """The same guards, as one object for all calls that have them: much is kept by its id."""
        return self._known.setdefault(tuple(map(id, guards)), guards)

    def feed(self, event: Event, scope: GuardedCall) -> list[Leaving]:
        """The events that leave because of this one, each with the scope whose receivers get it."""
        exact, checks = self._of_kinds(scope.guards)
        events = self._exact.guarded(event, exact) if exact else [event]
        return self._pass_on(events, scope, checks)

    def release(
        self, identity: Identity, field: str, token: str, context: Mapping[str, Any]
    ) -> tuple[str, int, int] | tuple[()] | None:
        """``feed`` for most tokens, before there is an event: what to make one of.

        Its text, index and offset; nothing, if all of the text is held back; ``None`` where there
        is more to say than a token can: then ``feed`` is to have an event with this very token.
        """
        known = self._exact.open.get((id(identity), field))
        if known is None or self.checking is not None:
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

    def _pass_on(
        self, events: Sequence[Event], scope: GuardedCall, checks: tuple[Check, ...]
    ) -> list[Leaving]:
        if self.checking is None:
            return self._numbered([(event, scope) for event in events])
        for event in events:
            self.checking.put(event, scope, checks)
        return self.released()

    def released(self) -> list[Leaving]:
        """What has left ``checking`` since this was called."""
        return [] if self.checking is None else self._numbered(self.checking.take())

    def _numbered(self, leaving: list[Leaving]) -> list[Leaving]:
        for event, _ in leaving:
            if type(event) is ev.Guarded and event.outcome == "stop":
                self.stopped = self.stopped or event
        return [(self._numbers.number(event), scope) for event, scope in leaving]

    def _of_kinds(self, guards: tuple[Guard, ...]) -> tuple[tuple[Guard, ...], tuple[Check, ...]]:
        """The guards that find by themselves what they forbid, and those that ask."""
        known = self._kinds.get(id(guards))
        if known is None:
            checks = tuple(guard for guard in guards if isinstance(guard, Check))
            exact = tuple(guard for guard in guards if not isinstance(guard, Check))
            known = self._kinds[id(guards)] = guards, exact, checks
            if checks and self.checking is None:
                self.checking = self._make_checking()
        return known[1:]

    # --- what a call tells apart from its events ----------------------------------------------------

    def begin_field(
        self, identity: Identity, field: str, form: Form, guards: tuple[Guard, ...]
    ) -> None:
        """A field is about to start, whose tokens are written in this form."""
        self._numbers.begin(identity, field)
        exact, checks = self._of_kinds(guards)
        if exact:
            self._exact.begin_field(identity, field, form, exact)
        if checks and self.checking is not None:
            self.checking.begin_field(identity, field, form, checks)

    def finish_texts(
        self, identity: Identity, scope: GuardedCall, timestamp: float
    ) -> list[Leaving]:
        """The reply of this attempt is complete: what of it belongs to no field has ended."""
        checks = self._of_kinds(scope.guards)[1]
        leaving = self._pass_on(self._exact.finish_texts(identity, timestamp), scope, checks)
        if checks and self.checking is not None:
            self.checking.finish_texts(identity, scope, checks, timestamp)
        return leaving + self.released()

    def shown(self, identity: Identity, field: str) -> str | None:
        """What has left of the text of a field; ``None`` if no guard has seen it."""
        return self._numbers.shown(identity, field)

    def shown_of(self, texts: Mapping[str, str]) -> dict[str, str]:
        """What has left, at the latest attempt, of fields by ``predictor.field``; else these texts."""
        latest = self._numbers.latest
        return {
            name: "".join(latest[name].parts) if name in latest else text
            for name, text in texts.items()
        }

    def text_of(self, found: ev.Guarded) -> dict[str, str]:
        """What has left of the field that something was found in, by its name."""
        if self.checking is None or found.field is None:
            return {}
        return self.shown_of({qualified(found): ""})

    def has_begun(self, identity: Identity) -> bool:
        """Whether any field of this attempt has begun."""
        return self._numbers.has_begun(identity)
