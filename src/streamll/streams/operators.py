"""Operators over any stream of events or text: ours, a generator's, an LM client's.

Each takes a stream and returns one that is read the same way, with ``for`` or ``async for``, and
whose closing closes the source. They change text only; every other event passes as it is.
Each is written once, as a stage without I/O, which ``Piped`` connects to a source.

They pull. Only where reading must not disturb a source is it read ahead: ``buffer`` with
``seconds`` by one batch, and sources that are not of this package in an ``async for`` by a few
items, because they run in a task or thread of their own.
"""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import inspect
import os
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Hashable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, TextIO

import anyio
import msgspec

from streamll.core.errors import ConfigurationError
from streamll.core.events import Event, TokenEvent
from streamll.flow.bridge import Bridge, Derived, checked
from streamll.flow.dual import Openable
from streamll.flow.limits import Rate
from streamll.streams.stream_events import (
    Reset,
    Token,
    Translator,
    event_of,
    is_response,
    text_of,
)

Timed = tuple[float, Any]
"""An item, and the seconds to wait before it is delivered."""


class Stage:
    """What an operator does with one stream. By default, ``function`` of each item."""

    def __init__(self, function: Callable[[Any], Iterable[Timed]]) -> None:
        self.feed = function

    def finish(self) -> Iterable[Timed]:
        """What was kept, when the source has ended."""
        return ()

    def close(self) -> None:
        """Reading has ended, for whatever reason. May be called more than once."""


class Piped(Openable):
    """A source and a stage behind it. Each reading makes a stage of its own."""

    def __init__(self, source: Any, stage: Callable[[], Stage]) -> None:
        self._source = checked(source)
        self._stage = stage

    def opened(self, *, on_loop: bool) -> Staged:
        return Staged(self._source, self._stage())

    def __iter__(self) -> Iterator[Any]:
        return iter(self.opened(on_loop=False))

    def __aiter__(self) -> AsyncIterator[Any]:
        return aiter(self.opened(on_loop=True))


class Staged(Derived[Any]):
    """One reading of a source through a stage. A delayed item is held until its time."""

    def __init__(self, source: Any, stage: Stage) -> None:
        super().__init__(source)
        self._stage = stage
        self._feed, self._release = stage.feed, stage.close  # type: ignore[method-assign,assignment]
        self._held: Timed | None = None  # an item and the time to deliver it at

    def _end(self, error: Exception | None) -> Iterator[Timed]:
        yield from self._stage.finish()
        yield from super()._end(error)

    def __next__(self) -> Any:
        due, item = self._held or self._hold(super().__next__())
        if due and (remaining := due - time.monotonic()) > 0:
            time.sleep(remaining)
        self._held = None
        return item

    async def __anext__(self) -> Any:
        due, item = self._held or self._hold(await super().__anext__())
        if due and (remaining := due - time.monotonic()) > 0:
            await asyncio.sleep(remaining)
        self._held = None
        return item

    def _hold(self, timed: Timed) -> Timed:
        delay, item = timed
        self._held = (time.monotonic() + delay if delay else 0.0, item)
        return self._held


def with_text(item: Any, text: str, **changes: int) -> Any:
    """The item with another text; ``changes`` are other fields of its event."""
    if isinstance(item, TokenEvent):
        return msgspec.structs.replace(item, token=text, **changes)
    if isinstance(item, Token):
        event = item.event
        return Token(text, with_text(event, text, **changes) if event is not None else None)
    if is_response(item):
        item = copy.copy(item)
        item.chunk = text
        return item
    return text


def field_text_of(item: Any) -> str | None:
    """``text_of``; a ``TypeError`` for a piece of a whole reply, which has no fields yet."""
    if getattr(item, "choices", None) and hasattr(item.choices[0], "delta"):
        raise TypeError(
            "this is a provider's raw chunk; give streamify the fields to stream: "
            'stream_listeners=[streamll.StreamListener("answer")]'
        )
    return text_of(item)


def plain_function(function: Callable[..., Any], operator: str) -> None:
    """Raise ``TypeError`` for a coroutine function, of which nobody would await the result."""
    if inspect.iscoroutinefunction(function) or not callable(function):
        raise TypeError(f"{operator} takes an ordinary function, not {function!r}")


# --- smooth -------------------------------------------------------------------------------------


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
        unit: ``"word"`` or ``"grapheme"`` (what a reader sees as one character).
        interval: longest pause between two pieces, in seconds. The pieces of a chunk are spread
            over the time it took to come, so that the text does not fall behind its source; what
            was there already comes within a moment.

    Each piece is a token of its own: ``seq`` and ``token_index`` are numbered anew, and are not
    positions in a log any more.
    """
    if interval < 0:
        raise ConfigurationError(f"interval must be 0 or more seconds, not {interval!r}")
    Pieces(unit)
    return Piped(source, lambda: _Smooth(unit, interval))


class _Smooth(Stage):
    def __init__(
        self, unit: Unit, interval: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._pieces = Pieces(unit)
        self._interval = self._pace = interval
        self._clock = clock
        self._last: Any = None  # the item whose end may be kept
        self._numbering = Numbering()
        self._fed_at: float | None = None
        self._asked_at = 0.0  # when the reader asked for the next item

    def feed(self, item: Any) -> Iterator[Timed]:
        text = field_text_of(item)
        if not text:
            yield from self.finish()
            yield 0.0, self._numbering.passing(item)
            return
        if self._last is None or _author(self._last) != _author(item):
            yield from self.finish()
        self._last = item
        self._numbering.take(item)
        pieces = self._pieces.feed(text)
        self._adjust(len(pieces))
        for piece in pieces:
            yield self._pace, self._piece(piece)
        if getattr(item, "is_last_chunk", False):
            yield from self.finish()
            yield 0.0, with_text(item, "")
        self._asked_at = self._clock()

    def finish(self) -> Iterator[Timed]:
        for piece in self._pieces.rest():
            yield self._pace, self._piece(piece)
        self._last = None
        self._numbering.end_of_text()

    def _adjust(self, pieces: int) -> None:
        """Follow the source: a slower pace would fall behind it, a faster one would be uneven."""
        now, before = self._clock(), self._fed_at
        self._fed_at = now
        if not pieces:
            return
        if before is None:
            self._pace = min(self._interval, BACKLOG_S / pieces)
        elif now - self._asked_at < QUEUED_WITHIN_S:
            self._pace = min(self._pace * CATCH_UP_FACTOR, BACKLOG_S / pieces)
        else:
            self._pace = min(self._interval, (now - before) / pieces)

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
        author = _author(event)
        index = self._index.setdefault(author, event.token_index)
        self._index[author] += 1
        return index


BACKLOG_S = 0.3
"""The pieces of a chunk that was there before its reader are spread over at most so many seconds."""


QUEUED_WITHIN_S = 0.001
"""An item that comes this soon after it was asked for had been waiting."""

CATCH_UP_FACTOR = 0.7
"""By this the pauses shrink with every item that had been waiting."""


def _author(item: Any) -> Hashable:
    """What a piece's text must share: no piece spans two fields."""
    event = event_of(item)
    if isinstance(event, TokenEvent):
        return (event.identity, event.field)
    if is_response(item):
        return (item.predict_name, item.signature_field_name)
    return type(item).__name__


# --- throttle, map, filter ------------------------------------------------------------------------


def throttle(source: Any, per_second: float) -> Piped:
    """At most so many pieces of text per second; events without text pass at once.

    The model waits as well, as soon as the buffers in between are full.
    """
    Rate(per_second)

    def stage() -> Stage:
        rate = Rate(per_second)
        return Stage(lambda item: [(rate.reserve() if field_text_of(item) else 0.0, item)])

    return Piped(source, stage)


def map_tokens(source: Any, function: Callable[[str], str]) -> Piped:
    """``function`` of every piece of text, e.g. ``str.upper``."""
    plain_function(function, "map_tokens")

    def feed(item: Any) -> Iterable[Timed]:
        text = field_text_of(item)
        return [(0.0, item if text is None else with_text(item, function(text)))]

    return Piped(source, lambda: Stage(feed))


def filter_tokens(source: Any, predicate: Callable[[str], object]) -> Piped:
    """Without the pieces of text for which ``predicate`` is false."""
    plain_function(predicate, "filter_tokens")

    def feed(item: Any) -> Iterable[Timed]:
        text = field_text_of(item)
        return [(0.0, item)] if text is None or predicate(text) else []

    return Piped(source, lambda: Stage(feed))


# --- buffer -----------------------------------------------------------------------------------------


def buffer(source: Any, n: int | None = None, *, seconds: float | None = None) -> Piped | Batches:
    """Items in lists: of ``n`` each, or of what came within ``seconds``, whichever is first."""
    if n is None and seconds is None:
        raise ConfigurationError("buffer takes a number of items, seconds, or both")
    if n is not None and (isinstance(n, bool) or n < 1):
        raise ConfigurationError(f"buffer takes at least 1 item, not {n!r}")
    if seconds is not None and seconds <= 0:
        raise ConfigurationError(f"buffer takes more than 0 seconds, not {seconds!r}")
    if seconds is not None:
        return Batches(checked(source), n, seconds)
    count = n or 1
    return Piped(source, lambda: _Group(count))


class _Group(Stage):
    def __init__(self, n: int) -> None:
        self._n = n
        self._items: list[Any] = []

    def feed(self, item: Any) -> Iterable[Timed]:
        self._items.append(item)
        return self.finish() if len(self._items) == self._n else ()

    def finish(self) -> Iterable[Timed]:
        items, self._items = self._items, []
        return [(0.0, items)] if items else ()


MAX_BATCH_ITEMS = 1_000
"""Items of a batch that is bounded by time only."""


class Batches(Bridge):
    """Lists of up to ``n`` items; each list is complete ``seconds`` after its first item.

    The one operator that waits for two things at once, so its source is read by a producer of its
    own, at most one batch ahead.
    """

    def __init__(self, source: Any, n: int | None, seconds: float) -> None:
        self._most = n or MAX_BATCH_ITEMS
        super().__init__(source, capacity=self._most, name="buffer")
        self._seconds = seconds
        self._batch: list[Any] = []  # kept over a cancelled read
        self._deadline = 0.0

    def _read(self) -> list[Any]:
        self._producer.start(on_loop=False)
        try:
            return self._producer.channel.get_batch(self._room, self._remaining())
        except TimeoutError:
            return []

    async def _aread(self) -> list[Any]:
        self._producer.start(on_loop=True)
        try:
            with anyio.fail_after(self._remaining()):
                return await self._producer.channel.get_batch_async(self._room)
        except TimeoutError:
            return []

    @property
    def _room(self) -> int:
        return self._most - len(self._batch)

    def _remaining(self) -> float | None:
        return self._deadline - time.monotonic() if self._batch else None

    def _feed(self, read: list[Any]) -> list[list[Any]]:
        if not self._batch:
            self._deadline = time.monotonic() + self._seconds
        self._batch += read
        return self._take() if not self._room or time.monotonic() >= self._deadline else []

    def _end(self, error: Exception | None) -> Iterator[list[Any]]:
        yield from self._take()
        yield from super()._end(error)

    def _take(self) -> list[list[Any]]:
        batch, self._batch = self._batch, []
        return [batch] if batch else []


# --- to a file --------------------------------------------------------------------------------------


def to_file(source: Any, path: str | os.PathLike[str], *, append: bool = False) -> Piped:
    """Write the text to a file as it passes, flushed piece by piece.

    Text that is superseded or corrected is removed from the file again.
    """
    return Piped(source, lambda: _ToFile(Path(path), append=append))


class _ToFile(Stage):
    def __init__(self, path: Path, *, append: bool) -> None:
        self._file: TextIO = path.open("a+" if append else "w+", encoding="utf-8", newline="")
        self._start = self._file.seek(0, os.SEEK_END)
        self._translator = Translator()

    def feed(self, item: Any) -> Iterable[Timed]:
        for each in self._translator.feed(item) if isinstance(item, Event) else [item]:
            if isinstance(each, Reset):
                self._file.seek(self._start)
                self._file.truncate()
            elif text := text_of(each):
                self._file.write(text)
                self._file.flush()
        return [(0.0, item)]

    def close(self) -> None:
        self._file.close()
