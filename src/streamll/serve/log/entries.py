"""Entries of the log: how they begin, and the JSON of their events. No I/O."""

from __future__ import annotations

import re

import msgspec

from streamll.core.events import Event
from streamll.core.wire import encode, opening

HEADING = re.compile(
    rb'\{"id":"(?P<writer>[0-9a-f]+):[0-9]+",(?:"traceparent":"[^"\\]*",)?"v":1,'
    rb'(?:"run_id":"(?P<run>[^"\\]+)",)?'
)
"""How the entries begin that this version's sinks write."""

EVENTS_KEY = b'"events":['


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
            self._json = self._cut() if HEADING.match(self._body) else {}
            self._body = b""
        return self._json.get(id(event)) or encode(event)

    def _cut(self) -> dict[int, bytes]:
        first = self._events[0]
        shared = opening(first.run_id, first.context).removesuffix(EVENTS_KEY)
        pieces = _decoder.decode(self._body).events
        return {
            id(event): shared + bytes(piece)[1:]
            for event, piece in zip(self._events, pieces, strict=True)
        }
