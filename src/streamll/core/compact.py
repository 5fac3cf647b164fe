"""The compact form of the native wire: what does not change within a call is sent once. No I/O.

A frame is an event's JSON object as in the full form (``core.wire``), or an array. An object of a
kind that carries text in pieces can have one more key, ``ref``: the reader remembers the event under this
number, and an array is then an event like it::

    {"v": 1, "event_type": "token", "seq": 12, …, "token": "Mach", "ref": 0}
    [0, 13, 204817, "ine"]            ref, seq, ticks, text
    [0, 14, 398112, " learning", 3]   and count, where it is not 1

``timestamp`` is that of the event with the ``ref`` plus ``ticks / 1e7``; ``offset``, ``token_index`` and a
thinking event's ``index`` go on from the event before. Whatever cannot be said so is an object. The
writer and the reader of one connection belong together: both begin with nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec

from streamll.core.errors import WireError
from streamll.core.events import NOTHING, Event, Thinking, TokenEvent, ToolCallDelta
from streamll.core.wire import decode, encode

TICKS_PER_S = 1e7
"""A tick is less than half of what separates two doubles near the present: no time is rounded."""
MAX_TICKS = 2**53
"""Below this, JavaScript's numbers are exact as well."""
MAX_REFS = 256
"""So many calls' fields at most are remembered at once; the oldest gives way."""
REF = "ref"


class _Kind(NamedTuple):
    """A kind of event that carries text in pieces."""

    text: str
    """The name of its text."""
    stream: Callable[[Any], Hashable]
    """What tells the pieces of one text from those of others."""
    fixed: Callable[[Any], Any]
    """What else all pieces have alike."""
    grown: tuple[str, ...]
    """What follows from the piece before."""
    now: Callable[[Any], tuple[int, ...]]
    """The values of ``grown``."""
    following: Callable[[Any], tuple[int, ...]]
    """And those of the next piece."""


_KINDS: dict[type[Event], _Kind] = {
    TokenEvent: _Kind(
        "token",
        attrgetter("identity", "field"),
        attrgetter("context", "extra", "finish_reason", "cached"),
        ("offset", "token_index"),
        attrgetter("offset", "token_index"),
        lambda event: (event.offset + len(event.token), event.token_index + event.count),
    ),
    Thinking: _Kind(
        "text",
        attrgetter("identity"),
        attrgetter("context", "extra"),
        ("index",),
        lambda event: (event.index,),
        lambda event: (event.index + 1,),
    ),
    ToolCallDelta: _Kind(
        "arguments",
        attrgetter("identity", "index"),
        attrgetter("context", "extra", "name"),
        (),
        lambda _: (),
        lambda _: (),
    ),
}
_encoder = msgspec.json.Encoder()


class _Told:
    """What the reader knows of one text."""

    __slots__ = ("base", "fixed", "following", "ref")

    def __init__(self, ref: int, base: float, fixed: Any, following: tuple[int, ...]) -> None:
        self.ref = ref
        self.base = base
        self.fixed = fixed
        self.following = following


class CompactWriter:
    """Writes the events of a connection: ``short`` if that says it all, otherwise ``full``."""

    def __init__(self) -> None:
        self._told: dict[Hashable, _Told] = {}

    def short(self, event: Any) -> bytes | None:
        """The event as an array, if it goes on from one that the reader has been told."""
        kind = _KINDS.get(type(event))
        if kind is None:
            return None
        try:
            told = self._told.get(kind.stream(event))
            if (
                told is None
                or event.seq is None
                or kind.now(event) != told.following
                or kind.fixed(event) != told.fixed
            ):
                return None
            ticks = round((event.timestamp - told.base) * TICKS_PER_S)
            if told.base + ticks / TICKS_PER_S != event.timestamp or abs(ticks) >= MAX_TICKS:
                return None
            values = [told.ref, event.seq, ticks, getattr(event, kind.text)]
            if kind.text == "token" and event.count != 1:
                values.append(event.count)
            frame = _encoder.encode(values)
        except Exception:  # noqa: BLE001 - of a value that no array can hold there is the full form
            return None
        told.following = kind.following(event)
        return frame

    def full(self, event: Any, payload: bytes) -> bytes:
        """The event as an object: its JSON ``payload``, with a ``ref`` if others may go on from it."""
        kind = _KINDS.get(type(event))
        if kind is None:
            return payload
        if REF in event.extra:  # it would be taken for ours
            own = {key: value for key, value in event.extra.items() if key != REF}
            event = msgspec.structs.replace(event, extra=own)
            payload = encode(event)
        try:
            stream = kind.stream(event)
            _encoder.encode(getattr(event, kind.text))  # of other text only a likeness is sent
            fixed, following = kind.fixed(event), kind.following(event)
            ref = self._number(stream)
        except Exception:  # noqa: BLE001 - then nothing goes on from it
            return payload
        self._told[stream] = _Told(ref, event.timestamp, fixed, following)
        return b'%s,"ref":%d}' % (payload[:-1], ref)

    def _number(self, stream: Hashable) -> int:
        if told := self._told.pop(stream, None):
            return told.ref
        if len(self._told) < MAX_REFS:
            return len(self._told)
        return self._told.pop(next(iter(self._told))).ref


class _Short(msgspec.Struct, array_like=True):
    ref: int
    seq: int
    ticks: int
    text: str
    count: int = 1


_decoder = msgspec.json.Decoder(_Short)


class CompactReader:
    """Reads the frames of a connection, in either form."""

    def __init__(self) -> None:
        self._told: dict[int, tuple[float, Any]] = {}
        """By ``ref``: the time from which ticks count, and the latest event."""

    def read(self, frame: bytes | str) -> Event:
        """The event in the next frame.

        Raises:
            WireError: it is none, newer than this version can read, or goes on from an event that
                the reader does not have.
        """
        if frame[:1] in ("[", b"["):
            return self._next(frame)
        event = decode(frame)
        if type(event) in _KINDS and type(event.extra.get(REF)) is int:
            extra = dict(event.extra)
            ref = extra.pop(REF)
            event = msgspec.structs.replace(event, extra=extra or NOTHING)
            self._told[ref] = event.timestamp, event
        return event

    def _next(self, frame: bytes | str) -> Event:
        try:
            short = _decoder.decode(frame)
        except msgspec.MsgspecError as error:
            raise WireError(f"not an event in compact form: {error}") from error
        if short.ref not in self._told:
            raise WireError(f"an event goes on from {REF} {short.ref}, which was not sent before")
        base, event = self._told[short.ref]
        kind = _KINDS[type(event)]
        changed = dict(zip(kind.grown, kind.following(event), strict=True))
        if kind.text == "token":
            changed["count"] = short.count
        timestamp = base + short.ticks / TICKS_PER_S
        text = {kind.text: short.text}
        following: Event = msgspec.structs.replace(
            event, seq=short.seq, timestamp=timestamp, **text, **changed
        )
        self._told[short.ref] = base, following
        return following
