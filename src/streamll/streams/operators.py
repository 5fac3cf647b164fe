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
import inspect
import os
import time
from collections.abc import AsyncIterator, Callable, Hashable, Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

import anyio
import msgspec

from streamll.core.errors import ConfigurationError
from streamll.core.events import Event, FieldCorrected, TokenEvent
from streamll.flow.bridge import Bridge, Derived, checked
from streamll.flow.dual import DualIterator, Openable
from streamll.flow.limits import Rate
from streamll.streams.stream_events import (
    Reset,
    Token,
    Translator,
    author_of,
    is_reset,
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

    def opened(self, *, on_loop: bool) -> DualIterator[Any]:
        return Staged(self._source, self._stage()).opened(on_loop=on_loop)

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


# --- throttle, map, filter ------------------------------------------------------------------------


def throttle(source: Any, per_second: float) -> Piped:
    """At most ``per_second`` pieces of the text of ``source``; events without text pass at once.

    The model waits as well, as soon as the buffers in between are full.

    Raises:
        ConfigurationError: ``per_second`` is not positive.
    """
    Rate(per_second)

    def stage() -> Stage:
        rate = Rate(per_second)
        return Stage(lambda item: [(rate.reserve() if field_text_of(item) else 0.0, item)])

    return Piped(source, stage)


def map_tokens(source: Any, function: Callable[[str], str]) -> Piped:
    """``source`` with ``function`` of every piece of text in its place, e.g. ``str.upper``.

    A text that takes the place of a whole field's is mapped as well. No ``function`` gets an empty one.

    Raises:
        TypeError: ``function`` cannot be called, or is a coroutine function.
    """
    plain_function(function, "map_tokens")

    def feed(item: Any) -> Iterable[Timed]:
        text = field_text_of(item)
        if text:
            item = with_text(item, function(text))
        elif isinstance(item, FieldCorrected) and item.text:
            item = msgspec.structs.replace(item, text=function(item.text))
        elif is_reset(item) and item.text:
            item = copy.copy(item)
            item.text = function(item.text)
        return [(0.0, item)]

    return Piped(source, lambda: Stage(feed))


def filter_tokens(source: Any, predicate: Callable[[str], object]) -> Piped:
    """``source`` without the pieces of text for which ``predicate`` is false.

    Raises:
        TypeError: ``predicate`` cannot be called, or is a coroutine function.
    """
    plain_function(predicate, "filter_tokens")

    def feed(item: Any) -> Iterable[Timed]:
        text = field_text_of(item)
        if not text or predicate(text):
            return [(0.0, item)]
        ends = getattr(item, "is_last_chunk", False)  # DSPy's own last one may have text
        return [(0.0, with_text(item, ""))] if ends else []

    return Piped(source, lambda: Stage(feed))


# --- buffer -----------------------------------------------------------------------------------------


def buffer(source: Any, n: int | None = None, *, seconds: float | None = None) -> Piped | Batches:
    """Items in lists: of ``n`` each, or of what came within ``seconds``, whichever is first.

    ``source`` is any stream. With ``seconds`` alone a list has at most 1,000 items.

    Raises:
        ConfigurationError: neither of the two, or one that is not positive.
    """
    if n is None and seconds is None:
        raise ConfigurationError("buffer takes a number of items, seconds, or both")
    if n is not None and (isinstance(n, bool) or not n >= 1):
        raise ConfigurationError(f"buffer takes at least 1 item, not {n!r}")
    if n is not None and n % 1 > 0:  # no list ever has so many: it would grow without end
        raise ConfigurationError(f"buffer takes a whole number of items, not {n!r}")
    if seconds is not None and not seconds > 0:
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
    """Write the text of ``source`` to the file ``path`` as it passes, flushed piece by piece.

    An existing file is replaced, or with ``append`` continued. Text that is superseded or corrected
    is removed from the file again; then the texts of ``streamify`` stand field by field. Raises
    ``OSError`` where the file cannot be written.
    """
    return Piped(source, lambda: _ToFile(Path(path), append=append))


class _ToFile(Stage):
    def __init__(self, path: Path, *, append: bool) -> None:
        self._file: TextIO = path.open("a+" if append else "w+", encoding="utf-8", newline="")
        self._start = self._file.seek(0, os.SEEK_END)
        self._translator = Translator()
        self._responses: dict[Hashable, list[str]] = {}  # of ``streamify``, by field

    def feed(self, item: Any) -> Iterable[Timed]:
        for each in self._translator.feed(item) if isinstance(item, Event) else [item]:
            if isinstance(each, Reset):
                self._rewrite("")
            elif is_response(each):
                self._write_response(each)
            else:
                self._write(field_text_of(each) or "")
        return [(0.0, item)]

    def _write_response(self, response: Any) -> None:
        texts = self._responses.setdefault(author_of(response), [])
        if is_reset(response):
            texts[:] = [response.text]
            self._rewrite("".join(text for field in self._responses.values() for text in field))
        else:
            texts.append(response.chunk)
            self._write(response.chunk)

    def _rewrite(self, text: str) -> None:
        self._file.seek(self._start)
        self._file.truncate()
        self._write(text)

    def _write(self, text: str) -> None:
        if text:
            self._file.write(text)
            self._file.flush()

    def close(self) -> None:
        self._file.close()
