"""Splitting text into words or graphemes.

A piece is released only when no further text could change it: when the next one has begun (``e``
and a combining accent may come in two chunks).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal

from streamll.core.errors import ConfigurationError

Unit = Literal["word", "grapheme"]
WORD = re.compile(r"\s*\S+\s*|\s+")


def words(text: str) -> list[str]:
    """Each word with the whitespace around it; joined they are the text."""
    return WORD.findall(text)


def splitter(unit: Unit) -> Callable[[str], list[str]]:
    if unit == "word":
        return words
    if unit == "grapheme":
        import regex  # type: ignore[import-untyped,unused-ignore]

        found: Callable[[str], list[str]] = regex.compile(r"\X").findall
        return found
    raise ConfigurationError(f'a unit is "word" or "grapheme", not {unit!r}')


class Pieces:
    """``feed`` takes chunks and returns whole pieces; ``rest`` returns what may still grow."""

    def __init__(self, unit: Unit) -> None:
        self._split = splitter(unit)
        self._kept = ""

    def feed(self, text: str) -> list[str]:
        pieces = self._split(self._kept + text)
        self._kept = pieces.pop() if pieces else ""
        return pieces

    def rest(self) -> list[str]:
        kept, self._kept = self._kept, ""
        return [kept] if kept else []
