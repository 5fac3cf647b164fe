"""One text, guarded as it arrives: what can no longer become forbidden goes out at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from streamll.guards.forms import FORMS, Form, Piece
from streamll.guards.rules import Guard, Ruleset

FormName = Literal["plain", "json", "xml"]


@dataclass
class Hit:
    """A guard found something: the number of released characters before it."""

    guard: Guard
    offset: int


@dataclass
class Run:
    """Forbidden characters side by side: from, to, whose mask stands for them, and who closes."""

    start: int
    end: int
    guard: Guard
    closer: Guard | None


class Held:
    """The raw text that may not go out yet, by characters; each piece is looked at once."""

    def __init__(self) -> None:
        self._pieces: deque[tuple[str, int]] = deque()
        self._gone = 0  # characters of the first piece

    def __bool__(self) -> bool:
        return bool(self._pieces)

    def add(self, raw: str, chars: int) -> None:
        """Raw text of as many characters, or of one."""
        self._pieces.append((raw, chars))

    def take(self, chars: int) -> str:
        """The raw text of the first of them."""
        taken: list[str] = []
        while chars > 0:
            raw, count = self._pieces[0]
            left = count - self._gone
            if left > chars:
                taken.append(raw[self._gone : self._gone + chars])
                self._gone += chars
                break
            taken.append(raw[self._gone :])
            self._pieces.popleft()
            self._gone = 0
            chars -= left
        return "".join(taken)


class TextGuard:
    """One text under some rules: pieces in, what may go out.

    ``form`` says how the text is written: ``"plain"``, or the raw text of ``"json"`` or ``"xml"``,
    whose escapes are read as the characters they stand for, and each string or element as a text of
    its own. What was found is put into ``hits``, for the caller to take. Once a rule that drops,
    replaces or stops has found something the text is ``closed``, by ``closed_by``, and gives nothing
    more.
    """

    def __init__(self, rules: Ruleset, form: FormName = "plain") -> None:
        self.hits: list[Hit] = []
        self.closed_by: Guard | None = None
        self._rules = rules
        self._automaton = rules.automaton
        written = FORMS[form]
        self._form: Form | None = written() if written else None
        self._node = rules.automaton.start
        self._starts: list[int] = []  # of what is live, by rank
        self._length = 0  # characters read
        self._out = 0  # of these decided: out, or masked
        self._shift = 0  # characters that went out beyond these
        self._mask_end = -1  # where the last run that was masked ended
        self._held = Held()
        self._runs: list[Run] = []  # found, and not masked yet
        self._whole: list[str] | None = [] if rules.held else None  # for rules that see whole texts

    @property
    def closed(self) -> bool:
        """Whether nothing more goes out, whatever comes."""
        return self.closed_by is not None

    def feed(self, text: str) -> str:
        """Takes the next piece; returns what can go out, masks included."""
        if self.closed_by is not None or not text:
            return ""
        if self._form is None or self._form.is_plain(text):
            self._read(text)
            if not self._runs and self._whole is None:
                return self._let_out(text)
            self._held.add(text, len(text))
            return self._release(self._low())
        return self._read_written(self._form.read(text)) + self._release(self._low())

    def finish(self) -> str:
        """The text has ended: returns the rest of it."""
        rest = "" if self._form is None else self._read_written(self._form.finish())
        return rest + self._end()

    def _read(self, text: str) -> None:
        """Moves on by some characters."""
        at = self._length
        self._length = at + len(text)
        node = self._node
        if node.ranks and len(text) > 1:  # most of what is live ends here: what follows is common
            move = node.moves.get(text[0]) or self._automaton.move(node, text[0])
            if move.quiet:
                node, text, at = move.to, text[1:], at + 1
        way = node.ways.get(text) or self._automaton.way(node, text)
        self._node = way.to
        if self._whole is not None:
            self._whole.append(text)
        for rank, end, found in way.found:
            start = self._starts[rank] if rank >= 0 else at + ~rank
            self._found(start, at + end, found.rule, found.rules)
        if way.ranks:
            starts = self._starts
            self._starts = [starts[rank] if rank >= 0 else at + ~rank for rank in way.ranks]
        elif self._starts:
            self._starts = []

    def _let_out(self, text: str) -> str:
        """Releases what is decided where nothing was found, the last piece included."""
        low = self._starts[0] if self._starts else self._length
        free = low - self._out  # less than none, where what is live began in what is masked
        if free == len(text) and not self._held:
            self._out = low
            return text
        self._held.add(text, len(text))
        return self._to(low) if free > 0 else ""

    def _low(self) -> int:
        """The first character that is not decided."""
        if self._whole is not None:
            return self._out
        return self._starts[0] if self._starts else self._length

    def _read_written(self, pieces: Iterable[Piece]) -> str:
        out: list[str] = []
        for chars, raw in pieces:
            if self.closed_by is not None:
                break
            if chars:
                self._read(chars)
                self._held.add(raw, len(chars))
            else:
                out.append(self._end())
                out.append(self._cross(raw))
        return "".join(out)

    def _cross(self, border: str) -> str:
        """What follows is a text of its own."""
        if self.closed_by is not None:
            return ""
        self._node = self._automaton.start
        self._starts = []
        self._mask_end = -1
        self._shift += len(border)
        return border

    def _end(self) -> str:
        """The text ends here: everything is decided."""
        if self.closed_by is not None:
            return ""
        for rank, rule, back in self._automaton.finish(self._node):
            self._found(self._starts[rank], self._length - back, rule, (rule,))
        self._look_at_whole()
        return self._release(self._length)

    # What was found

    def _found(self, start: int, end: int, rule: int, rules: tuple[int, ...]) -> None:
        guards = self._rules.found
        closer = next((guards[each] for each in rules if guards[each].action != "mask"), None)
        self._cover(Run(start, end, guards[rule], closer))

    def _cover(self, run: Run) -> None:
        """Adds a run; those that it overlaps or touches become one with it."""
        while self._runs and self._runs[-1].end >= run.start:
            run = _joined(self._runs.pop(), run)
        self._runs.append(run)

    def _look_at_whole(self) -> None:
        if self._whole is None:
            return
        text = "".join(self._whole)
        self._whole.clear()
        first = self._length - len(text)
        found = [
            Run(first + start, first + end, guard, None if guard.action == "mask" else guard)
            for guard in self._rules.held
            for start, end in guard.spans(text)
        ]
        runs = sorted([*self._runs, *found], key=lambda run: run.start)
        self._runs = []
        for run in runs:
            self._cover(run)

    # What goes out

    def _release(self, low: int) -> str:
        """What goes out if all before ``low`` is decided."""
        out: list[str] = []
        done = 0
        for run in self._runs:
            if run.start > low or self.closed_by is not None:
                break
            out.append(self._instead_of(run))
            done += 1
        del self._runs[:done]
        if self.closed_by is None and low > self._out:
            out.append(self._to(low))
        return "".join(out)

    def _instead_of(self, run: Run) -> str:
        """The text before the run, and its mask if it does not go on with the last one."""
        out = ""
        if run.start > self._mask_end:
            out = self._to(run.start)
            if run.guard.action == "mask":
                out += self._mask(run.guard)
        self._skip(run.end)
        self._mask_end = run.end
        if run.closer is not None:
            self._hit(run.closer)
            self.closed_by = run.closer
        return out

    def _mask(self, guard: Guard) -> str:
        self._hit(guard)
        mask = guard.mask if self._form is None else self._form.mask(guard.mask)
        self._shift += len(mask)
        return mask

    def _hit(self, guard: Guard) -> None:
        self.hits.append(Hit(guard, self._out + self._shift))

    def _skip(self, to: int) -> None:
        if to > self._out:
            self._held.take(to - self._out)
            self._shift -= to - self._out
            self._out = to

    def _to(self, place: int) -> str:
        free = place - self._out
        self._out = place
        return self._take(free)

    def _take(self, free: int) -> str:
        raw = self._held.take(free)
        self._shift += len(raw) - free
        return raw


def _joined(run: Run, later: Run) -> Run:
    first = later if later.start < run.start else run
    return Run(first.start, max(run.end, later.end), first.guard, run.closer or later.closer)


def guard_text(rules: Ruleset, text: str, form: FormName = "plain") -> tuple[str, list[Hit]]:
    """A whole text at once: what may go out of it, and what was found."""
    guard = TextGuard(rules, form)
    out = guard.feed(text) + guard.finish()
    return out, guard.hits
