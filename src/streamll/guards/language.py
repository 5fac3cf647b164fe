r"""What a rule's language is to the automaton: states that move by characters.

A match may depend on what follows it (``\b``, ``$``, the edge of a word). A state therefore carries
a *promise*: which kinds of character may come next, as bits. What comes next keeps it or breaks it.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol

EDGE, NEWLINE, ASCII_WORD, UNDERSCORE, WORD, MARK, OTHER = (1 << bit for bit in range(7))
"""Kinds of character; EDGE is the text's start before the first and its end after the last."""

LAST = 1 << 7
"""In a promise: a newline that comes next is the text's last character, as ``$`` wants it."""

ANYTHING = EDGE | NEWLINE | ASCII_WORD | UNDERSCORE | WORD | MARK | OTHER
"""The promise that cannot be broken."""


def kind_of(char: str) -> int:
    r"""The bit of a character's kind; words are made of what ``\w`` matches."""
    if char == "\n":
        return NEWLINE
    if char == "_":
        return UNDERSCORE
    if char.isalnum():
        return ASCII_WORD if char.isascii() else WORD
    return MARK if unicodedata.category(char)[0] == "M" else OTHER


def both(promise: int, other: int) -> int:
    """The promise that keeps two; 0 if nothing can."""
    kinds = promise & other & ANYTHING
    return kinds | ((promise | other) & LAST if kinds & NEWLINE else 0)


def after(promise: int, kind: int) -> int:
    """What is still promised once a character of this kind came; 0 if it broke the promise."""
    if not promise & kind:
        return 0
    return EDGE if kind == NEWLINE and promise & LAST else ANYTHING


def certain(promises: Iterable[int]) -> bool:
    """Whether one of them is kept whatever comes."""
    covered = 0
    for promise in promises:
        covered |= promise & ~NEWLINE if promise & LAST else promise
    return covered & ANYTHING == ANYTHING


State = Any
"""Of a language, after some characters of one possible match; it can be hashed."""

Symbol = Any
"""Characters that a language cannot tell apart have one symbol; it can be hashed."""


class Step(NamedTuple):
    """What one character makes of a state."""

    states: tuple[State, ...] = ()
    """The live ones after it: something that may follow, or the end, completes a match."""
    before: bool = False
    """A match ended before the character."""
    after: bool = False
    """A match ends with the character, whatever follows."""


DEAD = Step()


class Language(Protocol):
    """The texts a rule forbids, read by one character at a time."""

    def symbol(self, char: str) -> Symbol:
        """What the character is to this language; equal symbols have equal kinds."""

    def begin(self, before: int) -> tuple[State, ...]:
        """The live states of a match that begins after a character of this kind."""

    def step(self, state: State, symbol: Symbol) -> Step:
        """What the next character makes of it."""

    def finish(self, state: State) -> int | None:
        """At the text's end: how many characters before it a match ended, None if there is none."""
