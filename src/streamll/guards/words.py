"""A list of words as a language: one tree of their case-folded characters."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from streamll.guards.language import (
    ANYTHING,
    ASCII_WORD,
    DEAD,
    EDGE,
    MARK,
    WORD,
    Step,
    after,
    certain,
    kind_of,
)

WORD_KINDS = ASCII_WORD | WORD | MARK
NO_WORD = ANYTHING & ~WORD_KINDS


class Tree:
    """The words that begin alike, and whether one of them ends here."""

    __slots__ = ("below", "ends")

    def __init__(self) -> None:
        self.below: dict[str, Tree] = {}
        self.ends = 0
        """The promise under which a word ends here; 0 if none does."""


class At(NamedTuple):
    """A place in the tree; ``tree`` is None for a word that only waits for its edge."""

    tree: Tree | None
    promise: int


class Symbol(NamedTuple):
    """What a character is to a tree: its kind, and what it folds to (None if no word has that)."""

    kind: int
    folded: str | None


class WordsLanguage:
    """Words whatever their case; with ``edges`` never a part of a longer word."""

    def __init__(self, words: Iterable[str], *, edges: bool = True) -> None:
        self._edges = edges
        self._root = Tree()
        self._chars: set[str] = set()
        for word in words:
            self._add(word)

    def _add(self, word: str) -> None:
        tree = self._root
        folded = word.casefold()
        self._chars.update(folded)
        for char in folded:
            tree = tree.below.setdefault(char, Tree())
        needs_edge = self._edges and kind_of(word[-1]) & WORD_KINDS
        tree.ends = NO_WORD if needs_edge else ANYTHING

    def symbol(self, char: str) -> Symbol:
        folded = char.casefold()
        return Symbol(kind_of(char), folded if self._chars.issuperset(folded) else None)

    def begin(self, before: int) -> tuple[At, ...]:
        inside = self._edges and before & WORD_KINDS
        return (At(self._root, NO_WORD if inside else ANYTHING),)

    def step(self, state: Any, symbol: Any) -> Step:
        if not after(state.promise, symbol.kind):
            return DEAD
        if state.tree is None:
            return Step(before=True)
        if symbol.folded is None:
            return DEAD
        tree = state.tree
        for char in symbol.folded:
            tree = tree.below.get(char)
            if tree is None:
                return DEAD
        return self._arrive(tree)

    def _arrive(self, tree: Tree) -> Step:
        ended = certain([tree.ends])
        waits = (At(None, tree.ends),) if tree.ends and not ended else ()
        return Step((*((At(tree, ANYTHING),) if tree.below else ()), *waits), after=ended)

    def finish(self, state: Any) -> int | None:
        return 0 if state.tree is None and state.promise & EDGE else None
