"""What is written when: a reply and its fault as a sequence of steps. Pure data, no socket.

Three small generators, one after the other, make the steps of a stream: ``interrupted`` puts
holds and failures between the wire's frames, ``paced`` the pauses, ``gathered`` joins frames
into writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import NamedTuple

from streamll.testing.answers import Answer
from streamll.testing.replies import NO_FAULT, Fault, Reply
from streamll.testing.wires import Frame, Wire
from streamll.testing.wires.base import encode

BLOCK = 16_384  # bytes of one write where nothing asks for smaller ones
EVENT_STREAM = "text/event-stream; charset=utf-8"
JSON = "application/json"
MESSAGES = {
    400: "The practice server was asked to refuse this request.",
    401: "Incorrect API key provided.",
    404: "The model does not exist.",
    429: "Rate limit reached. Please try again later.",
    529: "Overloaded",
}
FAILED = "The server had an error while processing your request."


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
    """Wait for a release; meanwhile a comment line every so many seconds, if any."""

    comment_every: float | None = None


class Pause(NamedTuple):
    seconds: float


class HangUp(NamedTuple):
    reset: bool = False


Step = Head | Write | Hold | Pause | HangUp


def plan(reply: Reply, answer: Answer, wire: Wire, *, pace: float, packets: bool) -> Iterator[Step]:
    """The steps of one reply, rendered as they are needed."""
    fault = reply.fault or NO_FAULT
    steps: Iterable[Step]
    if fault.status is not None:
        steps = failed(fault.status, fault, answer, wire)
    elif fault.refuses(answer.body):
        message = "Unrecognized request argument supplied: stream_options"
        steps = json_body(400, encode(wire.error(400, None, message)), wire.headers(answer))
    elif not answer.body.get("stream") or fault.plain_json:
        steps = in_one_piece(reply, fault, answer, wire)
    else:
        steps = streamed(reply, fault, answer, wire, pace=pace, packets=packets)
    if fault.silent:
        steps = chain([Hold()], steps)
    if fault.disconnect_after_bytes is not None:
        steps = until_bytes(steps, fault.disconnect_after_bytes, reset=fault.reset)
    if fault.split_characters:
        steps = split_characters(steps)
    return iter(steps)


def failed(status: int, fault: Fault, answer: Answer, wire: Wire) -> list[Step]:
    """An HTTP error in the provider's shape."""
    message = fault.message or MESSAGES.get(status, FAILED)
    headers = wire.headers(answer)
    if fault.retry_after is not None:
        headers.append(("retry-after", f"{fault.retry_after:g}"))
    data = encode(wire.error(status, fault.error_type, message))
    return json_body(status, data, headers, fault.content_type)


def json_body(
    status: int, data: bytes, headers: list[tuple[str, str]], content_type: str | None = None
) -> list[Step]:
    return [Head(status, content_type or JSON, headers, len(data)), Write(data, 1, 1)]


def in_one_piece(reply: Reply, fault: Fault, answer: Answer, wire: Wire) -> list[Step]:
    """A reply that is not streamed: what would end a stream early leaves nothing of it."""
    if fault.disconnect_after is not None:
        return [HangUp(fault.reset)]
    if fault.error_after is not None:
        return failed(500, fault, answer, wire)
    data = encode(wire.body(answer))
    if fault.malformed_after is not None:
        data = data[: len(data) // 2]
    steps = json_body(200, data, wire.headers(answer), fault.content_type)
    return [Hold(), *steps] if stops(reply, fault) else steps


def stops(reply: Reply, fault: Fault) -> frozenset[int]:
    """The numbers of chunks after which the reply is held."""
    asked = reply.hold_after
    places = {asked} if isinstance(asked, int) else set(asked)
    if fault.stall_after is not None:
        places.add(fault.stall_after)
    if fault.keepalive is not None and not places and not fault.silent:
        places.add(0)
    return frozenset(places)


# --- streams ------------------------------------------------------------------------------------


def streamed(
    reply: Reply, fault: Fault, answer: Answer, wire: Wire, *, pace: float, packets: bool
) -> Iterable[Step]:
    pace = pace if reply.pace is None else reply.pace
    packets = packets if reply.packets is None else reply.packets
    parts: Iterable[Frame | Step] = interrupted(answer, wire, fault, stops(reply, fault))
    if pace:
        parts = paced(parts, pace)
    headers = [("cache-control", "no-cache"), *wire.headers(answer)]
    head = Head(200, fault.content_type or EVENT_STREAM, headers)
    return chain([head], gathered(parts, Lines(fault), 1 if packets else BLOCK))


def interrupted(
    answer: Answer, wire: Wire, fault: Fault, holds: frozenset[int]
) -> Iterator[Frame | Step]:
    """The wire's frames, with what happens between them."""
    chunks = 0
    for sent, frame in enumerate(wire.frames(answer)):
        if chunks in holds:
            holds -= {chunks}
            yield Hold(fault.keepalive)
        if chunks == fault.disconnect_after:
            yield HangUp(fault.reset)
            return
        if chunks == fault.error_after:
            yield from wire.error_frames(answer, fault.error_type, fault.message or FAILED, sent)
            return
        if frame.content:
            yield halved(frame) if chunks == fault.malformed_after else frame
            chunks += 1
        else:
            yield frame


def halved(frame: Frame) -> Frame:
    """Half of the JSON."""
    return frame._replace(data=frame.data[: len(frame.data) // 2])


def paced(parts: Iterable[Frame | Step], pace: float) -> Iterator[Frame | Step]:
    """A pause between one chunk and the next."""
    begun = False
    for part in parts:
        if isinstance(part, Frame) and part.content:
            if begun:
                yield Pause(pace)
            begun = True
        yield part


def gathered(parts: Iterable[Frame | Step], line: Lines, block: int) -> Iterator[Step]:
    """Frames joined into writes of about ``block`` bytes; any other step ends a write."""
    pending: list[bytes] = []
    size = chunks = 0
    for part in parts:
        if isinstance(part, Frame):
            data = line(part)
            pending.append(data)
            size += len(data)
            chunks += part.content
            if size < block:
                continue
        if pending:
            yield Write(b"".join(pending), len(pending), chunks)
            pending, size, chunks = [], 0, 0
        if not isinstance(part, Frame):
            yield part
    if pending:
        yield Write(b"".join(pending), len(pending), chunks)


class Lines:
    """A frame as the bytes of a server-sent event, in the shape a fault gives it."""

    def __init__(self, fault: Fault) -> None:
        end = b"\r\n" if fault.crlf else b"\n"
        self.before = b"data: "
        self.named = b"event: %b" + end + b"data: %b" + end + end
        self.end = end + end
        self.length = fault.line_length

    def __call__(self, frame: Frame) -> bytes:
        data = frame.data
        if len(data) < self.length and data.startswith(b"{"):
            data = b"{" + b" " * (self.length - len(data)) + data[1:]
        if frame.event:
            return self.named % (frame.event, data)
        return self.before + data + self.end


# --- bytes --------------------------------------------------------------------------------------


def until_bytes(steps: Iterable[Step], limit: int, *, reset: bool) -> Iterator[Step]:
    """Hang up when ``limit`` bytes of the body are out."""
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
        *early, last = pieces_inside_characters(step.data)
        yield from map(Write, early)
        yield step._replace(data=last)


def pieces_inside_characters(data: bytes) -> Iterator[bytes]:
    start = 0
    for place, byte in enumerate(data, 1):
        if byte >= 0xC0:  # noqa: PLR2004 - the first byte of several
            yield data[start:place]
            start = place
    yield data[start:]
