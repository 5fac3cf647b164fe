"""The values of typed fields as a reader has them so far, put together from their changes.

``field.partial`` events are small: each holds what is new and where it belongs (``FieldPartial``).
``PartialValue`` applies those of one field, ``Partials`` those of any number of runs, without
superseded attempts. ``Partials.whole`` replaces an event's change by the whole value, for readers
that keep no state. ``ArgumentsReader`` reads the arguments of native tool calls from fragments.

A change costs its own length. Text that grows is joined when the value is read.
"""

from __future__ import annotations

import functools
import operator
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import msgspec

from streamll.core.events import Event, FieldPartial, LMSuperseded, ToolCallDelta
from streamll.core.parsing.values.builder import COMPLETE, PARTIAL, PENDING, Pointer
from streamll.core.parsing.values.json import JSONValueReader

FieldKey = tuple[str | None, str | None, int, int, str]
"""Run, call, attempt, candidate, field: one field of one attempt of one call."""


class PartialValue:
    """One field's value. ``value`` grows from change to change: copy it to keep it."""

    __slots__ = ("_open", "_text", "_text_pointer", "_value", "is_broken", "is_complete")

    def __init__(self) -> None:
        self._value: Any = None
        self._open: Pointer | None = None  # the deepest partial part; all above it are partial
        self._text: list[str] = []  # what was added to the text at ``_text_pointer``
        self._text_pointer: Pointer = ()
        self.is_complete = False
        self.is_broken = False
        """A change was lost (``stream.gap``): no change is applied until a whole value comes."""

    @property
    def value(self) -> Any:
        """The value so far, valid in all its parts; ``None`` while nothing is certain."""
        if self._text:
            self._join()
        return self._value

    def state(self, *pointer: str | int) -> str:
        """``"pending"``, ``"partial"`` or ``"complete"``: the state of the value.

        With a ``pointer`` (keys and indices), that of a part: ``state(0, "title")``.
        """
        if not self.is_complete:
            if self._open is None:
                return PENDING
            if self._open[: len(pointer)] == pointer:
                return PARTIAL
        return PENDING if part_of(self.value, pointer, MISSING) is MISSING else COMPLETE

    def apply(self, event: FieldPartial) -> None:
        """Apply ``event``, the next change of this field, and of no other."""
        pointer = tuple(event.pointer)
        if self.is_broken and pointer:
            return
        try:
            self._apply(pointer, event.value, event.append)
        except (LookupError, TypeError, AttributeError):
            self.is_broken = True
            return
        self.is_broken = False
        self._open = pointer if event.state == PARTIAL else pointer[:-1]
        self.is_complete = not pointer and event.state == COMPLETE

    def _apply(self, pointer: Pointer, value: Any, append: bool) -> None:
        if append and isinstance(value, str):
            if self._text and pointer != self._text_pointer:
                self._join()
            if not self._text and not isinstance(self._at(pointer), str):
                raise TypeError
            self._text_pointer = pointer
            self._text.append(value)
            return
        if self._text:
            self._join()
        if append:
            present = self._at(pointer)
            present.update(value) if isinstance(present, dict) else present.extend(value)
        else:
            self._set(pointer, value.copy() if isinstance(value, (list, dict)) else value)

    def _set(self, pointer: Pointer, value: Any) -> None:
        """``value`` is ours to let grow (a copy if it is a container); its content is complete."""
        if not pointer:
            self._value = value
            return
        parent = self._at(pointer[:-1])
        key: Any = pointer[-1]
        if isinstance(parent, list) and key == len(parent):
            parent.append(value)
        elif isinstance(parent, list) and not isinstance(key, int):
            raise TypeError
        else:
            parent[key] = value

    def _join(self) -> None:
        pointer = self._text_pointer
        self._set(pointer, self._at(pointer) + "".join(self._text))
        self._text = []

    def _at(self, pointer: Pointer) -> Any:
        return functools.reduce(operator.getitem, pointer, self._value)


MISSING = object()


def part_of(value: Any, pointer: Pointer, otherwise: Any = None) -> Any:
    """The part of a value at ``pointer``; the value may consist of plain values or of objects."""
    for key in pointer:
        try:
            if isinstance(key, str) and not isinstance(value, dict):
                value = getattr(value, key)
            else:
                value = value[key]
        except (LookupError, TypeError, AttributeError):
            return otherwise
    return value


class Partials:
    """The partial values of all fields of any number of runs.

    Those of a run are there until the first event after its last one.
    """

    def __init__(self) -> None:
        self._values: defaultdict[FieldKey, PartialValue] = defaultdict(PartialValue)
        self._over: str | None = None  # the run whose last event was the latest

    def feed(self, event: Event) -> PartialValue | None:
        """Take any event; returns the value it changed, if it is a ``field.partial``."""
        if self._over is not None:
            self._forget(self._over)
        self._over = event.run_id if event.closes == "run" else None
        if isinstance(event, FieldPartial):
            value = self._values[_key(event, event.field)]
            value.apply(event)
            return value
        if isinstance(event, LMSuperseded):
            self._forget(event.run_id, event.call_id, event.attempt)
        return None

    def _forget(self, *gone: str | int | None) -> None:
        for key in [key for key in self._values if key[: len(gone)] == gone]:
            del self._values[key]

    def of(self, event: Event, field: str) -> PartialValue | None:
        """The value of ``field`` so far in the event's call, if there is one."""
        return self._values.get(_key(event, field))

    def whole(self, event: Event) -> Event:
        """The event; a ``field.partial`` with the whole value so far in place of the change.

        Costs the length of the value: for readers that keep no state.
        """
        value = self.feed(event)
        if value is None or value.is_broken or not isinstance(event, FieldPartial):
            return event
        return msgspec.structs.replace(
            event, pointer=(), append=False, value=copied(value.value), state=value.state()
        )


def _key(event: Event, field: str) -> FieldKey:
    return event.run_id, event.call_id, event.attempt, event.candidate, field


class ToolArguments:
    """One native tool call, as far as it has been written."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.name: str | None = None
        self.text: list[str] = []
        self._reader = JSONValueReader()
        self._value = PartialValue()

    @property
    def arguments(self) -> Any:
        """The arguments so far, all valid; an empty mapping before the first."""
        return self._value.value if self._value.value is not None else {}

    @property
    def state(self) -> str:
        return self._value.state()

    def feed(self, event: ToolCallDelta) -> None:
        self.name = event.name or self.name
        if event.arguments:
            self.text.append(event.arguments)
            for change in self._reader.feed(event.arguments):
                self._value.apply(FieldPartial(field="", **change._asdict()))


class ArgumentsReader:
    """Native tool calls of one run, put together from ``tool_call.delta`` events."""

    def __init__(self) -> None:
        self._calls: dict[tuple[str | None, int, int], ToolArguments] = {}

    def feed(self, event: Event) -> ToolArguments | None:
        """Take any event; returns the call it belongs to, if it is a ``tool_call.delta``."""
        if not isinstance(event, ToolCallDelta):
            return None
        key = (event.call_id, event.attempt, event.index)
        if key not in self._calls:
            self._calls[key] = ToolArguments(event.index)
        self._calls[key].feed(event)
        return self._calls[key]

    def __iter__(self) -> Iterator[ToolArguments]:
        return iter(self._calls.values())


def copied(value: Any) -> Any:
    """A deep copy of lists and objects; everything else is shared."""
    if isinstance(value, list):
        return [copied(item) for item in value]
    if isinstance(value, dict):
        return {key: copied(item) for key, item in value.items()}
    return value
