"""A regular expression as nodes, of its parse tree: each reads one character, is a place between two, or
is where ways part. What a node leads to is written out, so that nothing has to be counted or gone back to.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from streamll.guards.language import ANYTHING, ASCII_WORD, EDGE, LAST, NEWLINE, UNDERSCORE, WORD

if sys.version_info >= (3, 11):
    from re import _constants as codes  # type: ignore[attr-defined]
    from re import _parser as parser  # type: ignore[attr-defined]
else:
    import sre_constants as codes
    import sre_parse as parser

MOST_STATES = 10_000
LEAF_FLAGS = re.IGNORECASE | re.ASCII | re.UNICODE | re.DOTALL
CATEGORIES = {
    codes.CATEGORY_DIGIT: r"\d",
    codes.CATEGORY_NOT_DIGIT: r"\D",
    codes.CATEGORY_SPACE: r"\s",
    codes.CATEGORY_NOT_SPACE: r"\S",
    codes.CATEGORY_WORD: r"\w",
    codes.CATEGORY_NOT_WORD: r"\W",
}
REFUSED = {
    "GROUPREF": "a backreference",
    "GROUPREF_IGNORE": "a backreference",
    "GROUPREF_EXISTS": "a conditional group",
    "ASSERT": "a lookahead or lookbehind",
    "ASSERT_NOT": "a lookahead or lookbehind",
    "ATOMIC_GROUP": "an atomic group",
    "POSSESSIVE_REPEAT": "a possessive repeat",
}


class Leaf(NamedTuple):
    """One character of a pattern, as a pattern of its own: what it matches is Python's business."""

    source: str
    flags: int


class Edge(NamedTuple):
    """A place between characters: how it narrows what was before, and what may follow."""

    before: int
    after: int
    otherwise: int = 0
    """What may follow where the character before is not in ``before``; 0 for nothing."""


ACCEPT = 0
"""The node at which a match ends; nodes are numbered from their pattern's end."""


class Node(NamedTuple):
    """Reads a leaf, passes an edge, or is where ways part; ``to`` is where it leads."""

    what: Leaf | Edge | None
    to: tuple[int, ...]


class Refused(Exception):
    """A construct that cannot be decided character by character."""


class Net:
    """The nodes of a pattern, built from its end to its start."""

    def __init__(self, pattern: re.Pattern[str]) -> None:
        self.nodes: list[Node] = [Node(None, ())]
        self.start = self._sequence(_parsed(pattern), pattern.flags, ACCEPT)

    def _add(self, what: Leaf | Edge | None, *to: int) -> int:
        if len(self.nodes) > MOST_STATES:
            raise Refused(
                f"it has more than {MOST_STATES:,} states once its repeats are written out"
            )
        self.nodes.append(Node(what, to))
        return len(self.nodes) - 1

    def _sequence(self, items: Any, flags: int, to: int) -> int:
        for op, argument in reversed(list(items)):
            to = self._item(str(op), argument, flags, to)
        return to

    def _item(self, op: str, argument: Any, flags: int, to: int) -> int:
        if op in REFUSED:
            raise Refused(f"it has {REFUSED[op]}")
        build: Callable[[Any, int, int], int] | None = getattr(self, f"_{op.lower()}", None)
        if build is None:
            raise Refused(f"it has a construct ({op.lower()}) that is not known here")
        return build(argument, flags, to)

    def _leaf(self, source: str, flags: int, to: int) -> int:
        return self._add(Leaf(source, flags & LEAF_FLAGS), to)

    def _literal(self, code: int, flags: int, to: int) -> int:
        return self._leaf(f"[{_char(code)}]", flags, to)

    def _not_literal(self, code: int, flags: int, to: int) -> int:
        return self._leaf(f"[^{_char(code)}]", flags, to)

    def _any(self, _: None, flags: int, to: int) -> int:
        return self._leaf(".", flags, to)

    def _in(self, items: Iterable[Any], flags: int, to: int) -> int:
        return self._leaf(f"[{''.join(_set_item(*item) for item in items)}]", flags, to)

    def _branch(self, argument: Any, flags: int, to: int) -> int:
        return self._add(None, *[self._sequence(branch, flags, to) for branch in argument[1]])

    def _subpattern(self, argument: Any, flags: int, to: int) -> int:
        _, added, removed, items = argument
        if added & (re.ASCII | re.UNICODE):
            flags &= ~(re.ASCII | re.UNICODE)
        return self._sequence(items, (flags | added) & ~removed, to)

    def _max_repeat(self, argument: Any, flags: int, to: int) -> int:
        least, most, items = argument
        if most is codes.MAXREPEAT:
            to = self._loop(items, flags, to)
        else:
            end = to
            for _ in range(most - least):
                to = self._add(None, self._sequence(items, flags, to), end)
        for _ in range(least):
            to = self._sequence(items, flags, to)
        return to

    _min_repeat = _max_repeat

    def _loop(self, items: Any, flags: int, to: int) -> int:
        again = self._add(None)
        self.nodes[again] = Node(None, (self._sequence(items, flags, again), to))
        return again

    def _failure(self, _: Any, flags: int, to: int) -> int:
        return self._add(None)

    def _at(self, where: Any, flags: int, to: int) -> int:
        return self._add(_edge(str(where), flags), to)


def _parsed(pattern: re.Pattern[str]) -> Any:
    return parser.parse(pattern.pattern, pattern.flags & ~re.DEBUG)


def _char(code: int) -> str:
    return f"\\U{code:08x}"


def _set_item(op: Any, argument: Any) -> str:
    if op is codes.NEGATE:
        return "^"
    if op is codes.LITERAL:
        return _char(argument)
    if op is codes.RANGE:
        return f"{_char(argument[0])}-{_char(argument[1])}"
    return CATEGORIES[argument]


def _edge(where: str, flags: int) -> Edge:
    words = ASCII_WORD | UNDERSCORE | (0 if flags & re.ASCII else WORD)
    others = ANYTHING & ~words
    lines = bool(flags & re.MULTILINE)
    return {
        "AT_BEGINNING": Edge(EDGE | NEWLINE if lines else EDGE, ANYTHING),
        "AT_BEGINNING_STRING": Edge(EDGE, ANYTHING),
        "AT_END": Edge(ANYTHING, EDGE | NEWLINE | (0 if lines else LAST)),
        "AT_END_STRING": Edge(ANYTHING, EDGE),
        "AT_BOUNDARY": Edge(words, others, words),
        "AT_NON_BOUNDARY": Edge(words, words, others),
    }[where]


def has_nested_repeats(pattern: re.Pattern[str]) -> bool:
    """Whether an unbounded repeat is in another: ``re`` may then take for ever over a text."""
    return _has_nested_repeats(_parsed(pattern), inside=False)


def _has_nested_repeats(items: Any, *, inside: bool) -> bool:
    for op, argument in items:
        if inside and _is_unbounded(op, argument):
            return True
        is_kept = "ATOMIC" in str(op)  # what it has matched is not tried in another way
        within = not is_kept and (inside or _repeats_without_end(op, argument))
        if any(_has_nested_repeats(part, inside=within) for part in _parts(argument)):
            return True
    return False


def _is_unbounded(op: Any, argument: Any) -> bool:
    return str(op) in ("MAX_REPEAT", "MIN_REPEAT") and argument[1] is codes.MAXREPEAT


MOST_TOUCHING = 4
"""Unbounded repeats side by side over which ``re`` still ends: its steps are a power of the length."""


def _repeats_without_end(op: Any, argument: Any) -> bool:
    """Whether it is an unbounded repeat, or as good as one: many, of which nothing need be between."""
    if "REPEAT" not in str(op):
        return False
    _, most, items = argument
    return bool(most is codes.MAXREPEAT or (most > MOST_TOUCHING and not _has_fixed(items)))


def _has_fixed(items: Any) -> bool:
    """Whether whatever it matches has a character that none of its unbounded repeats has read."""
    return any(_is_fixed(str(op), argument) for op, argument in items)


def _is_fixed(op: str, argument: Any) -> bool:
    if "REPEAT" in op:
        least, most, items = argument
        return bool(least and most is not codes.MAXREPEAT and _has_fixed(items))
    if op == "BRANCH":
        return all(map(_has_fixed, argument[1]))
    if op in ("SUBPATTERN", "ATOMIC_GROUP"):
        return any(map(_has_fixed, _parts(argument)))
    return op in ("ANY", "IN", "LITERAL", "NOT_LITERAL")


def _parts(argument: Any) -> Iterator[Any]:
    """The parts of a pattern that an item of its parse tree has."""
    if isinstance(argument, parser.SubPattern):
        yield argument
    elif isinstance(argument, (tuple, list)):
        for each in argument:
            yield from _parts(each)
