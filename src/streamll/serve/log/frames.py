"""Events as frames of an event stream, with ids that a reader can come back with. No I/O.

The id of an event is ``run_id:seq``, of a token ``run_id:seq:offset``: what the reader has when it
has had the event, so that it can go on even where another copy of the log has merged that token
with its neighbours. A merged token has the ``seq`` of its last part there.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import msgspec

from streamll.core.errors import StreamllError
from streamll.core.events import Event, Identity, RunError, StreamllEvent, TokenEvent
from streamll.core.wire import encode
from streamll.serve.formats import OutputFormat

HEADERS: Mapping[str, str] = MappingProxyType(
    {
        "content-type": "text/event-stream; charset=utf-8",
        "cache-control": "no-cache, no-transform",
        "x-accel-buffering": "no",
    }
)
HEARTBEAT = b": \n\n"
RETRY = b"retry: 1000\n\n"
"""Milliseconds after which a browser whose connection was cut comes back."""


LATE = 2**53
"""Behind every ``seq``: whether there is more than this is whether the run is still on."""


class Position(msgspec.Struct, frozen=True):
    """How far a reader has come in a run. ``seq`` -1: nowhere yet."""

    run_id: str
    seq: int = -1
    offset: int | None = None

    def __str__(self) -> str:
        end = "" if self.offset is None else f":{self.offset}"
        return f"{self.run_id}:{self.seq}{end}"


def read_position(text: str, run_id: str | None = None) -> Position:
    """What ``str(position)`` wrote; without a run id in it, one of run ``run_id``.

    Raises:
        ValueError: it is something else.
    """
    found = _POSITION.fullmatch(text.strip())
    run = found["run"] or run_id if found else None
    if found is None or not run:
        raise ValueError(f"no position in a run: {text[:100]!r}")
    offset = found["offset"]
    return Position(run, int(found["seq"]), None if offset is None else int(offset))


_POSITION = re.compile(
    r"(?:(?P<run>(?!-?[0-9]{1,18}:)[^:]{1,200}):)?(?P<seq>-1|[0-9]{1,17})(?::(?P<offset>[0-9]{1,17}))?"
)


class Item(msgspec.Struct, gc=False):
    """One event, and what its readers share: encoded once, however many they are.

    ``last`` is the ``seq`` that has been reached with it; an announced loss has none of its own.
    """

    event: Event
    last: int
    _position: Position | None = None
    _payload: bytes | None = None
    _frame: bytes | None = None

    @property
    def first(self) -> int:
        seq = self.event.seq
        return self.last if seq is None else seq

    @property
    def position(self) -> Position | None:
        """Where a reader is who has had this; an announced loss has no place."""
        event = self.event
        if self._position is None and event.seq is not None:
            offset = event.offset + len(event.token) if isinstance(event, TokenEvent) else None
            self._position = Position(event.identity.run_id or "", self.last, offset)
        return self._position

    @property
    def id(self) -> str | None:
        """What a reader comes back with who has had this."""
        return None if self.position is None else str(self.position)

    @property
    def payload(self) -> bytes:
        """The event as JSON."""
        if self._payload is None:
            self._payload = encode(self.event)
        return self._payload

    @property
    def frame(self) -> bytes:
        """The event as a native frame."""
        if self._frame is None:
            self._frame = frame([self.payload], self.id)
        return self._frame


def items_of(events: Iterable[Event], last: int = -1) -> list[Item]:
    """The events as items, the first of them behind ``last``."""
    items = []
    for event in events:
        if event.seq is not None:
            last = event.seq + (event.count - 1 if isinstance(event, TokenEvent) else 0)
        items.append(Item(event, last))
    return items


def reached(items: Sequence[Item], before: Position) -> Position:
    """Where a reader is who was at ``before`` and has had all of these."""
    for item in reversed(items):
        if item.position is not None:
            return item.position
    return before


def frame(payloads: Iterable[bytes], position: str | None) -> bytes:
    """Payloads as frames. The last one has the id: who has that has all of them."""
    *before, last = payloads
    head = b"".join(b"data: " + payload + b"\n\n" for payload in before)
    mark = b"" if position is None else b"id: " + position.encode() + b"\n"
    return head + mark + b"data: " + last + b"\n\n"


class FrameWriter:
    """Items in one format, as bytes of an event stream."""

    def __init__(self, form: OutputFormat) -> None:
        self.form = form
        self._native = form.name == "native"

    def of(self, items: Iterable[Item]) -> bytes:
        if self._native:
            return b"".join([item.frame for item in items])
        return b"".join([self._told(item) for item in items])

    def skip(self, items: Iterable[Item]) -> None:
        """The reader has had these."""
        if not self._native:
            for item in items:
                self.form.feed(item.event)

    def resume(self) -> bytes:
        payloads = self.form.resume()
        return frame(payloads, None) if payloads else b""

    def broken(self, run_id: str, error: StreamllError) -> bytes:
        """The stream ends here, though the run may go on: the position of its reader stands."""
        payloads = broken(self.form, run_id, error)
        return frame(payloads, None) if payloads else b""

    def _told(self, item: Item) -> bytes:
        payloads = self.form.feed(item.event)
        if not payloads:
            return b""
        return frame(payloads, item.id if self.form.ids else None)


def broken(form: OutputFormat, run_id: str, error: StreamllError) -> list[bytes]:
    """How a format tells that its stream ends before the run does.

    Native readers get an event of type ``stream.error``, which has no ``seq`` and is in no log;
    for the others it is as if the run had failed.
    """
    kind, message = type(error).__name__, str(error)
    base: dict[str, Any] = {"identity": Identity(run_id=run_id), "timestamp": time.time()}
    if form.name != "native":
        return form.feed(RunError(error_type=kind, message=message, **base))
    told = {"error_type": kind, "message": message}
    return [encode(StreamllEvent(event_type="stream.error", data=told, **base))]
