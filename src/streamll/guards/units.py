"""Units: the parts of a text that a check is asked about one by one.

Text in, whole units out. Where one ends depends on the text alone, never on the pieces it comes in, and
the units put together are the text again.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

SENTENCE_LIMIT = 2_000
"""Characters after which a sentence without an end is cut, at its last white space if it has any: a
table or code is not held until the reply is over."""

MARKS: Final = frozenset(".!?…؟۔।॥።")
"""End a sentence where white space follows."""
WIDE_MARKS: Final = frozenset("。！？｡")
"""End a sentence whatever follows: Chinese and Japanese have no spaces between sentences."""
CLOSERS: Final = frozenset("\"'`*_)]}’”»›」』】〉》）］｝〕〗")
"""Belong to the sentence whose end they follow."""

_OPEN, _MARKED, _WIDE = range(3)
"""What a sentence's last characters are: anything, marks, or marks that end it in any case."""


class Units(ABC):
    """Cuts one text into units."""

    strips = False
    """Whether white space around a unit is no part of what is asked about."""

    def __init__(self) -> None:
        self._parts: list[str] = []

    @abstractmethod
    def feed(self, text: str) -> list[str]:
        """The units that end with or in the next piece of text."""

    def finish(self) -> list[str]:
        """The text is over: the rest of it is a unit."""
        rest = "".join(self._parts)
        self._parts.clear()
        return [rest] if rest else []


class Whole(Units):
    """The text is one unit."""

    def feed(self, text: str) -> list[str]:
        self._parts.append(text)
        return []


class Lines(Units):
    """Units end with a newline, which belongs to them."""

    strips = True

    def feed(self, text: str) -> list[str]:
        *ends, rest = text.split("\n")
        ended = []
        for end in ends:
            ended.append("".join((*self._parts, end, "\n")))
            self._parts.clear()
        self._parts.append(rest)
        return ended


class Characters(Units):
    """Units of ``size`` characters; the last one may be shorter."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size = size
        self._missing = size

    def feed(self, text: str) -> list[str]:
        ended, begin = [], 0
        while len(text) - begin >= self._missing:
            end = begin + self._missing
            ended.append("".join((*self._parts, text[begin:end])))
            self._parts.clear()
            begin, self._missing = end, self._size
        self._parts.append(text[begin:])
        self._missing -= len(text) - begin
        return ended


class Sentences(Units):
    """Units end with a newline, or with marks, closing quotes and brackets, and white space.

    Abbreviations are not known: ``e.g. this`` is two units.
    """

    strips = True

    def __init__(self) -> None:
        super().__init__()
        self._state = _OPEN
        self._length = 0
        self._space = 0  # where the last white space in the unit ends

    def feed(self, text: str) -> list[str]:
        ended: list[str] = []
        begin = 0  # of the unit, in this piece
        for place, char in enumerate(text):
            end = self._ends(char)
            if end is not None:
                begin = self._cut(ended, text, begin, place + end)
            self._length += end != 1
            if char.isspace() and end is None:
                self._space = self._length
            if self._length == SENTENCE_LIMIT:
                self._parts.append(text[begin : place + 1])
                self._cut_long(ended)
                begin = place + 1
        self._parts.append(text[begin:])
        return ended

    def _ends(self, char: str) -> int | None:
        """Whether the sentence ends before this character (0), with it (1), or goes on (None)."""
        before = self._state
        if char in WIDE_MARKS:
            self._state = _WIDE
        elif char in MARKS:
            self._state = max(before, _MARKED)
        elif not (before and char in CLOSERS):
            self._state = _OPEN
            if char == "\n" or (before and char.isspace()):
                return 1
            return 0 if before == _WIDE else None
        return None

    def _cut(self, ended: list[str], text: str, begin: int, end: int) -> int:
        ended.append("".join((*self._parts, text[begin:end])))
        self._parts.clear()
        self._length = self._space = 0
        return end

    def _cut_long(self, ended: list[str]) -> None:
        unit = "".join(self._parts)
        end = self._space or len(unit)
        ended.append(unit[:end])
        self._parts[:] = [unit[end:]]
        self._length, self._space = len(unit) - end, 0


NAMED: Mapping[str, Callable[[], Units]] = MappingProxyType(
    {"sentence": Sentences, "line": Lines, "field": Whole}
)
"""The units that have a name."""


def units_of(unit: str | int) -> Units:
    """What cuts a text into ``"sentence"``, ``"line"``, ``"field"`` or a number of characters."""
    if isinstance(unit, int):
        return Characters(unit)
    return NAMED[unit]()
