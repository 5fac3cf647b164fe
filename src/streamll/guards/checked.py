"""One text under some checks: pieces in, parts out that may leave once all their units are judged.

Text that no check has seen the end of a unit of is kept in here. What is masked are whole units,
without the white space around them; the parts of a text are to be released in their order.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Sequence
from dataclasses import dataclass, field

from streamll.guards.checks import Inquiries, Inquiry
from streamll.guards.rules import Check
from streamll.guards.text import Hit
from streamll.guards.units import units_of


@dataclass(order=True)
class Unit:
    """What a check is asked about: from, and to, as places in the text."""

    start: int
    order: int
    """The place of its check among all."""
    end: int
    inquiry: Inquiry = field(compare=False)
    check: Check = field(compare=False)


@dataclass(eq=False)
class Part:
    """A stretch of the text that no unit of any check begins or ends in the middle of."""

    text: str
    start: int
    units: list[Unit]
    inquiries: list[Inquiry]
    """What must have a verdict before the part can be released."""


class CheckedText:
    """Cuts one text into parts, and says what may go out of each.

    As with ``TextGuard``, what was found is in ``hits``, for the caller to take, and nothing more goes
    out of a text that is ``closed``: by a check that drops, replaces or stops, or, with
    ``closed_by`` None, since there will be no verdict.
    """

    def __init__(self, checks: Sequence[Check], inquiries: Inquiries) -> None:
        self.hits: list[Hit] = []
        self.closed = False
        self.closed_by: Check | None = None
        self.released = 0
        """Characters that have gone out, those of masks included."""
        self._inquiries = inquiries
        self._checks = checks
        self._cutters = [units_of(check.unit) for check in checks]
        self._ends = [0] * len(checks)  # of the units so far, for each check
        self._bounds: list[int] = []  # where units end, behind what was cut
        self._units: list[Unit] = []
        self._pieces: list[str] = []  # of what was not cut
        self._start = 0  # of what was not cut
        self._masked_to = -1

    def feed(self, text: str) -> list[Part]:
        """The parts that can be asked about with the next piece of text."""
        if self.closed:
            return []
        self._pieces.append(text)
        for order, cutter in enumerate(self._cutters):
            self._ask(order, cutter.feed(text))
        return self._cut()

    def finish(self) -> list[Part]:
        """The text has ended: the rest of its parts."""
        if self.closed:
            return []
        for order, cutter in enumerate(self._cutters):
            self._ask(order, cutter.finish())
        return self._cut()

    def _ask(self, order: int, ended: list[str]) -> None:
        check, strips = self._checks[order], self._cutters[order].strips
        for text in ended:
            start = self._ends[order]
            self._ends[order] += len(text)
            insort(self._bounds, self._ends[order])
            asked = text.strip() if strips else text
            if asked and not asked.isspace():
                start += text.index(asked)
                inquiry = self._inquiries.ask(check, asked)
                insort(self._units, Unit(start, order, start + len(asked), inquiry, check))

    def _cut(self) -> list[Part]:
        complete = min(self._ends)
        if complete == self._start:
            return []
        bounds, self._bounds = _divided(self._bounds, complete)
        text, begin = "".join(self._pieces), self._start
        self._pieces = [text[complete - begin :]]
        parts: list[Part] = []
        open_: list[Unit] = []  # that reach into the part, or begin in it
        following = 0
        for end in dict.fromkeys(bounds):
            while following < len(self._units) and self._units[following].start < end:
                open_.append(self._units[following])
                following += 1
            asked = [unit.inquiry for unit in open_]
            parts.append(Part(text[self._start - begin : end - begin], self._start, open_, asked))
            self._start = end
            open_ = [unit for unit in open_ if unit.end > end]
        self._units = [*open_, *self._units[following:]]
        return parts

    # --- releasing --------------------------------------------------------------------------------

    def release(self, part: Part) -> str:
        """What goes out of the next part, masks included; all its units have verdicts."""
        out: list[str] = []
        place = part.start
        for unit in part.units:
            if self.closed:
                break
            if not unit.inquiry.verdict:
                place = self._keep_back(unit, part, place, out)
        if not self.closed:
            self._put(part.text[place - part.start :], out)
        return "".join(out)

    def _keep_back(self, unit: Unit, part: Part, place: int, out: list[str]) -> int:
        """Release what is before a forbidden unit, and its mask. Returns where its text ends."""
        if unit.start > self._masked_to:
            self._put(part.text[place - part.start : max(unit.start - part.start, 0)], out)
            if unit.check.action == "mask" and not unit.inquiry.is_withheld:
                self.hits.append(Hit(unit.check, self.released))
                self._put(unit.check.mask, out)
        self._masked_to = max(self._masked_to, unit.end)
        if unit.inquiry.is_withheld:
            self.closed = True
        elif unit.check.action != "mask":
            self.hits.append(Hit(unit.check, self.released))
            self.closed, self.closed_by = True, unit.check
        return max(place, min(self._masked_to, part.start + len(part.text)))

    def _put(self, text: str, out: list[str]) -> None:
        out.append(text)
        self.released += len(text)


def _divided(places: list[int], last: int) -> tuple[list[int], list[int]]:
    """Sorted places up to the last one, and those behind it."""
    count = bisect_right(places, last)
    return places[:count], places[count:]


class CheckedString:
    """A whole text: what must be decided first, and then what goes out."""

    def __init__(self, checks: Sequence[Check], inquiries: Inquiries, text: str) -> None:
        self.text = text
        self._text = CheckedText(checks, inquiries)
        self._parts = [*self._text.feed(text), *self._text.finish()]

    @property
    def inquiries(self) -> list[Inquiry]:
        """What must have a verdict first."""
        return [inquiry for part in self._parts for inquiry in part.inquiries]

    def release(self) -> tuple[str, list[Hit]]:
        """What goes out, once all is decided, and what was found."""
        return "".join(map(self._text.release, self._parts)), self._text.hits
