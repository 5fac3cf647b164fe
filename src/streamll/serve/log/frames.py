"""Positions in a run, and its events as frames and messages with them. No I/O.

The position after an event is ``run_id:seq``, after a token ``run_id:seq:offset``, so that a reader
can resume even where another copy of the log has merged that token with its neighbours. A merged
token's position has the ``seq`` of its last part.

Frames follow the event stream format of the WHATWG HTML standard, section "Server-sent events".
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Generic, TypeVar

import msgspec

from streamll.core.errors import StreamllError
from streamll.core.events import Event, Identity, RunError, StreamllEvent, TokenEvent
from streamll.core.wire import encode
from streamll.serve.formats import OutputFormat
from streamll.serve.log.entries import EntryJSON

T = TypeVar("T")

HEADERS: Mapping[str, str] = MappingProxyType(
    {
        "content-type": "text/event-stream; charset=utf-8",
        "cache-control": "no-cache, no-transform",
        "x-accel-buffering": "no",
    }
)
HEARTBEAT = b": \n\n"
RETRY = b"retry: 1000\n\n"
"""Milliseconds until a browser reconnects."""

AFTER_EVERYTHING = 2**53
"""Greater than every ``seq``: only a run that is still under way has more after this."""


class Position(msgspec.Struct, frozen=True):
    """How far a reader has come in a run. ``seq`` -1: before its first event."""

    run_id: str
    seq: int = -1
    offset: int | None = None

    def __str__(self) -> str:
        end = "" if self.offset is None else f":{self.offset}"
        return f"{self.run_id}:{self.seq}{end}"


_POSITION = re.compile(
    r"(?:(?P<run>(?!-?[0-9]{1,18}:)[^:]{1,200}):)?(?P<seq>-1|[0-9]{1,17})(?::(?P<offset>[0-9]{1,17}))?"
)


def read_position(text: str, run_id: str | None = None) -> Position:
    """Parse ``str(position)``. ``run_id``: the run of a text that names none.

    Raises:
        ValueError: it is not a position.
    """
    found = _POSITION.fullmatch(text.strip())
    run = found["run"] or run_id if found else None
    if found is None or not run:
        raise ValueError(f"not a position in a run: {text[:100]!r}")
    offset = found["offset"]
    return Position(run, int(found["seq"]), None if offset is None else int(offset))


class Item(msgspec.Struct, gc=False):
    """An event and its encoded forms, which all readers of the run share.

    ``last`` is the ``seq`` reached with it; a ``stream.gap`` has none of its own.
    """

    event: Event
    last: int
    entry: EntryJSON | None = None
    _position: Position | None = None
    _payload: bytes | None = None
    _frame: bytes | None = None

    @property
    def first(self) -> int:
        seq = self.event.seq
        return self.last if seq is None else seq

    @property
    def position(self) -> Position | None:
        """The position after this event; ``None`` for a ``stream.gap``."""
        event = self.event
        if self._position is None and event.seq is not None:
            offset = event.offset + len(event.token) if isinstance(event, TokenEvent) else None
            self._position = Position(event.identity.run_id or "", self.last, offset)
        return self._position

    @property
    def id(self) -> str | None:
        return None if self.position is None else str(self.position)

    @property
    def payload(self) -> bytes:
        """The event as JSON, reused from the log's entry where there is one."""
        if self._payload is None:
            entry, event = self.entry, self.event
            self._payload = encode(event) if entry is None else entry.of(event)
        return self._payload

    @property
    def frame(self) -> bytes:
        """The event as a frame of the native format."""
        if self._frame is None:
            self._frame = frame([self.payload], self.id)
        return self._frame


def items_of(events: Iterable[Event], last: int = -1, entry: EntryJSON | None = None) -> list[Item]:
    """The events as items. ``last``: the ``seq`` before the first of them."""
    items = []
    for event in events:
        if event.seq is not None:
            last = event.seq + (event.count - 1 if isinstance(event, TokenEvent) else 0)
        items.append(Item(event, last, entry))
    return items


def reached(items: Sequence[Item], before: Position) -> Position:
    """The position after all items, for a reader who was at ``before``."""
    return next((i.position for i in reversed(items) if i.position is not None), before)


def frame(payloads: Iterable[bytes], position: str | None) -> bytes:
    """Payloads as frames. Only the last one has the id: a reader who has it has all of them."""
    *before, last = payloads
    head = b"".join(b"data: " + payload + b"\n\n" for payload in before)
    mark = b"" if position is None else b"id: " + position.encode() + b"\n"
    return head + mark + b"data: " + last + b"\n\n"


class ItemWriter(Generic[T]):
    """Renders the items of one run for one reader, in one format."""

    def __init__(self, form: OutputFormat) -> None:
        self.form = form
        self.is_native = form.name == "native"

    def write(self, items: Iterable[Item]) -> T:
        raise NotImplementedError

    def payloads(self, payloads: list[bytes]) -> T:
        """Payloads that belong to no item."""
        raise NotImplementedError

    def skip(self, items: Iterable[Item]) -> None:
        """Take items that the reader has had already."""
        for item in items:
            self.form.feed(item.event)

    def resume(self) -> T:
        """What goes out first after ``skip``."""
        return self.payloads(self.form.resume())

    def broken(self, run_id: str, error: StreamllError) -> T:
        """How the format reports that its stream ends before the run does.

        Native readers get an event of type ``stream.error``, which has no ``seq`` and is in no log;
        to the others the run has failed.
        """
        kind, message = type(error).__name__, str(error)
        base: dict[str, Any] = {"identity": Identity(run_id=run_id), "timestamp": time.time()}
        if not self.is_native:
            return self.payloads(self.form.feed(RunError(error_type=kind, message=message, **base)))
        data = {"error_type": kind, "message": message}
        return self.payloads([encode(StreamllEvent(event_type="stream.error", data=data, **base))])


class FrameWriter(ItemWriter[bytes]):
    """Items as frames of an event stream (SSE)."""

    def write(self, items: Iterable[Item]) -> bytes:
        if self.is_native:
            return b"".join([item.frame for item in items])
        return b"".join([self._frames(item) for item in items])

    def _frames(self, item: Item) -> bytes:
        payloads = self.form.feed(item.event)
        return frame(payloads, item.id if self.form.ids else None) if payloads else b""

    def payloads(self, payloads: list[bytes]) -> bytes:
        return frame(payloads, None) if payloads else b""


class MessageWriter(ItemWriter[list[str]]):
    """Items as WebSocket messages."""

    def write(self, items: Iterable[Item]) -> list[str]:
        if self.is_native:
            return [item.payload.decode() for item in items]
        return self.payloads([each for item in items for each in self.form.feed(item.event)])

    def payloads(self, payloads: list[bytes]) -> list[str]:
        return [payload.decode() for payload in payloads]
