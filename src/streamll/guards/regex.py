"""A regular expression as a language: positions in its parse tree instead of backtracking."""

from __future__ import annotations

import re
import string
import sys
from collections.abc import Callable, Hashable, Iterable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

from streamll.core.errors import ConfigurationError
from streamll.guards.language import (
    ANYTHING,
    ASCII_WORD,
    DEAD,
    EDGE,
    LAST,
    MARK,
    NEWLINE,
    OTHER,
    WORD,
    Step,
    after,
    both,
    certain,
    kind_of,
)

if sys.version_info >= (3, 11):
    from re import _constants as codes  # type: ignore[attr-defined]
    from re import _parser as parser  # type: ignore[attr-defined]
else:
    import sre_constants as codes
    import sre_parse as parser

MOST_STATES = 10_000
MOST_WAYS = 100_000  # from one state to the next
MOST_KNOWN = 100_000  # states of which it is remembered whether they are live
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


class Checksum(Hashable, Protocol):
    """A finite check that goes with a pattern's characters: Luhn, or a remainder."""

    alphabet: str
    """The characters that count; all others leave a state what it is, or make all of it alike."""
    start: Hashable
    free: int
    """After so many digits in a row, where any may stand at each place, it can be made to accept."""

    def step(self, state: Any, char: str) -> Any:
        """The state after one more character."""

    def accepts(self, state: Any) -> bool:
        """Whether what was read may end here."""


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
        self.start = self._sequence(
            parser.parse(pattern.pattern, pattern.flags & ~re.DEBUG), pattern.flags, ACCEPT
        )

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
    words = ASCII_WORD if flags & re.ASCII else ASCII_WORD | WORD
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


# What a leaf matches


EXAMPLES = "".join(map(chr, range(256))) + "ıſKΑαЖж中١\u0301―\u2028\ud800\U0001f600"
"""All of ASCII, and some of each other kind."""


@lru_cache(maxsize=4096)
def matcher(leaf: Leaf) -> re.Pattern[str]:
    """The leaf as Python's own engine reads it."""
    return re.compile(leaf.source, leaf.flags)


@lru_cache(maxsize=4096)
def some_kinds(leaf: Leaf, without: str) -> frozenset[int]:
    """Kinds of character that it matches, as far as a look at a few tells; an alphabet's left out."""
    found = matcher(leaf).findall(EXAMPLES)
    return frozenset(kind_of(char) for char in found if char not in without)


_ASCII = r"\\U000000[0-7][0-9a-f]"
_PLAIN_SET = re.compile(rf"\[(?:{_ASCII}(?:-{_ASCII})?|\\[dws])*\]")
"""Leaves of which the examples tell all, whatever their flags."""


@lru_cache(maxsize=4096)
def all_kinds(leaf: Leaf, without: str) -> frozenset[int]:
    """The same for certain: by a look at what it lists, or at every character beyond ASCII."""
    if _PLAIN_SET.fullmatch(leaf.source):
        return some_kinds(leaf, without)
    if (listed := _listed(leaf)) is not None:
        return frozenset(kind_of(char) for char in listed if char not in without)
    return some_kinds(leaf, without) | {
        kind
        for kind in (WORD, MARK, OTHER)
        if any(match[0] not in without for match in matcher(leaf).finditer(_characters()[kind]))
    }


_LIST = re.compile(r"\[(?:\\U[0-9a-f]{8}(?:-\\U[0-9a-f]{8})?)+\]")
_RANGE = re.compile(r"\\U([0-9a-f]{8})(?:-\\U([0-9a-f]{8}))?")
MOST_LISTED = 50_000


def _listed(leaf: Leaf) -> str | None:
    """The characters that it lists, if it says no more than that, and they are not too many."""
    if leaf.flags & re.IGNORECASE or not _LIST.fullmatch(leaf.source):
        return None
    ends = [(int(first, 16), int(last or first, 16)) for first, last in _RANGE.findall(leaf.source)]
    if sum(last - first for first, last in ends) > MOST_LISTED:
        return None
    return "".join(chr(code) for first, last in ends for code in range(first, last + 1))


@lru_cache(maxsize=1)
def _characters() -> dict[int, str]:
    """Every character there is, by kind."""
    kinds: dict[int, list[str]] = {}
    for char in map(chr, range(sys.maxunicode + 1)):
        kinds.setdefault(kind_of(char), []).append(char)
    return {kind: "".join(chars) for kind, chars in kinds.items()}


# States


class Read(NamedTuple):
    """Some characters of a match are read, ``node`` comes next; at ACCEPT it only waits."""

    node: int
    promise: int
    checked: Any
    back: int = 0
    """At ACCEPT: how many characters ago it ended."""


class RegexLanguage:
    """The texts that a regular expression matches, and its checksum accepts."""

    def __init__(self, pattern: re.Pattern[str], valid: Checksum | None = None) -> None:
        net = Net(pattern)
        self._nodes, self._start = net.nodes, net.start
        self._valid = valid
        self._leaves = list(dict.fromkeys(n.what for n in net.nodes if isinstance(n.what, Leaf)))
        places = {leaf: place for place, leaf in enumerate(self._leaves)}
        self._bits = [1 << places[n.what] if isinstance(n.what, Leaf) else 0 for n in net.nodes]
        self._reached: dict[tuple[int, int], tuple[tuple[int, int], ...]] = {}
        self._live: dict[Read, bool] = {}
        self._free: dict[tuple[int, int], bool] = {}
        self._rows: dict[int, tuple[tuple[int, int | None], ...]] = {}
        self._symbols: dict[tuple[int, Kinds], tuple[Symbol, ...]] = {}
        self._count_ways()

    def _count_ways(self) -> None:
        """Refuses a pattern most parts of which may be left out: there are too many next ones."""
        ways = 0
        for node in self._nodes:
            if isinstance(node.what, Leaf):
                ways += len(self._reach(node.to[0], OTHER))
                if ways > MOST_WAYS:
                    raise Refused(f"it can go on in more than {MOST_WAYS:,} ways")

    def symbol(self, char: str) -> Symbol:
        bits = sum(1 << n for n, leaf in enumerate(self._leaves) if matcher(leaf).match(char))
        counts = self._valid is not None and char in self._valid.alphabet
        return Symbol(bits, kind_of(char), char if counts else _OUTSIDE)

    def begin(self, before: int) -> tuple[Read, ...]:
        start = self._valid.start if self._valid else None
        ways = self._reach(self._start, before)
        begun = (Read(node, promise, start) for node, promise in ways if node != ACCEPT)
        return tuple(state for state in begun if self._is_live(state))

    def step(self, state: Any, symbol: Any) -> Step:
        return self._step(state, symbol, self._is_live)

    def finish(self, state: Any) -> int | None:
        return state.back if state.node == ACCEPT and state.promise & EDGE else None

    def _step(self, state: Read, symbol: Symbol, keep: Callable[[Read], bool]) -> Step:
        left = after(state.promise, symbol.kind)
        if not left:
            return DEAD
        if state.node == ACCEPT:
            ended = left == ANYTHING
            return Step(() if ended else (state._replace(promise=left, back=1),), before=ended)
        if not symbol.leaves & self._bits[state.node]:
            return DEAD
        return self._read(state, symbol, left, keep)

    def _read(self, state: Read, symbol: Symbol, left: int, keep: Callable[[Read], bool]) -> Step:
        checked = self._valid.step(state.checked, symbol.char) if self._valid else None
        ways = [
            (node, both(promise, left))
            for node, promise in self._reach(self._nodes[state.node].to[0], symbol.kind)
        ]
        ends = [promise for node, promise in ways if node == ACCEPT and promise]
        if ends and self._valid and not self._valid.accepts(checked):
            ends = []
        ended = certain(ends)
        states = [Read(node, promise, checked) for node, promise in ways if node and promise]
        if not ended:
            states += [Read(ACCEPT, promise, None) for promise in ends]
        return Step(tuple(filter(keep, dict.fromkeys(states))), after=ended)

    def _reach(self, node: int, before: int) -> tuple[tuple[int, int], ...]:
        """The leaves (and the end) that follow without reading, each with what it promises."""
        known = self._reached.get((node, before))
        if known is None:
            known = self._reached[node, before] = tuple(self._follow(node, before))
        return known

    def _follow(self, node: int, before: int) -> Iterator[tuple[int, int]]:
        seen = {(node, ANYTHING)}
        waiting = [(node, ANYTHING)]
        while waiting:
            at, promise = waiting.pop()
            what, to = self._nodes[at]
            if at == ACCEPT or isinstance(what, Leaf):
                yield at, promise
                continue
            if what is not None:
                promise = both(promise, what.after if before & what.before else what.otherwise)
            ways = [(way, promise) for way in to if promise and (way, promise) not in seen]
            seen.update(ways)
            waiting += reversed(ways)

    # Liveness

    def _is_live(self, state: Read) -> bool:
        if state.node == ACCEPT:
            return True
        if self._valid and self._is_free(state.node, state.promise):
            return True
        known = self._live.get(state)
        return self._search(state) if known is None else known

    def _is_free(self, node: int, promise: int) -> bool:
        """Whether a match can end from here, whatever the checksum has read."""
        known = self._free.get((node, promise))
        if known is None:
            known = self._free[node, promise] = self._finds_free_way(node, promise)
        return known

    def _finds_free_way(self, node: int, promise: int) -> bool:
        assert self._valid
        seen = {(node, promise, 0)}
        waiting = [(node, promise, 0)]
        while waiting:
            at, promise, digits = waiting.pop()
            for kind, counted in self._steps_of(at):
                if not (left := after(promise, kind)):
                    continue
                row = digits
                if digits < self._valid.free and counted is not None:
                    row = (digits + 1) * counted
                ways = [
                    (to, kept, row)
                    for to, then in self._reach(self._nodes[at].to[0], kind)
                    if (kept := both(then, left))
                ]
                if row >= self._valid.free and any(to == ACCEPT for to, _, _ in ways):
                    return True
                fresh = [way for way in ways if way[0] != ACCEPT and way not in seen]
                seen.update(fresh)
                waiting += fresh
        return False

    def _steps_of(self, node: int) -> tuple[tuple[int, int | None], ...]:
        """A node's kinds of character, and what each does to a row of free digits.

        Any digit makes it longer (1), another character that the checksum counts breaks it (0).
        """
        bit = self._bits[node]
        known = self._rows.get(bit)
        if known is None:
            symbols = self._symbols_of(node, some_kinds)
            free = {symbol.char for symbol in symbols}.issuperset(string.digits)
            steps = dict.fromkeys((s.kind, _in_row(s.char, free)) for s in symbols)
            known = self._rows[bit] = tuple(steps)
        return known

    def _search(self, start: Read) -> bool:
        """Whether any continuation completes it; what is found out on the way is kept for a while."""
        if len(self._live) > MOST_KNOWN:
            self._live.clear()
        if self._finds_way(start, some_kinds) or self._finds_way(start, all_kinds):
            return True
        self._live[start] = False
        return False

    def _finds_way(self, start: Read, kinds: Kinds) -> bool:
        came_from: dict[Read, Read | None] = {start: None}
        waiting = [start]
        while waiting:
            state = waiting.pop()
            for symbol in self._symbols_of(state.node, kinds):
                step = self._step(state, symbol, lambda _: True)
                if step.after or any(self._live.get(s, s.node == ACCEPT) for s in step.states):
                    self._mark_way(state, came_from)
                    return True
                fresh = [s for s in step.states if s not in came_from and s not in self._live]
                came_from.update(dict.fromkeys(fresh, state))
                waiting += fresh
        if kinds is all_kinds:
            self._live.update(dict.fromkeys(came_from, False))
        return False

    def _mark_way(self, state: Read | None, came_from: dict[Read, Read | None]) -> None:
        while state is not None:
            self._live[state] = True
            state = came_from[state]

    def _symbols_of(self, node: int, kinds: Kinds) -> tuple[Symbol, ...]:
        """One symbol for each way in which a character of the node's leaf can matter."""
        bit = self._bits[node]
        known = self._symbols.get((bit, kinds))
        if known is None:
            leaf = self._nodes[node].what
            assert isinstance(leaf, Leaf)
            known = self._symbols[bit, kinds] = tuple(self._ways_to_match(leaf, bit, kinds))
        return known

    def _ways_to_match(self, leaf: Leaf, bit: int, kinds: Kinds) -> Iterator[Symbol]:
        alphabet = self._valid.alphabet if self._valid else ""
        for char in matcher(leaf).findall(alphabet):
            yield Symbol(bit, kind_of(char), char)
        for kind in kinds(leaf, alphabet):
            yield Symbol(bit, kind, _OUTSIDE)


Kinds = Callable[[Leaf, str], frozenset[int]]


def _in_row(char: str, free: bool) -> int | None:
    if char == _OUTSIDE:
        return None
    return int(free and char in string.digits)


_OUTSIDE = "\0"
"""Stands for every character that a checksum does not know."""


class Symbol(NamedTuple):
    """What a character is to a pattern."""

    leaves: int
    """A bit for each leaf that matches it."""
    kind: int
    char: str
    """Itself, if the checksum counts it."""


def repeats_repeats(items: Any, *, inside: bool = False) -> bool:
    """Whether an unbounded repeat is in another: ``re`` may then take for ever over a text."""
    for op, argument in items:
        unbounded = "REPEAT" in str(op) and argument[1] is codes.MAXREPEAT
        if unbounded and inside:
            return True
        if any(repeats_repeats(part, inside=inside or unbounded) for part in _parts(argument)):
            return True
    return False


def _parts(argument: Any) -> Iterator[Any]:
    """The parts of a pattern that an item of its parse tree has."""
    if isinstance(argument, parser.SubPattern):
        yield argument
    elif isinstance(argument, (tuple, list)):
        for each in argument:
            yield from _parts(each)


def check_held(name: str, pattern: re.Pattern[str]) -> None:
    """Looks whether ``re`` can be trusted with a whole text.

    Raises: ConfigurationError, if an unbounded repeat is in another.
    """
    if repeats_repeats(parser.parse(pattern.pattern, pattern.flags & ~re.DEBUG)):
        raise ConfigurationError(
            f"guard {name!r}: the pattern {pattern.pattern!r} has an unbounded repeat in another, over "
            "which a held text could take for ever; write it with one, or without hold"
        )


def language_of(
    name: str, pattern: re.Pattern[str], valid: Checksum | None = None
) -> RegexLanguage:
    """The language of a rule's pattern.

    Raises: ConfigurationError, if it cannot be read character by character.
    """
    try:
        return RegexLanguage(pattern, valid)
    except Refused as refusal:
        raise ConfigurationError(
            f"guard {name!r}: the pattern {pattern.pattern!r} cannot be decided as text arrives: "
            f"{refusal}; write it without, or give hold=True, which holds a text to its end"
        ) from None
