"""Typed fields on wires: values that grow, as patches of a state, or whole and not too often.

A ``field.partial`` says what is new and where, which is what a JSON patch says; only text that
grows has no operation of its own there and is told again in whole, but not too often. A wire that knows whole values only tells those at that pace. What was held back is told
when the field settles.
"""

from __future__ import annotations

import json
from typing import Any

from streamll.core.parsing.values.builder import Pointer
from streamll.core.partials import part_of
from streamll.serve.formats.parts import ValueChanged, ValuePart

BETWEEN = 0.1
"""Seconds from one telling of the same text, or of a whole value, to the next …"""
AT_ONCE = 10_000
"""… of up to about so many characters; longer ones are told less often in proportion."""

Operation = dict[str, Any]


class ValueThrottle:
    """Who may be told again already, and who still has something to tell."""

    def __init__(self) -> None:
        self._next: dict[str, float] = {}
        self._held: set[str] = set()

    def lets(self, typed: ValuePart, at: float) -> bool:
        """Whether it is time; if not, the value is held back."""
        if at < self._next.get(typed.id, at):
            self._held.add(typed.id)
            return False
        self._held.discard(typed.id)
        self._next[typed.id] = at + BETWEEN * max(1.0, typed.size / AT_ONCE)
        return True

    def settle(self, typed: ValuePart) -> bool:
        """Whether something was held back; it is told now."""
        held = typed.id in self._held
        self._held.discard(typed.id)
        return held


class AGUIState:
    """AG-UI's state: ``fields`` has the latest value of each name, ``earlier`` those before it.

    The latest is that of the call that began last. Another call that still writes to a field of
    the same name goes on under ``earlier``, so nothing is lost where calls overlap.
    """

    def __init__(self, given: Any) -> None:
        kept = dict(given) if isinstance(given, dict) else {}
        self._rest = {key: value for key, value in kept.items() if key != "earlier"}
        self._fields: dict[str, str] = {}  # names to ids of values
        self._earlier: dict[str, list[str]] = {}
        self._values: dict[str, ValuePart | None] = {}
        self._places: dict[str, Pointer] = {}
        self._growing: dict[str, Pointer] = {}  # text that was not told to its end
        self._pace = ValueThrottle()

    @property
    def value(self) -> dict[str, Any]:
        """All of it, as of now."""
        fields = {name: self._value(one) for name, one in self._fields.items()}
        state = {**self._rest, "fields": fields}
        if self._earlier:
            state["earlier"] = {
                name: [self._value(one) for one in those] for name, those in self._earlier.items()
            }
        return state

    def _value(self, one: str) -> Any:
        typed = self._values[one]
        return None if typed is None else typed.value

    def change(self, step: ValueChanged) -> list[Operation]:
        """The operations that tell a change, with what was held back before it."""
        typed, place = step.typed, step.place
        operations = self._make_room(typed)
        self._values[typed.id] = typed
        grows = step.append and isinstance(step.value, str)
        if not grows or self._growing.get(typed.id, place) != place:
            operations += self._told(typed)
        if not grows:
            return operations + self._new(step)
        self._growing[typed.id] = place
        if self._pace.lets(typed, step.at):
            operations += self._told(typed)
        return operations

    def _new(self, step: ValueChanged) -> list[Operation]:
        if not step.append:
            kind = "replace" if step.replaces else "add"
            return [self._operation(kind, step.typed, step.place, step.value)]
        new = step.value.items() if isinstance(step.value, dict) else (("-", v) for v in step.value)
        return [self._operation("add", step.typed, (*step.place, k), v) for k, v in new]

    def settle(self, typed: ValuePart) -> list[Operation]:
        """What was held back."""
        return self._told(typed)

    def forget(self, typed: ValuePart) -> list[Operation]:
        """Nothing of the value is certain any more."""
        if typed.id not in self._places:
            return []
        self._growing.pop(typed.id, None)
        self._values[typed.id] = None
        return [self._operation("replace", typed, (), None)]

    def _make_room(self, typed: ValuePart) -> list[Operation]:
        """A value seen for the first time takes its name's place."""
        name, place = typed.field, ("fields", typed.field)
        if typed.id in self._places:
            return []
        before = self._fields.get(name)
        self._fields[name], self._places[typed.id] = typed.id, place
        operations = [] if before is None else self._move(name, before)
        return [*operations, {"op": "add", "path": pointer(place), "value": None}]

    def _move(self, name: str, before: str) -> list[Operation]:
        operations: list[Operation] = []
        if not self._earlier:
            operations.append({"op": "add", "path": "/earlier", "value": {}})
        if name not in self._earlier:
            self._earlier[name] = []
            operations.append({"op": "add", "path": pointer(("earlier", name)), "value": []})
        place: Pointer = ("earlier", name, len(self._earlier[name]))
        self._earlier[name].append(before)
        self._places[before] = place
        move = {"op": "move", "from": pointer(("fields", name)), "path": pointer(place)}
        return [*operations, move]

    def _told(self, typed: ValuePart) -> list[Operation]:
        place = self._growing.pop(typed.id, None)
        if place is None:
            return []
        self._pace.settle(typed)
        return [self._operation("replace", typed, place, part_of(typed.value, place))]

    def _operation(self, kind: str, typed: ValuePart, place: Pointer, value: Any) -> Operation:
        path = pointer((*self._places[typed.id], *place))
        return {"op": kind, "path": path, "value": value}


def pointer(place: Pointer) -> str:
    """A place as JSON pointer."""
    return "".join(f"/{str(key).replace('~', '~0').replace('/', '~1')}" for key in place)


def is_json(text: str) -> bool:
    """Whether a text is a list or an object as JSON writes it, in a code fence or not."""
    text = text.strip()
    if text.startswith("```"):
        text = text.partition("\n")[2].removesuffix("```")
    try:
        return isinstance(json.loads(text), (list, dict))
    except (ValueError, RecursionError):
        return False
