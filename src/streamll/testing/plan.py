"""What is written when: an answer and its fault as a list of steps. Pure data, no socket."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import NamedTuple

from .answers import Answer
from .replies import NO_FAULT, Fault, Reply
from .wires import Frame, Wire
from .wires.base import encode

BLOCK = 16_384
EVENT_STREAM = "text/event-stream; charset=utf-8"
JSON = "application/json"


class Head(NamedTuple):
    """Status line and headers; ``length`` is the body's where it is known."""

    status: int
    content_type: str
    headers: list[tuple[str, str]]
    length: int | None = None


class Write(NamedTuple):
    """Bytes of the body for one write; how many frames, and of these with content, it ends."""

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


class Pacing(NamedTuple):
    """The server's settings, where the reply has none of its own."""

    pace: float
    packets: bool


def plan(reply: Reply, answer: Answer, wire: Wire, pacing: Pacing) -> Iterator[Step]:
    """The steps of one reply, rendered as they are needed."""
    fault = reply.fault or NO_FAULT
    steps = faulty(fault, answer, wire) or answered(reply, fault, answer, wire, pacing)
    if fault.silent:
        steps = chain([Hold()], steps)
    if fault.disconnect_after_bytes is not None:
        steps = until_bytes(steps, fault.disconnect_after_bytes, reset=fault.reset)
    if fault.split_characters:
        steps = split_characters(steps)
    return iter(steps)


def faulty(fault: Fault, answer: Answer, wire: Wire) -> list[Step] | None:
    """The steps of an HTTP error, if the reply is one."""
    if fault.status is not None:
        return refusal(wire, fault.status, fault, answer.key)
    if fault.refuse_stream_options and "stream_options" in answer.body:
        message = fault.message or "Unrecognized request argument supplied: stream_options"
        data = encode(wire.error(400, fault.error_type, message))
        return json_steps(400, data, wire.headers(answer.key))
    return None


def refusal(wire: Wire, status: int, fault: Fault, key: str) -> list[Step]:
    data = encode(wire.error(status, fault.error_type, fault.message or MESSAGES.get(status, "")))
    headers = wire.headers(key)
    if fault.retry_after is not None:
        headers = [*headers, ("retry-after", f"{fault.retry_after:g}")]
    return json_steps(status, data, headers, fault.content_type or JSON)


MESSAGES = {
    400: "The practice server was asked to refuse this request.",
    401: "Incorrect API key provided.",
    404: "The model does not exist.",
    429: "Rate limit reached.",
    500: "The server had an error while processing your request.",
    503: "The server is overloaded.",
    529: "Overloaded",
}


def json_steps(
    status: int, data: bytes, headers: list[tuple[str, str]], content_type: str = JSON
) -> list[Step]:
    return [Head(status, content_type, headers, len(data)), Write(data, 1, 1)]


def answered(
    reply: Reply, fault: Fault, answer: Answer, wire: Wire, pacing: Pacing
) -> Iterable[Step]:
    headers = wire.headers(answer.key)
    if not answer.body.get("stream") or fault.plain_json:
        return in_one_piece(reply, fault, answer, wire)
    pace = pacing.pace if reply.pace is None else reply.pace
    packets = pacing.packets if reply.packets is None else reply.packets
    parts: Iterable[Frame | Step] = wire.frames(answer)
    parts = interrupted(parts, stops(reply, fault), fault, wire)
    if pace:
        parts = paced(parts, pace)
    head = Head(200, fault.content_type or EVENT_STREAM, [("cache-control", "no-cache"), *headers])
    return chain([head], gathered(parts, Lines(fault), 1 if packets else BLOCK))


def in_one_piece(reply: Reply, fault: Fault, answer: Answer, wire: Wire) -> Iterable[Step]:
    """A reply that is not streamed: what would end a stream early leaves nothing of it."""
    if fault.disconnect_after is not None:
        return [HangUp(fault.reset)]
    if fault.error_after is not None:
        return refusal(wire, 500, fault, answer.key)
    data = encode(wire.body(answer))
    if fault.malformed_after is not None:
        data = data[: len(data) // 2]
    steps = json_steps(200, data, wire.headers(answer.key), fault.content_type or JSON)
    return [Hold(), *steps] if stops(reply, fault) else steps


def stops(reply: Reply, fault: Fault) -> set[int]:
    """The numbers of chunks after which the reply is held."""
    asked = reply.hold_after
    places = {asked} if isinstance(asked, int) else set(asked)
    if fault.stall_after is not None:
        places.add(fault.stall_after)
    if fault.keepalive is not None and not places and not fault.silent:
        places.add(0)
    return places


def interrupted(
    frames: Iterable[Frame], holds: set[int], fault: Fault, wire: Wire
) -> Iterator[Frame | Step]:
    """The frames, with what happens between them."""
    done = 0
    for frame in frames:
        if done in holds:
            holds = holds - {done}
            yield Hold(fault.keepalive)
        if done == fault.disconnect_after:
            yield HangUp(fault.reset)
            return
        if done == fault.error_after:
            yield from wire.error_frames(fault.error_type, fault.message or MESSAGES[500])
            return
        if frame.content:
            if done == fault.malformed_after:
                frame = frame._replace(data=frame.data[: len(frame.data) // 2])
            done += 1
        yield frame


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
        if not isinstance(part, Frame):
            if pending:
                yield Write(b"".join(pending), len(pending), chunks)
                pending, size, chunks = [], 0, 0
            yield part
            continue
        data = line(part)
        pending.append(data)
        size += len(data)
        chunks += part.content
        if size >= block:
            yield Write(b"".join(pending), len(pending), chunks)
            pending, size, chunks = [], 0, 0
    if pending:
        yield Write(b"".join(pending), len(pending), chunks)


class Lines:
    """A frame as the bytes of a server-sent event, in this fault's shape."""

    def __init__(self, fault: Fault) -> None:
        self.end = b"\r\n" if fault.crlf else b"\n"
        self.length = fault.line_length

    def __call__(self, frame: Frame) -> bytes:
        data, end = frame.data, self.end
        if len(data) < self.length and data[:1] == b"{":
            data = b"{" + b" " * (self.length - len(data)) + data[1:]
        if frame.event:
            return b"event: " + frame.event + end + b"data: " + data + end + end
        return b"data: " + data + end + end


def until_bytes(steps: Iterable[Step], limit: int, *, reset: bool) -> Iterator[Step]:
    """Hang up when ``limit`` bytes of the body are out."""
    for step in steps:
        if not isinstance(step, Write):
            yield step
        elif len(step.data) < limit:
            limit -= len(step.data)
            yield step
        else:
            yield Write(step.data[:limit])
            yield HangUp(reset)
            return


def split_characters(steps: Iterable[Step]) -> Iterator[Step]:
    """Cut each write inside every multi-byte character."""
    for step in steps:
        if not isinstance(step, Write) or step.data.isascii():
            yield step
            continue
        start = 0
        for place, byte in enumerate(step.data):
            if byte >> 6 == 0b10 and step.data[place - 1] >> 6 == 0b11:
                yield Write(step.data[start:place])
                start = place
        yield Write(step.data[start:], step.frames, step.chunks)
