"""One text, guarded as it arrives: what can no longer become forbidden goes out at once."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, Protocol

from streamll.guards.automaton import Way
from streamll.guards.forms import FORMS, Piece, Writing
from streamll.guards.rules import Guard, Ruleset, ruleset

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


class Held:
    """The raw text that may not go out yet, by characters; each piece is looked at once."""

    def __init__(self) -> None:
        self._pieces: deque[tuple[str, int]] = deque()
        self._gone = 0  # characters of the first piece
        self._written = 0  # pieces of one character written as several
        self.chars = 0

    @property
    def is_plain(self) -> bool:
        """Whether every character stands for itself."""
        return not self._written

    def add(self, raw: str, chars: int) -> None:
        """Raw text of as many characters, or of one."""
        self._pieces.append((raw, chars))
        self._written += len(raw) != chars
        self.chars += chars

    def take(self, chars: int) -> str:
        """The raw text of the first of them."""
        taken: list[str] = []
        self.chars -= chars
        while chars > 0:
            raw, count = self._pieces[0]
            left = count - self._gone
            if left > chars:
                taken.append(raw[self._gone : self._gone + chars])
                self._gone += chars
                break
            taken.append(raw[self._gone :])
            self._written -= len(raw) != count
            self._pieces.popleft()
            self._gone = 0
            chars -= left
        return "".join(taken)


FIRST = [0]
SHORT = 256
"""Characters of a text that is held in one piece."""


class TextGuard:
    """One text under some rules: pieces in, what may go out.

    ``form`` says how the text is written: ``"plain"``, or the raw text of ``"json"`` or ``"xml"``,
    whose escapes are read as the characters they stand for, and each string or element as a text of
    its own. What was found is put into ``hits``, for the caller to take. Once a rule that drops,
    replaces or stops has found something the text is ``closed``, by ``closed_by``, and gives nothing
    more.
    """

    def __init__(self, rules: Ruleset, form: Form = "plain") -> None:
        self.hits: list[Hit] = []
        self.closed_by: Guard | None = None
        self._rules = rules
        self._automaton = rules.automaton
        written = FORMS[form]
        self._form: Writing | None = written() if written else None
        self._whole: list[str] | None = [] if rules.held else None  # for rules that see whole texts
        self._runs: list[Run] = []  # found, and not masked yet
        self._mask_end = -1  # where the last run that was masked ended
        self._shift = 0  # characters that went out beyond those that are decided
        self._length = 0  # characters read
        self._node = rules.automaton.start
        # In short: nothing was found, and all that is held is a short plain text, in which all that
        # is live began. `_tail` is that text, and `_ranks` are where it began in the last piece.
        self._in_short = self._whole is None
        self._tail = ""
        self._ranks: list[int] = []
        # At length, if not in short:
        self._starts: list[int] = []  # of what is live, by rank
        self._out = 0  # characters decided: out, or masked
        self._held = Held()

    @property
    def closed(self) -> bool:
        """Whether nothing more goes out, whatever comes."""
        return self.closed_by is not None

    def feed(self, text: str) -> str:
        """Takes the next piece; returns what can go out, masks included."""
        if self._in_short and text and (self._form is None or self._form.is_plain(text)):
            node = self._node
            move = node.moves.get(text[0]) if node.ranks else None
            ways = move.to.after if move is not None and move.quiet else node.ways
            way = ways.get(text) or self._automaton.way(node, text)
            if way.is_clear:
                self._node = way.to
                self._length += way.length
                self._ranks = way.ranks
                out = self._tail + way.out
                self._tail = way.tail
                return out
            if way.is_more and len(self._tail) < SHORT:
                return self._hold_more(way, text)
        return self._feed_at_length(text)

    def finish(self) -> str:
        """The text has ended: returns the rest of it."""
        self._go_on_at_length()
        rest = "" if self._form is None else self._read_written(self._form.finish())
        return rest + self._end()

    def _feed_at_length(self, text: str) -> str:
        if self.closed_by is not None or not text:
            return ""
        self._go_on_at_length()
        if self._form is None or self._form.is_plain(text):
            self._read(text)
            self._held.add(text, len(text))
            out = self._release(self._low())
        else:
            out = self._read_written(self._form.read(text)) + self._release(self._low())
        self._go_on_in_short()
        return out

    def _hold_more(self, way: Way, text: str) -> str:
        """Goes on in short where the earliest of what is live stays so."""
        self._node = way.to
        self._length += way.length
        ranks = self._ranks
        if way.ranks != FIRST:
            new = ranks[0] - len(self._tail) + 1
            self._ranks = [ranks[rank] if rank >= 0 else new + rank for rank in way.ranks]
        elif len(ranks) > 1:
            self._ranks = ranks[:1]
        self._tail += text
        return ""

    def _go_on_at_length(self) -> None:
        if not self._in_short:
            return
        self._in_short = False
        self._out = self._length - len(self._tail)
        if self._ranks:
            first = self._out + self._ranks[0]
            self._starts = [first - rank for rank in self._ranks]
        if self._tail:
            self._held.add(self._tail, len(self._tail))
            self._tail = ""

    def _go_on_in_short(self) -> None:
        if self._runs or self._whole is not None or self.closed or self._held.chars > SHORT:
            return
        if (self._starts and self._starts[0] != self._out) or not self._held.is_plain:
            return
        self._in_short = True
        self._tail = self._held.take(self._held.chars)
        self._ranks = [~(start - self._out) for start in self._starts]
        self._starts = []

    def _read(self, text: str) -> None:
        """Moves on by some characters."""
        at = self._length
        way = self._automaton.way(self._node, text)
        self._length = at + way.length
        self._node = way.to
        if self._whole is not None:
            self._whole.append(text)
        starts = self._starts
        for rank, end, found in way.found:
            start = starts[rank] if rank >= 0 else at + ~rank
            self._found(start, at + end, found.rule, found.rules)
        self._starts = [starts[rank] if rank >= 0 else at + ~rank for rank in way.ranks]

    def _low(self) -> int:
        """The first character that is not decided."""
        if self._whole is not None:
            return self._out
        for rank, start in enumerate(self._starts):
            if not self._is_masked(rank, start):
                return start
        return self._length

    def _is_masked(self, rank: int, start: int) -> bool:
        """Whether all that can still be found here is masked anyway: it ended before a newline that
        may be the text's last character, and that is free.
        """
        last = self._runs[-1] if self._runs else None
        masked_to = last.end if last is not None and last.start <= start else self._mask_end
        if masked_to < self._length - 1:
            return False
        found = self._automaton.ended(self._node, rank)
        return found is not None and all(self._rules.found[rule].action == "mask" for rule in found)

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


class GuardedText(Protocol):
    """What texts under any rules have in common with a ``TextGuard``."""

    hits: list[Hit]
    closed_by: Guard | None

    def feed(self, text: str) -> str: ...
    def finish(self) -> str: ...


class Rules(Protocol):
    """Guards, as what guards texts."""

    @property
    def only_texts(self) -> bool:
        """Whether numbers, and keys that are mere names, are no texts to them."""

    def begin(self, form: Form = "plain") -> GuardedText:
        """A text that comes in pieces."""

    def note(self, text: str) -> str:
        """The note behind a content that was cut; empty, if this is no such text."""

    def whole(self, text: str, form: Form = "plain", note: str = "") -> tuple[str, list[Hit]]:
        """What may go out of a text that is all there, or was cut before its ``note``; and what was
        found.
        """


class ExactRules:
    """The guards that find by themselves what they forbid. Texts may be cut to ``limit`` characters."""

    only_texts = False

    def __init__(self, guards: tuple[Guard, ...], limit: Callable[[], int] | None = None) -> None:
        self._rules = ruleset(guards)
        self._limit = limit

    def begin(self, form: Form = "plain") -> GuardedText:
        return TextGuard(self._rules, form)

    def note(self, text: str) -> str:
        cut = None if self._limit is None else CUT.search(text)
        if cut is None or self._limit is None:
            return ""
        return cut[0] if cut.start() == self._limit() < int(cut[1]) else ""

    def whole(self, text: str, form: Form = "plain", note: str = "") -> tuple[str, list[Hit]]:
        if not note or not text.endswith(note):
            return guard_text(self._rules, text, form)
        guard = TextGuard(self._rules, form)  # it went on: what that would decide is kept back
        out = guard.feed(text.removesuffix(note))
        shown, hits = guard_text(self._rules, note, form)
        return out + shown, guard.hits + hits


CUT = re.compile(r"… \(([0-9]{1,18}) characters\)\Z")
"""How a content ends that was cut to ``include_limit`` (``configuration.clip``). A program's own text
may end so, too: then it is not as long.
"""


def guard_text(rules: Ruleset, text: str, form: Form = "plain") -> tuple[str, list[Hit]]:
    """A whole text at once: what may go out of it under some ``rules``, and what was found.

    ``form`` says how it is written, as for ``TextGuard``.
    """
    guard = TextGuard(rules, form)
    out = guard.feed(text) + guard.finish()
    return out, guard.hits
