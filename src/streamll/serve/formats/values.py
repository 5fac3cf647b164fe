"""Typed fields in the formats: growing values as patches of a state, or whole at intervals.

A ``field.partial`` says what is new and where, which is what a JSON Patch (RFC 6902) says. Only
growing text has no operation of its own there: it is sent again as a whole, but not too often. A
format that knows whole values only sends those at the same pace. What was held back is sent when
the field settles.
"""

from __future__ import annotations

import itertools
import json
from typing import Any

from streamll.core import events as ev
from streamll.core.parsing.values.builder import Pointer
from streamll.core.partials import part_of
from streamll.serve.formats.parts import ValuePart

RESEND_S = 0.1
"""The shortest time between two messages with the same text or whole value …"""
RESEND_CHARACTERS = 10_000
"""… of up to about so many characters; for longer ones it is longer in proportion."""

Operation = dict[str, Any]


class ValueThrottle:
    """Which values may be sent again already."""

    def __init__(self) -> None:
        self._next: dict[str, float] = {}

    def admits(self, part: ValuePart, at: float) -> bool:
        """Whether the value may be sent at this time; if so, it is."""
        if at < self._next.get(part.id, at):
            return False
        self._next[part.id] = at + RESEND_S * max(1.0, part.size / RESEND_CHARACTERS)
        return True


class AGUIState:
    """AG-UI's state: ``fields`` has the latest value of each field, ``earlier`` those before it.

    The latest is that of the call that began last. Another call that still writes a field of the
    same name goes on under ``earlier``, so that nothing is lost where calls overlap.
    """

    def __init__(self, given: Any) -> None:
        kept = dict(given) if isinstance(given, dict) else {}
        self._rest = {key: value for key, value in kept.items() if key != "earlier"}
        self._fields: dict[str, str] = {}  # names to ids of values
        self._earlier: dict[str, list[str]] = {}
        self._values: dict[str, ValuePart | None] = {}
        self._places: dict[str, Pointer] = {}  # where each value is in the state
        self._unsent: dict[str, Pointer] = {}  # text that has grown since it was sent
        self._throttle = ValueThrottle()

    @property
    def value(self) -> dict[str, Any]:
        """The whole state."""
        fields = {name: self._value(one) for name, one in self._fields.items()}
        state = {**self._rest, "fields": fields}
        if self._earlier:
            state["earlier"] = {
                name: [self._value(one) for one in those] for name, those in self._earlier.items()
            }
        return state

    def _value(self, value_id: str) -> Any:
        part = self._values[value_id]
        return None if part is None else part.value

    def change(
        self, part: ValuePart, change: ev.FieldPartial, *, replaces: bool
    ) -> list[Operation]:
        """The operations of a change, after those that were held back."""
        operations = self._make_room(part)
        self._values[part.id] = part
        grows = change.append and isinstance(change.value, str)
        if not grows or self._unsent.get(part.id, change.pointer) != change.pointer:
            operations += self.settle(part)
        if grows:
            self._unsent[part.id] = change.pointer
            due = self._throttle.admits(part, change.timestamp)
            return operations + (self.settle(part) if due else [])
        place, value = change.pointer, change.value
        if not change.append:
            return [
                *operations,
                self._operation("replace" if replaces else "add", part, place, value),
            ]
        new = value.items() if isinstance(value, dict) else (("-", each) for each in value)
        return operations + [self._operation("add", part, (*place, key), each) for key, each in new]

    def settle(self, part: ValuePart) -> list[Operation]:
        """What was held back."""
        pointer = self._unsent.pop(part.id, None)
        if pointer is None:
            return []
        return [self._operation("replace", part, pointer, part_of(part.value, pointer))]

    def _operation(self, kind: str, part: ValuePart, pointer: Pointer, value: Any) -> Operation:
        """An operation on a part of a value; on what it is in where no client would accept that."""
        begin = self._places[part.id]
        place = (*begin, *pointer)
        for before, key in itertools.pairwise(place):
            if key == "__proto__" or (before, key) == ("constructor", "prototype"):
                place = place[: place.index(key, len(begin))]
                return operation("replace", place, part_of(part.value, place[len(begin) :]))
        return operation(kind, place, value)

    def withdraw(self, part: ValuePart) -> list[Operation]:
        """The value becomes null."""
        if part.id not in self._places:
            return []
        self._unsent.pop(part.id, None)
        self._values[part.id] = None
        return [operation("replace", self._places[part.id], None)]

    def _make_room(self, part: ValuePart) -> list[Operation]:
        """Put a new value into its field's place, and the one there under ``earlier``."""
        if part.id in self._places:
            return []
        name, place, operations = part.field, ("fields", part.field), []
        if name in self._fields:
            if not self._earlier:
                operations.append(operation("add", ("earlier",), {}))
            if name not in self._earlier:
                operations.append(operation("add", ("earlier", name), []))
            before, those = self._fields[name], self._earlier.setdefault(name, [])
            moved = self._places[before] = ("earlier", name, len(those))
            those.append(before)
            move = {"op": "move", "from": json_pointer(place), "path": json_pointer(moved)}
            operations.append(move)
        self._fields[name], self._places[part.id] = part.id, place
        return [*operations, operation("add", place, None)]


def operation(kind: str, place: Pointer, value: Any) -> Operation:
    return {"op": kind, "path": json_pointer(place), "value": value}


def json_pointer(pointer: Pointer) -> str:
    """RFC 6901."""
    return "".join(f"/{str(key).replace('~', '~0').replace('/', '~1')}" for key in pointer)


def is_json(text: str) -> bool:
    """Whether a text is a JSON list or object, in a code fence or not."""
    text = text.strip()
    if text.startswith("```"):
        text = text.partition("\n")[2].removesuffix("```")
    return isinstance(read_json(text), (list, dict))


def read_json(text: str) -> Any:
    """The value of a JSON text; ``None`` for a text that is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
