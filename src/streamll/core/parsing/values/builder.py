"""Builds a value while it is written, and reports what is new after each chunk.

A reader of some format (``json``, ``xml``) calls ``begin``, ``key``, ``text`` … in the order of
the reply; ``take`` returns the changes since the last time. What is complete inside a change
never changes again: a change costs what is new, and a value costs its own length in all.

Only what is valid so far is reported: containers as they open, strings as they grow if the
schema allows any text there, and everything else once it has ended. Keys that the program's object
will not have are left out. Where a value is written that the program will have as something else
(``WITHHELD``), nothing more is reported: what is open stays partial. The outermost value is not
looked at, unless it is a list or an object; the caller knows how it will be read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from streamll.core.parsing.values.schema import ANYTHING, WITHHELD, SchemaView

Pointer = tuple[str | int, ...]

PENDING, PARTIAL, COMPLETE = "pending", "partial", "complete"

MAX_NESTING = 200
"""Nesting beyond which a value is not followed; the program's own parser fails there, too."""


class Change(NamedTuple):
    """One change, with the fields of a ``FieldPartial``: see there."""

    pointer: Pointer
    value: Any
    state: str
    append: bool = False


class TooDeep(Exception):
    """The value is nested deeper than ``MAX_NESTING``."""


class _OpenContainer(msgspec.Struct):
    """A list or object that has not ended."""

    value: Any
    key: str | int
    pointer: Pointer
    schema: SchemaView
    reported: bool = False


class ValueBuilder:
    """The value. Knows nothing of the format it is written in."""

    def __init__(self, schema: SchemaView) -> None:
        self.value: Any = None
        """The whole value, once it is complete."""
        self.is_complete = False
        self.repeats = False
        """A key occurred twice in one object; the first one counts."""
        self._root = schema
        self._open: list[_OpenContainer] = []
        self._key = ""  # of the next member
        self._withheld = False  # something was; no more is reported
        self._ignored = 0  # containers open inside a value that does not count, itself included
        self._changes: list[Change] = []
        self._parts: list[str] = []  # of the string that is open
        self._reported = 0  # how many of its parts are reported
        self._text_grows = False
        self._text_pointer: Pointer | None = None  # once any of it is reported

    @property
    def is_whole(self) -> bool:
        """Whether nothing of the value was withheld."""
        return self.is_complete and not self._withheld

    # --- where we are -------------------------------------------------------------------------

    def schema(self) -> SchemaView:
        """What the next value may be; anything, where it does not count."""
        if self._ignored or self._withheld:
            return ANYTHING
        if not self._open:
            return self._root
        top = self._open[-1]
        if type(top.value) is list:
            return top.schema.item(len(top.value))
        return top.schema.member(self._key)

    def _next_key(self) -> str | int:
        if not self._open:
            return ""
        value = self._open[-1].value
        return len(value) if type(value) is list else self._key

    def _pointer(self, key: str | int) -> Pointer:
        return (*self._open[-1].pointer, key) if self._open else ()

    def _parent_reported(self) -> bool:
        return not self._open or self._open[-1].reported

    # --- what is written -----------------------------------------------------------------------

    def key(self, key: str) -> None:
        """The key of the next member."""
        self._key = key if self._ignored else self._open[-1].schema.own_name(key)

    def begin(self, container: list[Any] | dict[str, Any]) -> None:
        """A list or an object, given empty, opens."""
        if self.is_ignored():
            self._ignored += 1
            return
        if len(self._open) >= MAX_NESTING:
            raise TooDeep
        key, schema = self._next_key(), self.schema()
        if not schema.takes(container):
            self._withhold()
            self._ignored += 1
            return
        opened = _OpenContainer(container, key, self._pointer(key), schema)
        self._open.append(opened)

    def end(self) -> None:
        """The innermost list or object closes."""
        if self._ignored:
            self._ignored -= 1
            self.is_complete = not (self._ignored or self._open)
            return
        done = self._open[-1]
        if not (self._withheld or done.schema.fills(done.value)):
            self._withhold()
        self._open.pop()
        if self._withheld:
            pass  # what was shown of it before stays partial
        elif done.reported:
            self._changes.append(Change(done.pointer, type(done.value)(), COMPLETE, append=True))
        elif self._parent_reported():
            self._changes.append(Change(done.pointer, done.value, COMPLETE))
        self._attach(done.key, done.value)

    def put(self, value: Any) -> None:
        """A value that is complete at once: a number, a word, a string that was held back."""
        if self.is_ignored():
            return
        if self._open or isinstance(value, (list, dict)):
            value = self.schema().claim(value)
        if value is WITHHELD:
            self._withhold()
            self.is_complete = not self._open
            return
        key = self._next_key()
        if self._parent_reported():
            self._changes.append(Change(self._pointer(key), value, COMPLETE))
        self._attach(key, value)

    def begin_text(self) -> None:
        """A string opens."""
        self._parts = []
        self._reported = 0
        self._text_pointer = None
        self._text_grows = not self.is_ignored() and self.schema().grows

    def text(self, text: str) -> None:
        """More of the string."""
        self._parts.append(text)

    def more_text(self, text: str) -> Sequence[Change]:
        """``text`` and ``take`` in one, for a chunk that is nothing but more text."""
        self._parts.append(text)
        if self._text_pointer is None:
            return self.take()
        self._reported += 1
        return (Change(self._text_pointer, text, PARTIAL, True),)  # noqa: FBT003

    def end_text(self) -> None:
        """The string closes."""
        parts, self._parts = self._parts, []
        if self._text_pointer is None:
            self.put("".join(parts))
            return
        rest = "".join(parts[self._reported :])
        self._changes.append(Change(self._text_pointer, rest, COMPLETE, append=True))
        self._attach(self._next_key(), "".join(parts))

    def is_ignored(self) -> bool:
        """Whether the next value does not count: a key's second value, and all inside it."""
        if self._ignored:
            return True
        if not self._open or type(self._open[-1].value) is list:
            return self._withheld
        if self._key in self._open[-1].value:  # also where no more is shown
            self.repeats = True
            return True
        return self._withheld or not self._open[-1].schema.knows(self._key)

    def _withhold(self) -> None:
        """What comes now is not shown, and so nothing after it: it would be in the wrong place."""
        self._report_open()
        self._withheld = True

    def _attach(self, key: str | int, value: Any) -> None:
        if not self._open:
            self.value = value
            self.is_complete = True
            return
        parent = self._open[-1]
        if type(parent.value) is list:
            parent.value.append(value)
        else:
            parent.value[key] = value
            parent.schema = parent.schema.knowing(str(key), value)

    # --- what is reported -----------------------------------------------------------------------------

    def take(self) -> Sequence[Change]:
        """The changes since the last time, in the order of the reply."""
        if not self._withheld:
            self._report_open()
        if self._text_grows and self._reported < len(self._parts):
            text, append = "".join(self._parts[self._reported :]), self._text_pointer is not None
            pointer = self._text_pointer or self._pointer(self._next_key())
            self._changes.append(Change(pointer, text, PARTIAL, append))
            self._reported, self._text_pointer = len(self._parts), pointer
        if not self._changes:
            return ()
        changes, self._changes = self._changes, []
        return changes

    def _report_open(self) -> None:
        """Report the containers that are new."""
        first_new = len(self._open)  # the reported containers are the outer ones
        while first_new and not self._open[first_new - 1].reported:
            first_new -= 1
        for container in self._open[first_new:]:
            container.reported = True
            self._changes.append(Change(container.pointer, container.value.copy(), PARTIAL))
