"""What a case of a dialect is, and the few words in which frames are written by hand."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from profiles import THOROUGH

PAUSE = b"PAUSE"
"""In place of a frame: what was sent before is read long before what comes after."""
LOST = object()
"""As a plain reply: the connection is lost in its middle."""


@dataclass(frozen=True)
class Failed:
    """A plain reply that is an HTTP error."""

    status: int
    body: Any


@dataclass(frozen=True, kw_only=True)
class Case:
    """What a server sends to a request for a stream, and its plain reply to the same request.

    The yardstick is the plain reply, asked for without capture: the captured call returns the same,
    or fails with the same error, after as many requests.
    """

    name: str
    wire: str
    """``"chat"``, ``"responses"``, ``"anthropic"`` or ``"gemini"``."""
    frames: Sequence[bytes]
    """The raw bytes of the stream, as the server sends them."""
    plain: Any
    """The body of the plain reply (as JSON, or ``bytes``), ``Failed``, or ``LOST``."""
    end: str = "close"
    """How the stream ends: ``"close"``, ``"cut"`` or ``"open"`` (see ``frames_server.Sent``)."""
    status: int = 200
    content_type: str = "text/event-stream"
    headers: dict[str, str] = field(default_factory=dict)
    """More headers, of the stream and of the plain reply."""
    trailers: bytes = b""
    """Lines of HTTP trailers after the stream."""

    ask: str | None = "question -> answer"
    """The signature of the program that is called; ``None`` for a bare call of the LM."""
    options: dict[str, Any] = field(default_factory=dict)
    """Options of a bare call."""
    provider: str | None = None
    """The provider's name before the model's, where it is not the wire's own."""
    ways: Sequence[str] = ()
    """The ways to play it, where it cannot be played in all of them."""

    early_grace: float | None = None
    """``GRACE_AFTER_EARLY_REASON_S``, where what it waits for never comes."""

    plainly: bool = False
    """It is not asked for as a stream."""
    refused: bool = False
    """It is not taken as a stream: it is asked once more, plainly, as a matter of course."""
    confused: bool = False
    """The assembler cannot be sure: it asks once more, plainly, and says so."""
    corrected: bool = False
    """What was streamed is not what the program has, and ``field.corrected`` says so."""
    whole: bool = False
    """The text may come in one piece."""
    same_words: bool = True
    """The error's message is that of the plain reply; false where no plain reply says such a thing."""
    exact: bool = True
    """The whole reply is that of the plain call, with everything that is provider data."""
    thinking: str | None = None
    """The thinking in the events, where it is not in the reply."""
    parts: Sequence[str] = ()
    """The kinds of its parts that are not text, which events name where lm15 reads the reply."""
    fields: Sequence[str] = ("answer",)
    """The fields whose streamed text is the program's value."""

    def __str__(self) -> str:
        return f"{self.wire}: {self.name}"


WORDS = {
    "words": b"hello",
    "an array": b"[1]",
    "a number": b"3",
    "a text": b'"hello"',
    "a truth": b"true",
    "half an object": b'{"id": [',
    "a page": b"<html><body>Bad Gateway</body></html>",
}
"""Data of a frame that is no JSON object."""
FOREIGN = {
    **{name: words for name, words in WORDS.items() if name != "half an object"},
    "an object": b'{"message": "position 3 in the queue", "status": "queued"}',
}
"""Data that says nothing under the name of another event."""


def data(words: bytes, event: bytes = b"") -> bytes:
    """A frame of any data, under the name of an event."""
    return (b"event: " + event + b"\n" if event else b"") + b"data: " + words + b"\n\n"


def one_of_each(families: Iterable[Sequence[Case]]) -> list[Case]:
    """All cases if there is time; else one of each family, the next one of the next family."""
    return [
        each
        for number, family in enumerate(families)
        for each in (family if THOROUGH else family[number % len(family) :][:1])
    ]


READ_BY_LM15 = ("native sync", "native async", "imodel sync", "imodel async")
READ_BY_LITELLM = ("litellm sync", "litellm async")


def odd_number(case: Case) -> list[Case]:
    """A reply with a number that lm15 does not take: it is asked for plainly."""
    name = f"uncertain: {case.name}"
    confused = replace(case, name=name, ways=READ_BY_LM15, confused=True)
    return [confused, replace(case, ways=READ_BY_LITELLM)]


def sse(*payloads: Any, event: bool = False) -> list[bytes]:
    """Frames of JSON values; ``event`` writes each one's ``type`` as the name of the event."""
    return list(_written(payloads, event))


def _written(payloads: Sequence[Any], event: bool) -> Iterator[bytes]:
    for payload in payloads:
        if isinstance(payload, bytes):
            yield payload
            continue
        name = f"event: {payload['type']}\n".encode() if event and "type" in payload else b""
        yield name + b"data: " + json.dumps(payload, ensure_ascii=False).encode() + b"\n\n"
