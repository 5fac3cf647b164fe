"""What a reader has of a typed field so far: changes go in, the value is there to look at.

``field.partial`` events are small: each says what is new and where (``FieldPartial``).
``PartialValue`` puts one field's together, ``Partials`` those of any number of runs, with
superseded attempts gone; ``whole`` makes an event that says everything, for readers that keep
no state. ``ArgumentsReader`` reads the arguments of native tool calls from their fragments.

All cost what is new. Text that grows is joined when it is looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from streamll.core.events import Event, FieldPartial, LMSuperseded, ToolCallDelta
from streamll.core.parsing.growth import COMPLETE, PARTIAL, PENDING, Place
from streamll.core.parsing.partial import JSONReader

FieldKey = tuple[str | None, str | None, int, int, str]
"""Run, call, attempt, candidate, field: one field as one attempt of one call writes it."""


class PartialValue:
    """One field's value. ``value`` grows from change to change: copy it to keep it."""

    __slots__ = ("_open", "_text", "_text_place", "_value", "is_broken", "is_complete")

    def __init__(self) -> None:
        self._value: Any = None
        self._open: Place | None = None  # the deepest partial place; all above it are partial
        self._text: list[str] = []  # what was added to the text at ``_text_place``
        self._text_place: Place = ()
        self.is_complete = False
        self.is_broken = False
        """A change is missing (``stream.gap``): the value stands still until a whole one comes."""

    @property
    def value(self) -> Any:
        """Everything so far, valid in all its parts; ``None`` while nothing is certain."""
        if self._text:
            self._join()
        return self._value

    def state(self, *place: str | int) -> str:
        """``"pending"``, ``"partial"`` or ``"complete"``: the state of the value, or of a part."""
        if self.is_complete:
            return COMPLETE if self._stands(place) else PENDING
        if self._open is None:
            return PENDING
        if self._open[: len(place)] == place:
            return PARTIAL
        return COMPLETE if self._stands(place) else PENDING

    def apply(self, event: FieldPartial) -> None:
        """Take the next change. Those of other fields are the caller's to keep away."""
        place = tuple(event.place)
        if self.is_broken and place:
            return
        try:
            self._apply(place, event.value, event.append)
        except (LookupError, TypeError, AttributeError):
            self.is_broken = True
            return
        self.is_broken = False
        self._open = place if event.state == PARTIAL else place[:-1]
        self.is_complete = not place and event.state == COMPLETE

    def _apply(self, place: Place, value: Any, append: bool) -> None:
        if append and isinstance(value, str):
            if self._text and place != self._text_place:
                self._join()
            if not self._text and not isinstance(self._at(place), str):
                raise TypeError
            self._text_place = place
            self._text.append(value)
            return
        if self._text:
            self._join()
        if append:
            standing = self._at(place)
            standing.update(value) if isinstance(standing, dict) else standing.extend(value)
        else:
            self._set(place, value.copy() if isinstance(value, (list, dict)) else value)

    def _set(self, place: Place, value: Any) -> None:
        """Containers come as copies: ours to let grow; what is inside is complete."""
        if not place:
            self._value = value
            return
        parent = self._at(place[:-1])
        key: Any = place[-1]
        if isinstance(parent, list) and key == len(parent):
            parent.append(value)
        elif isinstance(parent, list) and not isinstance(key, int):
            raise TypeError
        else:
            parent[key] = value

    def _join(self) -> None:
        text, place = "".join(self._text), self._text_place
        self._text = []
        if not place:
            self._value += text
            return
        self._at(place[:-1])[place[-1]] += text

    def _at(self, place: Place) -> Any:
        value = self._value
        for key in place:
            value = value[key]
        return value

    def _stands(self, place: Place) -> bool:
        return part_of(self.value, place, MISSING) is not MISSING


MISSING = object()


def part_of(value: Any, place: Place, otherwise: Any = None) -> Any:
    """The part of a value at a place, whether it is made of plain values or of objects."""
    for key in place:
        try:
            if isinstance(key, str) and not isinstance(value, dict):
                value = getattr(value, key)
            else:
                value = value[key]
        except (LookupError, TypeError, AttributeError):
            return otherwise
    return value


class Partials:
    """The partial values of all fields of any number of runs."""

    def __init__(self) -> None:
        self._values: dict[FieldKey, PartialValue] = {}

    def feed(self, event: Event) -> PartialValue | None:
        """Take any event; the value it belongs to, if it is a ``field.partial``."""
        if isinstance(event, FieldPartial):
            key = _key(event, event.field)
            value = self._values.get(key)
            if value is None:
                value = self._values[key] = PartialValue()
            value.apply(event)
            return value
        if isinstance(event, LMSuperseded):
            gone = (event.run_id, event.call_id, event.attempt)
            for key in [key for key in self._values if key[:3] == gone]:
                del self._values[key]
        return None

    def of(self, event: Event, field: str) -> PartialValue | None:
        """The value that the event's call has of ``field`` so far, if it has one."""
        return self._values.get(_key(event, field))

    def whole(self, event: Event) -> Event:
        """The event; a ``field.partial`` with the whole value so far instead of what is new.

        Costs the length of the value: for readers that want no state of their own.
        """
        value = self.feed(event)
        if value is None or value.is_broken or not isinstance(event, FieldPartial):
            return event
        return msgspec.structs.replace(
            event, place=(), append=False, value=copied(value.value), state=value.state()
        )


def _key(event: Event, field: str) -> FieldKey:
    return event.run_id, event.call_id, event.attempt, event.candidate, field


class ToolArguments:
    """One native tool call as far as it is written."""

    __slots__ = ("_reader", "_value", "index", "name", "text")

    def __init__(self, index: int) -> None:
        self.index = index
        self.name: str | None = None
        self.text: list[str] = []
        self._reader = JSONReader()
        self._value = PartialValue()

    @property
    def arguments(self) -> Any:
        """The arguments that are valid so far; an empty mapping before the first."""
        return self._value.value if self._value.value is not None else {}

    @property
    def state(self) -> str:
        return self._value.state()

    def add(self, fragment: str) -> None:
        self.text.append(fragment)
        for change in self._reader.feed(fragment):
            self._value.apply(FieldPartial(field="", **change._asdict()))


class ArgumentsReader:
    """Native tool calls of one run, put together from ``tool_call.delta`` events."""

    def __init__(self) -> None:
        self._calls: dict[tuple[str | None, int, int], ToolArguments] = {}

    def feed(self, event: Event) -> ToolArguments | None:
        """Take any event; the call it belongs to, if it is a ``tool_call.delta``."""
        if not isinstance(event, ToolCallDelta):
            return None
        key = (event.call_id, event.attempt, event.index)
        call = self._calls.get(key)
        if call is None:
            call = self._calls[key] = ToolArguments(event.index)
        call.name = event.name or call.name
        if event.arguments:
            call.add(event.arguments)
        return call

    def __iter__(self) -> Iterator[ToolArguments]:
        return iter(self._calls.values())


def copied(value: Any) -> Any:
    """Lists and objects anew, everything else as it is."""
    if isinstance(value, list):
        return [copied(item) for item in value]
    if isinstance(value, dict):
        return {key: copied(item) for key, item in value.items()}
    return value
