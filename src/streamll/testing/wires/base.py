"""What a provider's wire is: an ``Answer`` in, one JSON body or many frames out. Pure data."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Protocol

import msgspec

from streamll.testing.answers import Answer
from streamll.testing.formats import Message, Tool

Body = Mapping[str, Any]


class Frame(NamedTuple):
    """One server-sent event: the data of its one line, its name, whether it carries content."""

    data: bytes
    event: bytes = b""
    content: bool = False


class Wire(Protocol):
    """One provider API. ``name`` is what ``server.lm(wire=…)`` calls it, ``path`` how its URL ends."""

    name: str
    path: str

    def messages(self, body: Body) -> list[Message]:
        """The request's conversation, system prompt first; what tools said has role "tool"."""
        ...

    def tools(self, body: Body) -> list[Tool]: ...

    def schema(self, body: Body) -> Mapping[str, Any]:
        """The JSON schema that the reply's text must follow, or an empty one."""
        ...

    def count(self, body: Body) -> int:
        """How many candidates are asked for."""
        ...

    def body(self, answer: Answer) -> dict[str, Any]:
        """The reply to a request without ``stream``."""
        ...

    def frames(self, answer: Answer) -> Iterable[Frame]:
        """The reply to a request with ``stream``."""
        ...

    def error(self, status: int, kind: str | None, message: str) -> dict[str, Any]:
        """The body of an HTTP error."""
        ...

    def error_frames(
        self, answer: Answer, kind: str | None, message: str, sent: int
    ) -> Iterable[Frame]:
        """What ends a stream when the provider fails after it began, ``sent`` frames in."""
        ...

    def headers(self, answer: Answer) -> list[tuple[str, str]]:
        """Headers of every reply, besides the content type."""
        ...


def encode(value: Any) -> bytes:
    """Compact JSON in UTF-8, as providers write it; a lone surrogate needs an escape."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":")).encode()


def around(value: Mapping[str, Any]) -> tuple[bytes, bytes]:
    """``value`` as JSON, before and after its one ``SLOT``: a frame in two cached halves."""
    before, after = encode(value).split(b'"' + SLOT.encode() + b'"')
    return before, after


SLOT = "\x7fhere\x7f"


def joined(content: Any) -> str:
    """The text of a message's content: a string, or parts of which the texts count."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    return "\n".join(part["text"] for part in content if isinstance(part, dict) and "text" in part)


def schema_in(asked: Any, *path: str) -> Mapping[str, Any]:
    """What lies at ``path`` in a request, if it is there."""
    for key in path:
        asked = asked.get(key) if isinstance(asked, Mapping) else None
    return asked if isinstance(asked, Mapping) else {}
