"""A value while it is being written, and what is to be told of it after each chunk.

A reader of some format (``partial``, ``elements``) calls ``begin``, ``key``, ``text`` … in the
order of the reply; ``take`` gives the changes since the last time. What is complete inside a
change never changes again, so a change costs what is new and nothing else, and a value of any
size costs its own length in all.

Told early is only what is valid so far: containers as they open, strings as they grow where the
``Shape`` of the place says that any text may stand there, and everything else once it has ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from .shape import Shape

Place = tuple[str | int, ...]

PENDING, PARTIAL, COMPLETE = "pending", "partial", "complete"

DEEPEST = 200
"""Nesting beyond which a value is not followed; the program's own parser ends there, too."""


class Change(NamedTuple):
    """``value`` stands at ``place`` from now on; with ``append``, it is added to what stands there.

    Text is added to text, members to an object. Everything inside ``value`` is complete; the
    place itself is in ``state``, the places above it are partial.
    """

    place: Place
    value: Any
    state: str
    append: bool = False


class TooDeep(Exception):
    """The value is nested more deeply than ``DEEPEST``."""


class _Container:
    """A list or object that is open."""

    __slots__ = ("key", "place", "shape", "told", "value")

    def __init__(self, value: Any, key: str | int, place: Place, shape: Shape) -> None:
        self.value = value
        self.key = key
        self.place = place
        self.shape = shape
        self.told = False


class Growth:
    """The value. Knows nothing of the format it is written in."""

    def __init__(self, shape: Shape) -> None:
        self.value: Any = None
        """The whole value, once it is complete."""
        self.is_complete = False
        self.repeats = False
        """A key stood twice in one object; the first one counts."""
        self._root = shape
        self._open: list[_Container] = []
        self._key = ""  # of the member that comes next
        self._muted = 0  # containers open inside a value that does not count, itself included
        self._changes: list[Change] = []
        self._parts: list[str] | None = None  # of the string that is open
        self._fresh = 0  # how many of its parts are told
        self._text_told = False
        self._text_grows = False
        self._text_place: Place = ()

    # --- where we are -------------------------------------------------------------------------

    def shape(self) -> Shape:
        """What may stand at the place that comes next."""
        if not self._open:
            return self._root
        top = self._open[-1]
        if type(top.value) is list:
            return top.shape.item(len(top.value))
        return top.shape.member(self._key)

    @property
    def inside(self) -> str:
        """What is open: ``"list"``, ``"object"`` or nothing. Muted ones are the reader's matter."""
        if not self._open:
            return ""
        return "list" if type(self._open[-1].value) is list else "object"

    def _next_key(self) -> str | int:
        if not self._open:
            return ""
        value = self._open[-1].value
        return len(value) if type(value) is list else self._key

    def _place(self, key: str | int) -> Place:
        return (*self._open[-1].place, key) if self._open else ()

    def _parent_told(self) -> bool:
        return not self._open or self._open[-1].told

    # --- what is written -----------------------------------------------------------------------

    def key(self, key: str) -> None:
        """The key of the member that comes next."""
        self._key = key

    def begin(self, container: list[Any] | dict[str, Any]) -> None:
        """A list or an object opens; it is given empty."""
        if self._is_muted():
            self._muted += 1
            return
        if len(self._open) >= DEEPEST:
            raise TooDeep
        shape = self.shape()
        key = self._next_key()
        self._open.append(_Container(container, key, self._place(key), shape))

    def end(self) -> None:
        """The innermost list or object closes."""
        if self._muted:
            self._muted -= 1
            return
        done = self._open.pop()
        if done.told:
            self._changes.append(Change(done.place, type(done.value)(), COMPLETE, append=True))
        elif self._parent_told():
            self._changes.append(Change(done.place, done.value, COMPLETE))
        self._attach(done.key, done.value)

    def put(self, value: Any) -> None:
        """A value that is complete as it comes: a number, a word, a string that was held."""
        if self._is_muted():
            return
        key = self._next_key()
        if self._parent_told():
            self._changes.append(Change(self._place(key), value, COMPLETE))
        self._attach(key, value)

    def begin_text(self) -> None:
        """A string opens."""
        self._parts = []
        self._fresh = 0
        self._text_told = False
        self._text_grows = not self._is_muted() and self.shape().grows

    def text(self, text: str) -> None:
        """More of the string."""
        assert self._parts is not None
        self._parts.append(text)

    def more_text(self, text: str) -> Sequence[Change]:
        """``text`` and ``take`` in one, where nothing but more text has come."""
        if not self._text_told:
            self.text(text)
            return self.take()
        assert self._parts is not None
        self._parts.append(text)
        self._fresh += 1
        return (Change(self._text_place, text, PARTIAL, True),)  # noqa: FBT003

    def end_text(self) -> None:
        """The string closes."""
        assert self._parts is not None
        parts, self._parts = self._parts, None
        if not self._text_told:
            self.put("".join(parts))
            return
        rest = "".join(parts[self._fresh :])
        self._changes.append(Change(self._text_place, rest, COMPLETE, append=True))
        self._attach(self._next_key(), "".join(parts))

    def _is_muted(self) -> bool:
        """Whether what comes next does not count; a key's second value is the first such."""
        if self._muted:
            return True
        if self._open and type(self._open[-1].value) is dict and self._key in self._open[-1].value:
            self.repeats = True
            return True
        return False

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
            parent.shape = parent.shape.knowing(str(key), value)

    # --- what is told -----------------------------------------------------------------------------

    def take(self) -> Sequence[Change]:
        """The changes since the last time, in the order of the reply."""
        for container in self._open[self._first_untold() :]:
            container.told = True
            self._changes.append(Change(container.place, container.value.copy(), PARTIAL))
        if self._parts is not None and self._text_grows and self._fresh < len(self._parts):
            text = "".join(self._parts[self._fresh :])
            if not self._text_told:
                self._text_place = self._place(self._next_key())
            self._changes.append(Change(self._text_place, text, PARTIAL, self._text_told))
            self._fresh = len(self._parts)
            self._text_told = True
        if not self._changes:
            return ()
        changes, self._changes = self._changes, []
        return changes

    def _first_untold(self) -> int:
        """The told containers are the outer ones."""
        at = len(self._open)
        while at and not self._open[at - 1].told:
            at -= 1
        return at
