"""What is written when: a reply and its fault as a sequence of steps. Pure data, no socket.

The steps of a stream come from three generators in a row: ``interrupted`` adds holds and
failures between the wire's frames, ``paced`` adds pauses, ``gathered`` joins frames into writes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import NamedTuple

from streamll.testing.dialects.table import ORDINARY, Dialect
from streamll.testing.prepared import PreparedReply
from streamll.testing.replies import NO_FAULT, Fault, Reply
from streamll.testing.wires import PracticeWire, WireFrame
from streamll.testing.wires.base import encode

WRITE_BYTES = 16_384  # of one write, unless every frame gets a write of its own
EVENT_STREAM = "text/event-stream; charset=utf-8"
JSON_TYPE = "application/json"
ERROR_MESSAGES = {
    400: "The practice server was asked to refuse this request.",
    401: "Incorrect API key provided.",
    404: "The model does not exist.",
    429: "Rate limit reached. Please try again later.",
    529: "Overloaded",
}
AFTER_LEAD_BYTE = re.compile(rb"(?<=[\xc0-\xff])")  # of a character of several bytes
DEFAULT_ERROR = "The server had an error while processing your request."


END_OF_ARRAY = WireFrame(b"]")


class Head(NamedTuple):
    """Status line and headers; ``length`` is the body's where it is known."""

    status: int
    content_type: str
    headers: list[tuple[str, str]]
    length: int | None = None


class Write(NamedTuple):
    """Bytes for one write; how many frames end in it, and how many of these carry content."""

    data: bytes
    frames: int = 0
    chunks: int = 0


class Hold(NamedTuple):
    """Wait for a release, and meanwhile write a comment line every ``comment_every`` seconds."""

    comment_every: float | None = None


class Pause(NamedTuple):
    seconds: float


class HangUp(NamedTuple):
    reset: bool = False


Step = Head | Write | Hold | Pause | HangUp


def plan(
    reply: Reply, prepared: PreparedReply, wire: PracticeWire, dialect: Dialect = ORDINARY
) -> Iterator[Step]:
    """The steps of one reply, rendered as they are needed."""
    fault = reply.fault or NO_FAULT
    steps: Iterable[Step]
    if fault.status is not None:
        steps = failed(fault.status, fault, prepared, wire)
    elif fault.refuses(prepared.request_body):
        message = "Unrecognized request argument supplied: stream_options"
        steps = json_body(400, encode(wire.error(400, None, message)), wire.headers(prepared))
    elif not prepared.asked.streaming or fault.plain_json:
        steps = in_one_piece(reply, fault, prepared, wire, dialect)
    else:
        steps = streamed(reply, fault, prepared, wire, dialect)
    if fault.silent:
        steps = chain([Hold()], steps)
    if fault.disconnect_after_bytes is not None:
        steps = until_bytes(steps, fault.disconnect_after_bytes, reset=fault.reset)
    if fault.split_characters:
        steps = split_characters(steps)
    return iter(steps)


def failed(status: int, fault: Fault, prepared: PreparedReply, wire: PracticeWire) -> list[Step]:
    """An HTTP error in the provider's shape."""
    message = fault.message or ERROR_MESSAGES.get(status, DEFAULT_ERROR)
    headers = wire.headers(prepared)
    if fault.retry_after is not None:
        headers.append(("retry-after", f"{fault.retry_after:g}"))
    data = encode(wire.error(status, fault.error_type, message))
    return json_body(status, data, headers, fault.content_type)


def json_body(
    status: int, data: bytes, headers: list[tuple[str, str]], content_type: str | None = None
) -> list[Step]:
    return [Head(status, content_type or JSON_TYPE, headers, len(data)), Write(data, 1, 1)]


def in_one_piece(
    reply: Reply, fault: Fault, prepared: PreparedReply, wire: PracticeWire, dialect: Dialect
) -> list[Step]:
    """A reply that is not streamed. Faults that end a stream early leave nothing of it."""
    if fault.disconnect_after is not None:
        return [HangUp(fault.reset)]
    if fault.error_after is not None:
        return failed(500, fault, prepared, wire)
    data = dialect.blanks + encode(dialect.body(wire.body(prepared), prepared))
    if fault.malformed_after is not None:
        data = data[: len(data) // 2]
    steps = json_body(200, data, wire.headers(prepared), fault.content_type)
    if reply.pace:  # as long as the stream of this reply takes
        chunks = sum(frame.content for frame in wire.frames(prepared))
        steps.insert(0, Pause(reply.pace * max(0, chunks - 1)))
    return [Hold(), *steps] if stops(reply, fault) else steps


def stops(reply: Reply, fault: Fault) -> frozenset[int]:
    """After how many chunks the reply is held."""
    asked = reply.hold_after
    places = {asked} if isinstance(asked, int) else set(asked)
    if fault.stall_after is not None:
        places.add(fault.stall_after)
    if fault.keepalive is not None and not places and not fault.silent:
        places.add(0)
    return frozenset(places)


# --- streams ------------------------------------------------------------------------------------


def streamed(
    reply: Reply, fault: Fault, prepared: PreparedReply, wire: PracticeWire, dialect: Dialect
) -> Iterable[Step]:
    frames = dialect.frames(wire.frames(prepared), prepared)
    parts: Iterable[WireFrame | Step]
    parts = interrupted(frames, prepared, wire, fault, stops(reply, fault))
    if reply.pace:
        parts = paced(parts, reply.pace)
    kind = EVENT_STREAM
    written: Callable[[WireFrame], bytes] = EventWriter(fault, wire.line_end)
    if prepared.asked.as_array:
        kind, written, parts = JSON_TYPE, ArrayWriter(), chain(parts, [END_OF_ARRAY])
    if fault.open_end:
        parts = chain(parts, [Hold()])
    headers = [("cache-control", "no-cache"), *wire.headers(prepared)]
    head = Head(200, fault.content_type or kind, headers)
    return chain([head], gathered(parts, written, 1 if reply.packets else WRITE_BYTES))


def interrupted(
    frames: Iterable[WireFrame],
    prepared: PreparedReply,
    wire: PracticeWire,
    fault: Fault,
    holds: frozenset[int],
) -> Iterator[WireFrame | Step]:
    """The wire's frames, with holds and failures in between."""
    chunks = 0
    for sent, frame in enumerate(frames):
        if chunks in holds:
            holds -= {chunks}
            yield Hold(fault.keepalive)
        if chunks == fault.disconnect_after:
            yield HangUp(fault.reset)
            return
        if chunks == fault.error_after:
            yield from wire.error_frames(
                prepared, fault.error_type, fault.message or DEFAULT_ERROR, sent
            )
            return
        malformed = frame.content and chunks == fault.malformed_after
        yield frame._replace(data=frame.data[: len(frame.data) // 2]) if malformed else frame
        chunks += frame.content


def paced(parts: Iterable[WireFrame | Step], pace: float) -> Iterator[WireFrame | Step]:
    """With a pause before every chunk but the first."""
    begun = False
    for part in parts:
        if isinstance(part, WireFrame) and part.content:
            if begun:
                yield Pause(pace)
            begun = True
        yield part


def gathered(
    parts: Iterable[WireFrame | Step], written: Callable[[WireFrame], bytes], write_bytes: int
) -> Iterator[Step]:
    """Frames joined into writes of about ``write_bytes`` bytes; any other step ends a write."""
    pending: list[bytes] = []
    size = chunks = 0
    for part in parts:
        if isinstance(part, WireFrame):
            data = written(part)
            pending.append(data)
            size += len(data)
            chunks += part.content
            if size < write_bytes:
                continue
        if pending:
            yield Write(b"".join(pending), len(pending), chunks)
            pending, size, chunks = [], 0, 0
        if not isinstance(part, WireFrame):
            yield part
    if pending:
        yield Write(b"".join(pending), len(pending), chunks)


class EventWriter:
    """Writes a frame as a server-sent event, with the line ends and lengths that a fault asks for."""

    def __init__(self, fault: Fault, line_end: bytes = b"\n") -> None:
        self.end = end = b"\r\n" if fault.crlf else line_end
        self.named = b"event: %b" + end + b"data: %b" + end + end
        self.unnamed = b"data: %b" + end + end
        self.length = fault.line_length

    def __call__(self, frame: WireFrame) -> bytes:
        data = frame.data
        if frame.comment:
            return data + self.end + self.end
        if len(data) < self.length and data.startswith(b"{"):
            data = b"{" + b" " * (self.length - len(data)) + data[1:]
        return self.named % (frame.event, data) if frame.event else self.unnamed % data


class ArrayWriter:
    """Writes frames as the elements of one JSON array."""

    def __init__(self) -> None:
        self.before = b"["

    def __call__(self, frame: WireFrame) -> bytes:
        if frame.comment:
            return b""
        if frame is END_OF_ARRAY:
            return b"[]" if self.before == b"[" else b"\n]\n"
        before, self.before = self.before, b"\n,\r\n"
        return before + frame.data


# --- bytes --------------------------------------------------------------------------------------


def until_bytes(steps: Iterable[Step], limit: int, *, reset: bool) -> Iterator[Step]:
    """Hang up after ``limit`` bytes of the body."""
    for step in steps:
        if not isinstance(step, Write):
            yield step
        elif len(step.data) < limit:
            limit -= len(step.data)
            yield step
        else:
            if limit:
                yield Write(step.data[:limit])
            yield HangUp(reset)
            return


def split_characters(steps: Iterable[Step]) -> Iterator[Step]:
    """Cut each write inside every multi-byte character, after its first byte."""
    for step in steps:
        if not isinstance(step, Write) or step.data.isascii():
            yield step
            continue
        *early, last = AFTER_LEAD_BYTE.split(step.data)
        yield from map(Write, early)
        yield step._replace(data=last)
