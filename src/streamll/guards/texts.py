"""The texts of one call as its events bring them: pieces in, the pieces that may leave out.

An output field comes as tokens, as changes of its value, or as both; each way is guarded for itself.
What belongs to no field (thinking, a refusal, the arguments of a native tool call) is a ``LooseText``.

Offsets of ``guarded`` events count from the text that has left (``numbering`` makes them absolute).
"""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from streamll.core import events as ev
from streamll.core.events import Event
from streamll.core.parsing.values.builder import COMPLETE, PARTIAL, Pointer
from streamll.guards.rules import Guard
from streamll.guards.text import Form, GuardedText, Rules
from streamll.guards.values import DistinctKeys, ValueGuard


def notice(event: Event, guard: Guard, **where: Any) -> ev.Guarded:
    """What readers are told: ``guard`` has found something in ``event``."""
    return ev.Guarded(
        timestamp=event.timestamp,
        identity=event.identity,
        context=event.context,
        name=guard.name,
        kind=guard.kind,
        outcome=guard.action,
        **where,
    )


class Pieces:
    """One text that comes in pieces. ``attribute`` is what an event calls its piece."""

    def __init__(self, rules: Rules, attribute: str, form: Form, field: str | None) -> None:
        self.guard = rules.begin(form)
        self.last: Event | None = None
        self._attribute = attribute
        self._field = field
        self.passed = 0  # characters that were let go
        self.fed: str | None = None  # what the guard has made of the next piece already
        self._ended = False

    def feed(self, event: Any) -> list[Event]:
        """What may leave once this piece has come."""
        self.last = event
        text, self.fed = self.fed, None
        if text is None:
            text = self.guard.feed(getattr(event, self._attribute))
        return self._let_go(event, text)

    def finish(self, timestamp: float) -> list[Event]:
        """What may leave because the text has ended."""
        if self._ended or self.last is None:
            return []
        self._ended = True
        if not (rest := self.guard.finish()) and not self.guard.hits:
            return []
        return self._let_go(replace(self.last, timestamp=timestamp), rest)

    def _let_go(self, event: Any, text: str) -> list[Event]:
        events: list[Event] = []
        if self.guard.hits:
            events += (
                notice(event, hit.guard, **self._where(hit.offset)) for hit in self.guard.hits
            )
            self.guard.hits.clear()
        if text or not self._needs_text(event):
            self.passed += len(text)
            same = text == getattr(event, self._attribute)
            events.append(event if same else replace(event, **{self._attribute: text}))
        return events

    def _where(self, offset: int) -> dict[str, Any]:
        if self._field is None:
            return {}
        return {"field": self._field, "offset": offset - self.passed}

    def _needs_text(self, event: Any) -> bool:
        """Whether an event without text would say nothing."""
        return bool(getattr(event, self._attribute))


class LooseText(Pieces):
    """A text that belongs to no field; ``first`` is an event with its first piece."""

    def __init__(self, rules: Rules, first: Event) -> None:
        is_call = isinstance(first, ev.ToolCallDelta)
        attribute, form = ("arguments", "json") if is_call else ("text", "plain")
        super().__init__(rules, attribute, form, None)  # type: ignore[arg-type]

    def finish(self, timestamp: float) -> list[Event]:
        if isinstance(self.last, ev.ToolCallDelta):
            self.last = replace(self.last, name=None)
        return super().finish(timestamp)

    def _needs_text(self, event: Any) -> bool:
        return super()._needs_text(event) and not getattr(event, "name", None)


class FieldText:
    """An output field of one attempt, under the rules that are about it."""

    def __init__(self, rules: Rules, name: str, form: Form) -> None:
        self._rules = rules
        self._name = name
        self._form = form
        self.tokens = Pieces(rules, "token", form, name)
        self._leaf: tuple[Pointer, GuardedText] | None = None  # the text of a value that is open
        self._place: tuple[Pointer, Pointer] = ((), ())  # of the last change, and as it is shown
        self._masked: dict[Pointer, tuple[dict[str, str], DistinctKeys]] = {}  # keys in the value
        self._reported: set[str] = set()  # rules that readers were told of
        self._ended = False
        self._closed_by: Guard | None = None

    # --- tokens ---------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether more tokens may come and go out."""
        return not self._ended and self._closed_by is None

    def token(self, event: ev.TokenEvent) -> list[Event]:
        if event.token:
            return [] if self._closed_by is not None else self._seen(self.tokens.feed(event))
        if event.finish_reason is None:  # the whole text is empty
            return [event]
        return [*self._rest(event), event]

    def end(self, event: ev.FieldEnd) -> list[Event]:
        """The field has ended; what is held of an attempt that failed within it is never shown."""
        self._ended, self._leaf = True, None
        rest = self._rest(event) if event.complete else []
        return [*rest, event, *self._correction(event)]

    def _rest(self, event: Event) -> list[Event]:
        if self._closed_by is not None:
            return []
        return self._seen(self.tokens.finish(event.timestamp))

    def _seen(self, events: list[Event]) -> list[Event]:
        if self.tokens.guard.closed_by is not None:
            self._closed_by = self.tokens.guard.closed_by
        self._reported.update(event.name for event in events if isinstance(event, ev.Guarded))
        return events

    # --- values ---------------------------------------------------------------------------------

    def partial(self, event: ev.FieldPartial) -> list[Event]:
        is_whole = not event.pointer and not event.append
        if self._closed_by is not None:
            return [self._taken_back(event)] if self._ended and is_whole else []
        pointer, hits = self._pointer(event.pointer)
        if isinstance(event.value, str) and (event.append or event.state == PARTIAL):
            events = self._grow(event, pointer)
        else:
            events = self._whole(event, pointer)
        return [*self._tell(event, hits), *events] if hits else events

    def _pointer(self, pointer: Pointer) -> tuple[Pointer, list[Guard]]:
        """A place in the value, by its guarded keys, and what was found in them."""
        if pointer == self._place[0]:  # most changes are where the last one was
            return self._place[1], []
        keys = ValueGuard(self._rules)
        guarded = tuple(self._key(pointer[:at], key, keys) for at, key in enumerate(pointer))
        self._place = (pointer, guarded)
        return guarded, keys.hits

    def _key(self, above: Pointer, key: str | int, keys: ValueGuard) -> str | int:
        if type(key) is not str or (shown := keys.key(key)) is key:
            return key
        masked, distinct = self._masked.setdefault(above, ({}, DistinctKeys()))
        if key not in masked:
            masked[key] = distinct.add(shown)
        return masked[key]

    def _grow(self, event: ev.FieldPartial, pointer: Pointer) -> list[Event]:
        """A text in the value that comes piece by piece."""
        if not event.append or self._leaf is None or self._leaf[0] != event.pointer:
            self._leaf = (event.pointer, self._rules.begin())
        guard = self._leaf[1]
        text = guard.feed(event.value)
        if event.state == COMPLETE:
            text += guard.finish()
            self._leaf = None
        if text == event.value and not guard.hits and pointer == event.pointer:
            return [event]
        events = self._tell(event, [hit.guard for hit in guard.hits])
        guard.hits.clear()
        self._closed_by = guard.closed_by
        if text or not event.append or event.state == COMPLETE:
            events.append(_changed(event, value=text, pointer=pointer))
        return events

    def _whole(self, event: ev.FieldPartial, pointer: Pointer) -> list[Event]:
        values = ValueGuard(self._rules)
        value = values.value(event.value)
        self._closed_by = values.closed_by
        events = self._tell(event, values.hits)
        if self._closed_by is None:
            return [*events, _changed(event, value=value, pointer=pointer)]
        if self._ended:  # only the program's own value has it
            return [*events, self._taken_back(event), *self._correction(event)]
        return events

    def corrected(self, event: ev.FieldCorrected) -> list[Event]:
        if self._closed_by is not None:
            return []
        values = ValueGuard(self._rules)
        text, value = values.text(event.text, self._form), values.value(event.value)
        self._closed_by = values.closed_by
        events = self._tell(event, values.hits)
        if self._closed_by is None:
            return [*events, _changed(event, text=text, value=value)]
        return [*events, *self._correction(event)]

    # --- what is taken back ---------------------------------------------------------------------

    def _tell(self, event: Event, guards: list[Guard]) -> list[Event]:
        """Notices of what was found in values, which mostly is what was found in tokens, too."""
        new = [guard for guard in dict.fromkeys(guards) if guard.name not in self._reported]
        self._reported.update(guard.name for guard in new)
        return [notice(event, guard, field=self._name) for guard in new]

    def _instead(self) -> str | None:
        """What the field is now; nothing, where it was dropped."""
        guard = self._closed_by
        return guard.mask if guard is not None and guard.action == "replace" else None

    def _taken_back(self, event: ev.FieldPartial) -> Event:
        return replace(event, value=self._instead(), state=COMPLETE)

    def _correction(self, event: Event) -> list[Event]:
        if self._closed_by is None or self._closed_by.action == "stop":
            return []
        corrected = ev.FieldCorrected(
            timestamp=event.timestamp,
            identity=event.identity,
            context=event.context,
            field=self._name,
            text=self._instead() or "",
            value=self._instead(),
        )
        return [corrected]


def _changed(event: Event, **parts: Any) -> Event:
    """The event with these parts, or the same one if it has them."""
    new = {name: part for name, part in parts.items() if not _same(part, getattr(event, name))}
    return replace(event, **new) if new else event


def _same(part: Any, before: Any) -> bool:
    """Texts and pointers are compared; any other value is the same object, or was changed."""
    return part is before or (isinstance(part, (str, tuple)) and part == before)
