"""All rules as one automaton, built while it reads.

A state says which states of which languages are live, and in which order their possible matches
began: of several matches in one language state only the earliest counts, since whatever completes
one completes all. So a state is a list of *ranks*, the earliest start first, and who reads keeps one
position for each. What a character does to a state (the next state, where its ranks come from, what
was found) is worked out once, and so is what a short piece of text does. All of it is kept up to a
bound and then forgotten at once, so that no text makes this large.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from streamll.guards.language import EDGE, Language, State, Symbol, kind_of

NEW = -1
"""In a move: a rank that begins with the character just read."""

MOST_KEPT = 50_000
"""Characters, moves and ways that are kept at a time."""

LONGEST_KEPT = 48
"""Characters of a piece of text whose way is kept."""

Live = tuple[int, State]
"""A rule's number, and a state of its language."""

Ranks = tuple[tuple[Live, ...], ...]


class Found(NamedTuple):
    """What became certain with a character: matches that overlap or touch, as one."""

    rank: int
    """Of the one that began first."""
    rule: int
    """Whose it is; of several with one start the first of them."""
    covers: bool
    """Whether the character is in it, or it ends before the character."""
    rules: tuple[int, ...]
    """All rules that found something here, in their order."""


class Node:
    """A state: the kind of the last character, and what is live, by rank."""

    __slots__ = ("before", "moves", "ranks", "steps", "ways")

    def __init__(self, before: int, ranks: Ranks) -> None:
        self.before = before
        self.ranks = ranks
        self.forget()

    def forget(self) -> None:
        """Where it leads is worked out anew."""
        self.moves: dict[str, Move] = {}
        self.steps: dict[int, Move] = {}
        self.ways: dict[str, Way] = {}


class Move(NamedTuple):
    """What a character does."""

    to: Node
    ranks: tuple[int, ...]
    """For each rank of the new state the one it was, or NEW."""
    found: Found | None
    same: bool
    """Every rank stays what it was, and none is new."""
    quiet: bool
    """Nothing was found, and nothing is live any more."""


class Way(NamedTuple):
    """What a piece of text does. A rank that begins in it is ``~offset``."""

    to: Node
    ranks: tuple[int, ...]
    found: tuple[tuple[int, int, Found], ...]
    """Each with its rank before the piece, and the offset at which it ends."""


class Char(NamedTuple):
    """What a character is to all languages; those with one number are alike."""

    number: int
    kind: int
    symbols: tuple[Symbol, ...]


class Step(NamedTuple):
    """What a character does to the states of one rank."""

    live: tuple[Live, ...]
    found: tuple[tuple[int, bool], ...]
    """Rules, and whether the character is in what they found."""


class Automaton:
    """The rules' languages, read at once. Threads may share it."""

    def __init__(self, languages: Sequence[Language]) -> None:
        self._languages = tuple(languages)
        self.start = Node(EDGE, ())
        self._begun: dict[int, tuple[Live, ...]] = {}
        self._forget()

    def way(self, node: Node, text: str) -> Way:
        """Works out what a piece of text does in a state, and keeps it there."""
        to = node
        ranks = list(range(len(node.ranks)))
        found: list[tuple[int, int, Found]] = []
        for at, char in enumerate(text):
            move = to.moves.get(char) or self.move(to, char)
            if move.found is not None:
                rank = move.found.rank
                start = ~at if rank == NEW else ranks[rank]
                found.append((start, at + move.found.covers, move.found))
            if not move.same:
                ranks = [~at if rank == NEW else ranks[rank] for rank in move.ranks]
            to = move.to
        way = Way(to, tuple(ranks), tuple(found))
        if len(text) <= LONGEST_KEPT:
            self._count()
            node.ways[text] = way
        return way

    def move(self, node: Node, char: str) -> Move:
        """Works out what a character does in a state, and keeps it there."""
        self._count()
        known = self._chars.get(char) or self._look_at(char)
        move = node.steps.get(known.number)
        if move is None:
            move = node.steps[known.number] = self._work_out(node, known)
        node.moves[char] = move
        return move

    def finish(self, node: Node) -> list[tuple[int, int, int]]:
        """What the text's end completes: rank, rule, and how many characters before it."""
        ends = (
            (rank, rule, self._languages[rule].finish(state))
            for rank, live in enumerate(node.ranks)
            for rule, state in live
        )
        return [(rank, rule, back) for rank, rule, back in ends if back is not None]

    def _count(self) -> None:
        self._kept += 1
        if self._kept > MOST_KEPT:
            for node in list(self._nodes.values()):
                node.forget()
            self._forget()

    def _forget(self) -> None:
        self.start.forget()
        self._kept = 0
        self._nodes: dict[tuple[int, Ranks], Node] = {(EDGE, ()): self.start}
        self._chars: dict[str, Char] = {}
        self._numbers: dict[tuple[Symbol, ...], int] = {}
        self._first: dict[tuple[int, int], Step] = {}

    def _work_out(self, node: Node, char: Char) -> Move:
        steps = [(rank, self._step(live, char)) for rank, live in enumerate(node.ranks)]
        steps.append((NEW, self._begin(node.before, char)))
        seen: set[Live] = set()
        ranks: list[int] = []
        lives: list[tuple[Live, ...]] = []
        for rank, step in steps:
            if fresh := tuple(each for each in step.live if each not in seen):
                seen.update(fresh)
                ranks.append(rank)
                lives.append(fresh)
        found = _earliest(steps)
        return Move(
            self._node(char.kind, tuple(lives)),
            tuple(ranks),
            found,
            same=ranks == list(range(len(node.ranks))),
            quiet=not ranks and found is None,
        )

    def _step(self, live: tuple[Live, ...], char: Char) -> Step:
        reached: dict[Live, None] = {}
        found: list[tuple[int, bool]] = []
        for rule, state in live:
            step = self._languages[rule].step(state, char.symbols[rule])
            if step.before or step.after:
                found.append((rule, step.after))
            reached.update(dict.fromkeys((rule, each) for each in step.states))
        return Step(tuple(reached), tuple(found))

    def _begin(self, before: int, char: Char) -> Step:
        known = self._first.get((before, char.number))
        if known is None:
            known = self._step(self._beginnings(before), char)
            self._first[before, char.number] = known
        return known

    def _beginnings(self, before: int) -> tuple[Live, ...]:
        known = self._begun.get(before)
        if known is None:
            known = self._begun[before] = tuple(
                (rule, state)
                for rule, language in enumerate(self._languages)
                for state in language.begin(before)
            )
        return known

    def _look_at(self, char: str) -> Char:
        self._count()
        symbols = tuple(language.symbol(char) for language in self._languages)
        number = self._numbers.setdefault((kind_of(char), *symbols), len(self._numbers))
        known = self._chars[char] = Char(number, kind_of(char), symbols)
        return known

    def _node(self, before: int, ranks: Ranks) -> Node:
        known = self._nodes.get((before, ranks))
        if known is None:
            known = self._nodes[before, ranks] = Node(before, ranks)
        return known


def _earliest(steps: list[tuple[int, Step]]) -> Found | None:
    """What was found as one: matches that end before and after a character touch each other."""
    found = [(rank, rule, covers) for rank, step in steps for rule, covers in step.found]
    if not found:
        return None
    first = found[0][0]
    return Found(
        rank=first,
        rule=min(rule for rank, rule, _ in found if rank == first),
        covers=any(covers for _, _, covers in found),
        rules=tuple(sorted({rule for _, rule, _ in found})),
    )
