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
from itertools import count
from typing import NamedTuple

from streamll.guards.language import EDGE, Language, State, Symbol, kind_of

NEW = -1
"""In a move: a rank that begins with the character just read."""

MOST_KEPT = 100_000
"""Moves, ways and states that are kept at a time; of states with many ranks fewer."""

MOST_CHARS = 20_000
"""Different characters that are."""

LONGEST_KEPT = 48
"""Characters of a piece of text whose way is kept."""


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


class Live:
    """A live state of one rule's language; there is one object for each, until all is forgotten."""

    __slots__ = ("alone", "rule", "state", "steps")

    def __init__(self, rule: int, state: State) -> None:
        self.rule = rule
        self.state = state
        self.alone = frozenset((self,))
        self.steps: dict[int, Step] = {}


class Step(NamedTuple):
    """What a character does to some live states: what they become, and what was found."""

    live: tuple[Live, ...]
    found: tuple[tuple[int, bool], ...]
    """Rules, and whether the character is in what they found."""


Ranks = tuple[frozenset[Live], ...]


class Node:
    """A state: the kind of the last character, and what is live, by rank."""

    __slots__ = ("after", "before", "moves", "ranks", "steps", "ways")

    def __init__(self, before: int, ranks: Ranks) -> None:
        self.before = before
        self.ranks = ranks
        self.forget()

    def forget(self) -> None:
        """Where it leads is worked out anew."""
        self.moves: dict[str, Move] = {}
        self.steps: dict[int, Move] = {}
        self.ways: dict[str, Way] = {}
        self.after: dict[str, Way] = {}
        """Of pieces whose first character led here, with nothing live or found."""


class Move:
    """What a character does."""

    __slots__ = ("found", "quiet", "ranks", "same", "to")

    def __init__(
        self, to: Node, ranks: tuple[int, ...], found: Found | None, *, same: bool
    ) -> None:
        self.to = to
        self.ranks = ranks
        """For each rank of the new state the one it was, or NEW."""
        self.found = found
        self.same = same
        """Every rank stays what it was, and none is new."""
        self.quiet = not ranks and found is None
        """Nothing was found, and nothing is live any more."""


class Way:
    """What a piece of text does. A rank that begins in it is ``~offset``."""

    __slots__ = ("found", "is_clear", "is_more", "length", "out", "ranks", "tail", "to")

    def __init__(
        self, text: str, to: Node, ranks: list[int], found: list[tuple[int, int, Found]]
    ) -> None:
        self.to = to
        self.ranks = ranks
        self.found = found
        """Each with its rank before the piece, and the offset at which it ends."""
        self.is_clear = not found and (not ranks or ranks[0] < 0)
        """Nothing was found, and all that was live before is not any more."""
        self.is_more = not found and bool(ranks) and not ranks[0]
        """Nothing was found, and what was live first still is."""
        self.length = len(text)
        free = ~ranks[0] if self.is_clear and ranks else len(text)
        self.out = text[:free]
        """If it is clear: what can go out, together with all before it; ``tail`` is the rest."""
        self.tail = text[free:]


class Char(NamedTuple):
    """What a character is to all languages; those with one number are alike."""

    number: int
    kind: int
    symbols: tuple[Symbol, ...]


class Automaton:
    """The rules' languages, read at once. Threads may share it."""

    def __init__(self, languages: Sequence[Language]) -> None:
        self._languages = tuple(languages)
        self.start = Node(EDGE, ())
        self._counter = count()  # never starts anew: what another thread still keeps stays right
        self._chars: dict[str, Char] = {}
        self._numbers: dict[tuple[Symbol, ...], int] = {}
        self._lives: dict[tuple[int, State], Live] = {}
        self._nodes: dict[tuple[int, Ranks], Node] = {}
        self._forget()

    def way(self, node: Node, text: str) -> Way:
        """What a piece of text does in a state; that of a short one is kept."""
        if node.ranks:
            move = node.moves.get(text[0]) or self.move(node, text[0])
            if move.quiet:  # most of what is live ends here: what follows is common
                return self._way_after(move.to, text)
        return node.ways.get(text) or self._keep(node.ways, text, self._walk(node, text, 0))

    def _way_after(self, node: Node, text: str) -> Way:
        return node.after.get(text) or self._keep(node.after, text, self._walk(node, text, 1))

    def _keep(self, kept: dict[str, Way], text: str, way: Way) -> Way:
        if len(text) <= LONGEST_KEPT:
            kept[text] = way
            self._count()
        return way

    def _walk(self, node: Node, text: str, first: int) -> Way:
        """What the characters from ``first`` on do."""
        to = node
        ranks = list(range(len(node.ranks)))
        found: list[tuple[int, int, Found]] = []
        for at in range(first, len(text)):
            char = text[at]
            move = to.moves.get(char) or self.move(to, char)
            if move.found is not None:
                rank = move.found.rank
                start = ~at if rank == NEW else ranks[rank]
                found.append((start, at + move.found.covers, move.found))
            if not move.same:
                ranks = [~at if rank == NEW else ranks[rank] for rank in move.ranks]
            to = move.to
        return Way(text, to, ranks, found)

    def move(self, node: Node, char: str) -> Move:
        """Works out what a character does in a state, and keeps it there."""
        known = self._chars.get(char) or self._look_at(char)
        move = node.steps.get(known.number)
        if move is None:
            move = node.steps[known.number] = self._work_out(node, known)
        node.moves[char] = move
        self._count()
        return move

    def finish(self, node: Node) -> list[tuple[int, int, int]]:
        """What the text's end completes: rank, rule, and how many characters before it."""
        ends = (
            (rank, each.rule, self._languages[each.rule].finish(each.state))
            for rank, live in enumerate(node.ranks)
            for each in live
        )
        return sorted((rank, rule, back) for rank, rule, back in ends if back is not None)

    def ended(self, node: Node, rank: int) -> set[int] | None:
        """The rules that match up to the last character and without it, if the text ends here; ``None``
        if anything else of this rank is live.
        """
        live = node.ranks[rank]
        ends = {self._languages[each.rule].finish(each.state) for each in live}
        return {each.rule for each in live} if ends == {1} else None

    def _count(self, more: int = 0) -> None:
        self._kept += 1 + more
        if self._kept > MOST_KEPT:
            self._forget()

    def _forget(self) -> None:
        """Who still reads has its state; from there all is worked out anew."""
        for live in list(self._lives.values()):
            live.steps = {}
        for node in list(self._nodes.values()):
            node.forget()
        self.start.forget()
        self._kept = 0
        self._lives = {}
        self._nodes = {(EDGE, ()): self.start}
        self._begun: dict[int, Live] = {}

    def _work_out(self, node: Node, char: Char) -> Move:
        number, old = char.number, node.ranks
        found: list[tuple[int, Step]] = []
        seen: set[Live] = set()
        ranks: list[int] = []
        lives: list[frozenset[Live]] = []
        for rank, live in enumerate((*old, self._beginning(node.before).alone)):
            fresh: list[Live] = []
            for each in live:
                step = each.steps.get(number) or self._step(each, char)
                if step.found:
                    found.append((rank, step))
                fresh += [live for live in step.live if live not in seen]
            if fresh:
                seen.update(fresh)
                ranks.append(rank if rank < len(old) else NEW)
                lives.append(fresh[0].alone if len(fresh) == 1 else frozenset(fresh))
        same = ranks == list(range(len(old)))
        to = self._node(char.kind, tuple(lives))
        return Move(to, tuple(ranks), _earliest(found, len(old)), same=same)

    def _step(self, live: Live, char: Char) -> Step:
        states = live.state if live.rule == NEW else ((live.rule, live.state),)
        step = live.steps[char.number] = self._work_out_step(states, char)
        self._count()
        return step

    def _work_out_step(self, states: Sequence[tuple[int, State]], char: Char) -> Step:
        reached: dict[Live, None] = {}
        found: list[tuple[int, bool]] = []
        for rule, state in states:
            step = self._languages[rule].step(state, char.symbols[rule])
            if step.before or step.after:
                found.append((rule, step.after))
            reached.update(dict.fromkeys(self._live(rule, each) for each in step.states))
        return Step(tuple(reached), tuple(found))

    def _beginning(self, before: int) -> Live:
        """All rules' states before their first character, as one."""
        known = self._begun.get(before)
        if known is None:
            states = [
                (rule, state)
                for rule, language in enumerate(self._languages)
                for state in language.begin(before)
            ]
            known = self._begun[before] = self._live(NEW, tuple(states))
        return known

    def _look_at(self, char: str) -> Char:
        if len(self._chars) >= MOST_CHARS:
            self._chars, self._numbers = {}, {}
        symbols = tuple(language.symbol(char) for language in self._languages)
        key = (kind_of(char), *symbols)
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = next(self._counter)
        known = self._chars[char] = Char(number, kind_of(char), symbols)
        return known

    def _live(self, rule: int, state: State) -> Live:
        known = self._lives.get((rule, state))
        if known is None:
            known = self._lives[rule, state] = Live(rule, state)
        return known

    def _node(self, before: int, ranks: Ranks) -> Node:
        known = self._nodes.get((before, ranks))
        if known is None:
            known = self._nodes[before, ranks] = Node(before, ranks)
            self._count(len(ranks) // 4)
        return known


def _earliest(steps: list[tuple[int, Step]], new: int) -> Found | None:
    """What was found as one: matches that end before and after a character touch each other."""
    if not steps:
        return None
    first = steps[0][0]
    found = [each for _, step in steps for each in step.found]
    return Found(
        rank=first if first < new else NEW,
        rule=min(rule for rank, step in steps if rank == first for rule, _ in step.found),
        covers=any(covers for _, covers in found),
        rules=tuple(sorted({rule for rule, _ in found})),
    )
