"""A regular expression as a language: positions in its parse tree instead of backtracking."""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Hashable, Iterator
from typing import Any, NamedTuple, Protocol

from streamll.core.errors import ConfigurationError
from streamll.guards.language import (
    ANYTHING,
    DEAD,
    EDGE,
    OTHER,
    Step,
    after,
    both,
    certain,
    kind_of,
)
from streamll.guards.leaves import all_kinds, matcher, some_kinds
from streamll.guards.nodes import ACCEPT, Leaf, Net, Refused, has_nested_repeats

MOST_WAYS = 100_000  # from one state to the next
MOST_KNOWN = 100_000  # states of which it is remembered whether they are live


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


def check_held(name: str, pattern: re.Pattern[str]) -> None:
    """Looks whether ``re`` can be trusted with a whole text.

    Raises: ConfigurationError, if an unbounded repeat is in another.
    """
    if has_nested_repeats(pattern):
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
