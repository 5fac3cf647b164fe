"""``smooth``: coarse chunks of text in small pieces, at an even pace."""

from __future__ import annotations

import dataclasses
import re
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from typing import Any, Literal

import msgspec

from streamll.core.errors import ConfigurationError
from streamll.core.events import TokenEvent
from streamll.streams.operators import Piped, Stage, Timed, field_text_of, with_text
from streamll.streams.stream_events import author_of, event_of

BACKLOG_S = 0.3
"""The pieces of a chunk that was there before its reader are spread over at most so many seconds."""

QUEUED_WITHIN_S = 0.001
"""An item that comes this soon after it was asked for had been waiting."""

CATCH_UP_FACTOR = 0.7
"""By this the pauses shrink with every item that had been waiting."""

Unit = Literal["word", "grapheme"]
WORD = re.compile(r"\s*\S+\s*|\s+")
"""A word with the whitespace around it."""


class Pieces:
    """``feed`` takes chunks and returns whole pieces; ``rest`` returns what may still grow.

    A piece is whole when the next one has begun: ``e`` and a combining accent may come apart.
    """

    def __init__(self, unit: Unit) -> None:
        if unit == "word":
            self._split: Callable[[str], list[str]] = WORD.findall
        elif unit == "grapheme":
            import regex  # type: ignore[import-untyped,unused-ignore]

            self._split = regex.compile(r"\X").findall
        else:
            raise ConfigurationError(f'a unit is "word" or "grapheme", not {unit!r}')
        self._kept = ""

    def feed(self, text: str) -> list[str]:
        pieces = self._split(self._kept + text)
        self._kept = pieces.pop() if pieces else ""
        return pieces

    def rest(self) -> list[str]:
        kept, self._kept = self._kept, ""
        return [kept] if kept else []


def smooth(source: Any, unit: Unit = "word", *, interval: float = 0.03) -> Piped:
    """Split coarse chunks into small pieces, evenly paced; the text stays the same.

    Args:
        source: any stream.
        unit: ``"word"`` or ``"grapheme"`` (what a reader sees as one character).
        interval: longest pause between two pieces, in seconds. The pieces of a chunk are spread
            over the time it took to come, so that the text does not fall behind its source; what
            was there already comes within a moment.

    Raises:
        ConfigurationError: an unknown ``unit``, or a negative ``interval``.

    Each piece is a token of its own: ``seq`` and ``token_index`` are numbered anew, and are not
    positions in a log any more.
    """
    Smoother(unit, Pace(interval))
    return Piped(source, lambda: Smoother(unit, Pace(interval)))


class Pace:
    """The pause between two pieces: it follows their source, so as not to fall behind it."""

    def __init__(self, interval: float, clock: Callable[[], float] = time.monotonic) -> None:
        if not interval >= 0:
            raise ConfigurationError(f"interval must be 0 or more seconds, not {interval!r}")
        self.pause = self._longest = interval
        self._clock = clock
        self._fed_at: float | None = None
        self._asked_at = 0.0

    def adjust(self, pieces: int) -> None:
        """An item has come that makes so many pieces."""
        now, before = self._clock(), self._fed_at
        self._fed_at = now
        if not pieces:
            return
        if before is None:
            self.pause = min(self._longest, BACKLOG_S / pieces)
        elif now - self._asked_at < QUEUED_WITHIN_S:
            self.pause = min(self.pause * CATCH_UP_FACTOR, BACKLOG_S / pieces)
        else:
            self.pause = min(self._longest, (now - before) / pieces)

    def asked(self) -> None:
        """The next item is asked for now."""
        self._asked_at = self._clock()


class Smoother(Stage):
    """``smooth`` of one stream."""

    def __init__(self, unit: Unit, pace: Pace) -> None:
        self._pieces = Pieces(unit)
        self._pace = pace
        self._last: Any = None  # the item whose end may be kept
        self._numbering = Numbering()

    def feed(self, item: Any) -> Iterator[Timed]:
        text = field_text_of(item)
        if not text:
            yield from self.finish()
            yield 0.0, self._numbering.passing(item)
            return
        if self._last is None or author_of(self._last) != author_of(item):
            yield from self.finish()
        self._last = item
        self._numbering.take(item)
        pieces = self._pieces.feed(text)
        self._pace.adjust(len(pieces))
        for piece in pieces:
            yield self._pace.pause, self._piece(piece)
        if getattr(item, "is_last_chunk", False):
            yield from self.finish()
            yield 0.0, with_text(item, "")
        self._pace.asked()

    def finish(self) -> Iterator[Timed]:
        for piece in self._pieces.rest():
            yield self._pace.pause, self._piece(piece)
        self._last = None
        self._numbering.end_of_text()

    def _piece(self, text: str) -> Any:
        piece = with_text(self._last, text, **self._numbering.next(len(text)))
        if getattr(piece, "is_last_chunk", False):
            piece.is_last_chunk = False  # the one behind the pieces is
        return piece


class Numbering:
    """Numbers pieces and what comes between them anew, so that each is a token of its own.

    ``seq`` and ``token_index`` stay contiguous; both are then those of the smoothed stream.
    """

    def __init__(self) -> None:
        self._shift: Counter[str | None] = Counter()  # of ``seq``, by run
        self._index: Counter[Hashable] = Counter()  # the next token of a field, by author
        self._first: TokenEvent | None = None  # of the text under way
        self._taken = self._made = self._length = 0  # tokens, and pieces of them

    def take(self, item: Any) -> None:
        """The next token of a text."""
        event = event_of(item)
        if isinstance(event, TokenEvent):
            self._first = self._first or event
            self._taken += event.count

    def next(self, length: int) -> dict[str, int]:
        """The numbers of the text's next piece."""
        first, made, offset = self._first, self._made, self._length
        if first is None:
            return {}
        self._made += 1
        self._length += length
        numbers = {
            "count": 1,
            "offset": first.offset + offset,
            "token_index": self._next_index(first),
        }
        if first.seq is not None:
            numbers["seq"] = first.seq + self._shift[first.run_id] + made
        return numbers

    def end_of_text(self) -> None:
        if self._first is not None:
            self._shift[self._first.run_id] += self._made - self._taken
        self._first = None
        self._taken = self._made = self._length = 0

    def passing(self, item: Any) -> Any:
        """An item without text."""
        event = event_of(item)
        if event is None:
            return item
        changes: dict[str, int] = {}
        if event.seq is not None and self._shift[event.run_id]:
            changes["seq"] = event.seq + self._shift[event.run_id]
        if isinstance(event, TokenEvent):
            changes["token_index"] = self._next_index(event)
        if not changes:
            return item
        changed = msgspec.structs.replace(event, **changes)
        return changed if item is event else dataclasses.replace(item, event=changed)

    def _next_index(self, event: TokenEvent) -> int:
        author = author_of(event)
        index = self._index.setdefault(author, event.token_index)
        self._index[author] += 1
        return index
