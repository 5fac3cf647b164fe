"""All rules as one automaton, built while it reads.

A state says which states of which languages are live, and in which order their possible matches
began: of several matches in one language state only the earliest counts, since whatever completes
one completes all. So a state is a list of *ranks*, the earliest start first, and who reads keeps one
position for each. What a character does to a state (the next state, where its ranks come from, what
was found) is worked out once. States are kept up to a bound and then forgotten all at once, so that
no text makes this large.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from streamll.guards.language import EDGE, Language, State, Symbol, kind_of

NEW = -1
"""A rank that begins with the character just read."""

MOST_MOVES = 100_000
"""Kept at a time, in all states together."""

Live = tuple[int, State]
"""A rule's number, and a state of its language."""


class Found(NamedTuple):
    """A match that became certain: where it began, whose it is, and whether the character is in it."""

    rank: int
    """The earliest of those found at once; NEW for the character itself."""
    rule: int
    covers: bool
    rules: tuple[int, ...]
    """All rules that found something here, in their order."""


class Node:
    """A state: the kind of the last character, and what is live, by rank."""

    __slots__ = ("before", "moves", "ranks")

    def __init__(self, before: int, ranks: tuple[tuple[Live, ...], ...]) -> None:
        self.before = before
        self.ranks = ranks
        self.moves: dict[str, Move] = {}


class Move(NamedTuple):
    """What a character does."""

    to: Node
    ranks: tuple[int, ...]
    """For each rank of the new state the one it was, or NEW."""
    found: Found | None


class Automaton:
    """The rules' languages, read at once."""

    def __init__(self, languages: Sequence[Language]) -> None:
        self._languages = tuple(languages)
        self._begun: dict[int, tuple[Live, ...]] = {}
        self._symbols: dict[str, tuple[Symbol, ...]] = {}
        self._nodes: dict[tuple[int, tuple[tuple[Live, ...], ...]], Node] = {}
        self._kept = 0
        self.start = Node(EDGE, ())

    def move(self, node: Node, char: str) -> Move:
        """Works out what a character does in a state, and keeps it there."""
        if self._kept >= MOST_MOVES:
            self._forget()
        made = self._work_out(node, char)
        node.moves[char] = made
        self._kept += 1
        return made

    def finish(self, node: Node) -> list[tuple[int, int, int]]:
        """What the text's end completes: rank, rule, and how many characters before it."""
        ends = (
            (rank, rule, self._languages[rule].finish(state))
            for rank, live in enumerate(node.ranks)
            for rule, state in live
        )
        return [(rank, rule, back) for rank, rule, back in ends if back is not None]

    def _forget(self) -> None:
        for node in self._nodes.values():
            node.moves = {}
        self.start.moves = {}
        self._nodes = {}
        self._symbols = {}
        self._kept = 0

    def _work_out(self, node: Node, char: str) -> Move:
        symbols = self._symbols_of(char)
        seen: set[Live] = set()
        found: list[tuple[int, int, bool]] = []
        ranks: list[tuple[int, tuple[Live, ...]]] = []
        for rank, live in [*enumerate(node.ranks), (NEW, self._begin(node.before))]:
            reached = self._advance(rank, live, symbols, found)
            fresh = [each for each in dict.fromkeys(reached) if each not in seen]
            seen.update(fresh)
            if fresh:
                ranks.append((rank, tuple(sorted(fresh, key=lambda each: each[0]))))
        to = self._node(kind_of(char), tuple(live for _, live in ranks))
        return Move(to, tuple(rank for rank, _ in ranks), _earliest(found))

    def _advance(
        self,
        rank: int,
        live: tuple[Live, ...],
        symbols: tuple[Symbol, ...],
        found: list[tuple[int, int, bool]],
    ) -> list[Live]:
        reached: list[Live] = []
        for rule, state in live:
            step = self._languages[rule].step(state, symbols[rule])
            if step.before or step.after:
                found.append((rank, rule, step.after))
            reached += [(rule, each) for each in step.states]
        return reached

    def _begin(self, before: int) -> tuple[Live, ...]:
        known = self._begun.get(before)
        if known is None:
            known = self._begun[before] = tuple(
                (rule, state)
                for rule, language in enumerate(self._languages)
                for state in language.begin(before)
            )
        return known

    def _symbols_of(self, char: str) -> tuple[Symbol, ...]:
        known = self._symbols.get(char)
        if known is None:
            known = tuple(language.symbol(char) for language in self._languages)
            self._symbols[char] = known
        return known

    def _node(self, before: int, ranks: tuple[tuple[Live, ...], ...]) -> Node:
        key = (before, ranks)
        known = self._nodes.get(key)
        if known is None:
            known = self._nodes[key] = Node(before, ranks)
        return known


def _earliest(found: list[tuple[int, int, bool]]) -> Found | None:
    """What was found as one: matches that end before and after a character touch each other."""
    if not found:
        return None
    order = sorted(found, key=lambda each: (each[0] == NEW, each[0], each[1]))
    rank, rule, _ = order[0]
    rules = tuple(sorted({each[1] for each in found}))
    return Found(rank, rule, any(each[2] for each in found), rules)
