"""Operators over any stream of events or text: ours, a generator's, an LM client's.

Each takes a stream and gives one that is read the same way, with ``for`` or ``async for``. They
pull: nothing is read ahead (``buffer`` with ``seconds`` reads at most one batch ahead), and
leaving the result closes the source. What they do is written once, as stages without I/O;
``Piped`` is the shell. They look at text only; every other event passes as it is.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Hashable, Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol, TextIO

import msgspec

from streamll.core.errors import ConfigurationError
from streamll.core.events import Event, TokenEvent
from streamll.flow.bridge import Derived, checked
from streamll.flow.dual import Openable
from streamll.flow.limits import Rate
from streamll.streams.batches import Batches
from streamll.streams.split import Pieces, Unit
from streamll.streams.stream_events import Reset, Token, Translator, event_of, text_of

Timed = tuple[float, Any]
"""An item and how many seconds to wait before it leaves."""


class Stage(Protocol):
    def feed(self, item: Any) -> Iterable[Timed]: ...

    def finish(self) -> Iterable[Timed]:
        """What was kept, when the source has ended."""

    def close(self) -> None:
        """The reader has gone, or the source ended."""


class Simple:
    """A stage that keeps nothing."""

    def finish(self) -> Iterable[Timed]:
        return ()

    def close(self) -> None:
        """Nothing is open."""


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
    """One reading of a source through a stage; an item that must wait is kept until its time."""

    def __init__(self, source: Any, stage: Stage) -> None:
        super().__init__(source)
        self._stage = stage
        self._held: Timed | None = None  # an item and the time when it may leave

    def _feed(self, read: Any) -> Iterable[Timed]:
        return self._stage.feed(read)

    def _end(self, error: Exception | None) -> Iterable[Timed]:
        if error is not None:
            raise error
        return self._stage.finish()

    def _release(self) -> None:
        self._stage.close()

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


def with_text(item: Any, text: str) -> Any:
    """The item with another text."""
    if isinstance(item, TokenEvent):
        return msgspec.structs.replace(item, token=text)
    if isinstance(item, Token):
        event = item.event
        return Token(text, with_text(event, text) if isinstance(event, TokenEvent) else None)
    return text


# --- smooth -------------------------------------------------------------------------------------


def smooth(source: Any, unit: Unit = "word", *, interval: float = 0.03) -> Piped:
    """Coarse chunks in small pieces, at an even pace; the text stays the same.

    Args:
        unit: ``"word"`` or ``"grapheme"`` (what a reader sees as one character).
        interval: at most so many seconds between two pieces. The pieces of a chunk are spread
            over the time it took to come, so the text does not fall behind its source.
    """
    if interval < 0:
        raise ConfigurationError(f"interval must be 0 or more seconds, not {interval!r}")
    Pieces(unit)
    return Piped(source, lambda: _Smooth(unit, interval))


class _Smooth:
    def __init__(
        self, unit: Unit, interval: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._pieces = Pieces(unit)
        self._interval = self._pace = interval
        self._clock = clock
        self._said: Any = None  # the item whose end may be kept
        self._position = 0  # where the next piece stands in its field
        self._count = 0  # tokens whose text is still kept
        self._fed_at: float | None = None
        self._asked_at = 0.0  # when the reader was through with the last item

    def feed(self, item: Any) -> Iterator[Timed]:
        text = text_of(item)
        if not text:
            yield from self.finish()
            yield 0.0, item
            return
        if self._said is None or _speaker(self._said) != _speaker(item):
            yield from self.finish()
            self._position = _offset(item)
        self._said = item
        self._count += _count(item)
        pieces = self._pieces.feed(text)
        self._adjust(len(pieces))
        for piece in pieces:
            yield self._pace, self._piece(piece)
        self._asked_at = self._clock()

    def finish(self) -> Iterator[Timed]:
        for piece in self._pieces.rest():
            yield self._pace, self._piece(piece)
        self._said = None

    def close(self) -> None:
        """Nothing is open."""

    def _adjust(self, pieces: int) -> None:
        """Slower than the source would fall behind it; faster would not be even."""
        now, before = self._clock(), self._fed_at
        self._fed_at = now
        if before is None or not pieces:
            return
        if now - self._asked_at < AT_ONCE:
            self._pace *= CATCHING_UP
        else:
            self._pace = min(self._interval, (now - before) / pieces)

    def _piece(self, text: str) -> Any:
        offset, self._position = self._position, self._position + len(text)
        count, self._count = self._count, 0
        return _piece(self._said, text, offset, count)


AT_ONCE = 0.001
"""Seconds within which an item must have been waiting already."""

CATCHING_UP = 0.7
"""How much faster the pieces leave while items wait."""


def _count(item: Any) -> int:
    event = event_of(item)
    return event.count if isinstance(event, TokenEvent) else 0


def _speaker(item: Any) -> Hashable:
    """Whose text it is: pieces do not reach from one field into the next."""
    event = event_of(item)
    if isinstance(event, TokenEvent):
        return (event.identity, event.field)
    return type(item).__name__


def _offset(item: Any) -> int:
    event = event_of(item)
    return event.offset if isinstance(event, TokenEvent) else 0


def _piece(item: Any, text: str, offset: int, count: int) -> Any:
    """A piece of an item. The pieces of an event share its ``seq``; each token counts once."""
    if isinstance(item, TokenEvent):
        return msgspec.structs.replace(item, token=text, offset=offset, count=count)
    if isinstance(item, Token) and isinstance(item.event, TokenEvent):
        return Token(text, _piece(item.event, text, offset, count))
    return with_text(item, text)


# --- throttle, map, filter ------------------------------------------------------------------------


def throttle(source: Any, per_second: float) -> Piped:
    """At most so many pieces of text per second; events without text pass at once.

    The model waits, too, as soon as the buffers between are full.
    """
    Rate(per_second)
    return Piped(source, lambda: _Throttle(Rate(per_second)))


class _Throttle(Simple):
    def __init__(self, rate: Rate) -> None:
        self._rate = rate

    def feed(self, item: Any) -> Iterable[Timed]:
        return [(self._rate.reserve() if text_of(item) else 0.0, item)]


def map_tokens(source: Any, function: Callable[[str], str]) -> Piped:
    """``function`` of every piece of text, e.g. ``str.upper``."""
    return Piped(source, lambda: _Map(function))


class _Map(Simple):
    def __init__(self, function: Callable[[str], str]) -> None:
        self._function = function

    def feed(self, item: Any) -> Iterable[Timed]:
        text = text_of(item)
        return [(0.0, item if text is None else with_text(item, self._function(text)))]


def filter_tokens(source: Any, predicate: Callable[[str], object]) -> Piped:
    """Without the pieces of text of which ``predicate`` is false."""
    return Piped(source, lambda: _Filter(predicate))


class _Filter(Simple):
    def __init__(self, predicate: Callable[[str], object]) -> None:
        self._predicate = predicate

    def feed(self, item: Any) -> Iterable[Timed]:
        text = text_of(item)
        return [(0.0, item)] if text is None or self._predicate(text) else []


# --- buffer -----------------------------------------------------------------------------------------


def buffer(source: Any, n: int | None = None, *, seconds: float | None = None) -> Piped | Batches:
    """Items in lists: of ``n`` each, or what came within ``seconds``, whichever is first."""
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


class _Group:
    def __init__(self, n: int) -> None:
        self._n = n
        self._items: list[Any] = []

    def feed(self, item: Any) -> Iterable[Timed]:
        self._items.append(item)
        return self.finish() if len(self._items) == self._n else ()

    def finish(self) -> Iterable[Timed]:
        items, self._items = self._items, []
        return [(0.0, items)] if items else ()

    def close(self) -> None:
        self._items = []


# --- to a file --------------------------------------------------------------------------------------


def to_file(source: Any, path: str | os.PathLike[str], *, append: bool = False) -> Piped:
    """Write the text into a file while it passes, flushed piece by piece.

    Text that is superseded or corrected is taken back from the file.
    """
    return Piped(source, lambda: _ToFile(Path(path), append=append))


class _ToFile(Simple):
    def __init__(self, path: Path, *, append: bool) -> None:
        self._file: TextIO = path.open("a+" if append else "w+", encoding="utf-8", newline="")
        self._start = self._file.seek(0, os.SEEK_END)
        self._translator = Translator()

    def feed(self, item: Any) -> Iterable[Timed]:
        words: Iterable[Any] = [item]
        if isinstance(item, Event):
            words = self._translator.feed(item)
        for word in words:
            if isinstance(word, Reset):
                self._file.seek(self._start)
                self._file.truncate()
            elif text := text_of(word):
                self._file.write(text)
                self._file.flush()
        return [(0.0, item)]

    def close(self) -> None:
        self._file.close()
