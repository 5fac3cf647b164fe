"""One text, guarded as it arrives: what can no longer become forbidden goes out at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from streamll.guards.automaton import NEW
from streamll.guards.forms import FORMS
from streamll.guards.rules import Guard, Ruleset

Form = Literal["plain", "json", "xml"]


@dataclass
class Hit:
    """A guard found something: ``offset`` is the number of released characters before it."""

    guard: Guard
    offset: int


@dataclass
class Run:
    """Forbidden characters side by side: from, to, whose mask stands for them, and who closes."""

    start: int
    end: int
    guard: Guard
    closer: Guard | None


class TextGuard:
    """One text under some rules: pieces in, what may go out.

    ``form`` says how the text is written: ``"plain"``, or the raw text of ``"json"`` or ``"xml"``,
    whose escapes are read as the characters they stand for. What was found is put into ``hits``, for
    the caller to take. Once a rule that drops, replaces or stops has found something the text is
    ``closed``, by ``closed_by``, and gives nothing more.
    """

    def __init__(self, rules: Ruleset, form: Form = "plain") -> None:
        self.hits: list[Hit] = []
        self.closed_by: Guard | None = None
        self._rules = rules
        self._form = FORMS[form]()
        self._node = rules.automaton.start
        self._starts: list[int] = []
        self._length = 0
        self._held: list[str] = []  # the raw text of each character from `_out` on
        self._chars: list[str] = []  # what they are, if whole texts are looked at
        self._out = 0
        self._in_mask = False  # the last thing that went out is a mask
        self._released = 0
        self._runs: list[Run] = []

    @property
    def closed(self) -> bool:
        """Whether nothing more goes out, whatever comes."""
        return self.closed_by is not None

    def feed(self, text: str) -> str:
        """Takes the next piece; returns what can go out, masks included."""
        if self.closed:
            return ""
        for char, raw in self._form.read(text):
            self._read(char, raw)
        return "" if self._rules.held else self._release(self._low())

    def finish(self) -> str:
        """The text has ended: returns the rest of it."""
        if self.closed:
            return ""
        for char, raw in self._form.finish():
            self._read(char, raw)
        for rank, rule, back in self._rules.automaton.finish(self._node):
            self._found(self._starts[rank], self._length - back, (rule,), rule)
        self._look_at_whole()
        self._starts = []
        return self._release(self._length)

    def _read(self, char: str, raw: str) -> None:
        at = self._length
        move = self._node.moves.get(char) or self._rules.automaton.move(self._node, char)
        if move.found is not None:
            rank, rule, covers, rules = move.found
            start = at if rank == NEW else self._starts[rank]
            self._found(start, at + 1 if covers else at, rules, rule)
        self._starts = [at if rank == NEW else self._starts[rank] for rank in move.ranks]
        self._node = move.to
        self._held.append(raw)
        if self._rules.held:
            self._chars.append(char)
        self._length = at + 1

    def _low(self) -> int:
        return self._starts[0] if self._starts else self._length

    def _found(self, start: int, end: int, rules: tuple[int, ...], rule: int) -> None:
        guards = self._rules.found
        closer = next((guards[each] for each in rules if guards[each].action != "mask"), None)
        self._cover(Run(start, end, guards[rule], closer))

    def _cover(self, run: Run) -> None:
        """Adds a run at the end of all; those that it overlaps or touches become one with it."""
        while self._runs and self._runs[-1].end >= run.start:
            run = _joined(self._runs.pop(), run)
        self._runs.append(run)

    def _look_at_whole(self) -> None:
        if not self._rules.held:
            return
        text = "".join(self._chars)
        found = [
            Run(*match.span(), guard, None if guard.action == "mask" else guard)
            for guard in self._rules.held
            for match in guard.compiled.finditer(text)
            if match.end() > match.start()
        ]
        runs = sorted([*self._runs, *found], key=lambda run: run.start)
        self._runs = []
        for run in runs:
            self._cover(run)

    def _release(self, low: int) -> str:
        parts: list[str] = []
        done = 0
        for run in self._runs:
            if run.start > low or self.closed:
                break
            self._emit(run, parts)
            done += 1
        del self._runs[:done]
        if not self.closed:
            self._plain(low, parts)
        return "".join(parts)

    def _emit(self, run: Run, parts: list[str]) -> None:
        inside = self._in_mask and run.start <= self._out
        if not inside:
            self._plain(run.start, parts)
            if run.guard.action == "mask":
                self.hits.append(Hit(run.guard, self._released))
                self._put(self._form.mask(run.guard.mask), parts)
            self._in_mask = True
        self._skip(run.end)
        if run.closer is not None:
            self.hits.append(Hit(run.closer, self._released))
            self.closed_by = run.closer

    def _plain(self, to: int, parts: list[str]) -> None:
        if to > self._out:
            self._put("".join(self._held[: to - self._out]), parts)
            self._skip(to)
            self._in_mask = False

    def _put(self, text: str, parts: list[str]) -> None:
        parts.append(text)
        self._released += len(text)

    def _skip(self, to: int) -> None:
        if to > self._out:
            del self._held[: to - self._out]
            self._out = to


def _joined(run: Run, later: Run) -> Run:
    first = later if later.start < run.start else run
    return Run(first.start, max(run.end, later.end), first.guard, run.closer or later.closer)


def guard_text(rules: Ruleset, text: str, form: Form = "plain") -> tuple[str, list[Hit]]:
    """A whole text at once: what may go out of it under some ``rules``, and what was found.

    ``form`` says how it is written, as for ``TextGuard``.
    """
    guard = TextGuard(rules, form)
    out = guard.feed(text) + guard.finish()
    return out, guard.hits
