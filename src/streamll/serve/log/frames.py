"""A run's events as items, which all its readers share, and as frames with them. No I/O.

Frames follow the event stream format of the WHATWG HTML standard, section "Server-sent events".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import msgspec

from streamll.core.events import Event, StreamGap
from streamll.core.positions import Position, position
from streamll.core.wire import encode, opening

HEADERS: Mapping[str, str] = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache, no-transform",
    "x-accel-buffering": "no",
}
HEARTBEAT = b": \n\n"
RETRY = b"retry: 1000\n\n"
"""Milliseconds until a browser reconnects."""

HEADING = re.compile(
    rb'\{"id":"(?P<writer>[0-9a-f]+):[0-9]+",(?:"traceparent":"[^"\\]*",)?"v":1,'
    rb'(?:"run_id":"(?P<run>[^"\\]+)",)?'
)
"""How the entries begin that this version's sinks write."""


class _Events(msgspec.Struct):
    events: list[msgspec.Raw]


_decoder = msgspec.json.Decoder(_Events)


class EntryJSON:
    """The JSON of an entry's events, as ``core.wire.encode`` would write it.

    It is cut out of the entry when the first of it is needed: an event is encoded once, by the
    sink that writes it to the log. Only the JSON of this version's sinks is used again; others'
    may be pretty-printed, and a line end would break a frame.
    """

    __slots__ = ("_body", "_events", "_json")

    def __init__(self, body: bytes, events: list[Event]) -> None:
        self._body = body
        self._events = events
        self._json: dict[int, bytes] | None = None

    def of(self, event: Event) -> bytes:
        """The JSON of ``event``; encoded anew if it is only a part of what the entry has."""
        if self._json is None:
            pieces = _decoder.decode(self._body).events if HEADING.match(self._body) else []
            first = self._events[0]
            shared = opening(first.run_id, first.context).removesuffix(b'"events":[')
            self._json = {
                id(event): shared + bytes(piece)[1:]
                for event, piece in zip(self._events, pieces, strict=False)
                if not isinstance(event, StreamGap)  # perhaps in place of what could not be read
            }
            self._body = b""
        return self._json.get(id(event)) or encode(event)


class Item(msgspec.Struct, gc=False):
    """An event and its encoded forms, which all readers of the run share.

    ``position`` is reached with it. A ``stream.gap`` has no ``seq``: it leaves the position as it is.
    """

    event: Event
    position: Position
    entry: EntryJSON | None = None
    _frame: bytes | None = None

    @property
    def first(self) -> int:
        """The ``seq`` of the event; of a merged token, that of its first part."""
        seq = self.event.seq
        return self.position.seq if seq is None else seq

    @property
    def id(self) -> str | None:
        return None if self.event.seq is None else str(self.position)

    @property
    def payload(self) -> bytes:
        """The event as JSON, reused from the log's entry where there is one."""
        return encode(self.event) if self.entry is None else self.entry.of(self.event)

    @property
    def frame(self) -> bytes:
        """The event as a frame of the native format."""
        if self._frame is None:
            self._frame = frame([self.payload], self.id)
        return self._frame


def items_of(
    events: Iterable[Event], reached: Position, entry: EntryJSON | None = None
) -> list[Item]:
    """The events of a run as items. ``reached``: the position before the first of them."""
    items = []
    for event in events:
        if event.seq is not None:
            reached = position(event)
        items.append(Item(event, reached, entry))
    return items


def frame(payloads: Iterable[bytes], position: str | None) -> bytes:
    """Payloads as frames. Only the last one has the id: a reader who has it has all of them."""
    *before, last = payloads
    head = b"".join(b"data: " + payload + b"\n\n" for payload in before)
    mark = b"" if position is None else b"id: " + position.encode() + b"\n"
    return head + mark + b"data: " + last + b"\n\n"


def named_frames(payloads: Iterable[bytes]) -> bytes:
    """Payloads that begin with their ``type`` as frames with that name."""
    return b"".join(
        b"event: " + payload.split(b'"', 4)[3] + b"\ndata: " + payload + b"\n\n"
        for payload in payloads
    )
