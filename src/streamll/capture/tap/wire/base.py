"""What the assemblers share: their contract, what can go wrong with a stream, JSON.

An assembler reads one reply's frames in order: each frame gives its deltas, and at the end
``body`` is the JSON object that the same request would have got without streaming, as far as the
wire carries it.
"""

from __future__ import annotations

import json
import logging
from typing import Any, Protocol

import msgspec

from streamll.capture.deltas import CitationDelta, Deltas


class WireFault(Exception):
    """A stream that cannot become a response."""


class CutShort(WireFault):
    """The stream ended before the reply did."""


class MalformedFrame(WireFault):
    """A frame that is not a JSON object. ``data`` is the frame."""

    def __init__(self, data: bytes) -> None:
        super().__init__("a frame of the stream is not a JSON object")
        self.data = data


class AskAgain(WireFault):
    """A stream that the tap cannot read as its plain reply: it asks again, without streaming.

    Never the program's error.
    """

    def report(self, logger: logging.Logger) -> None:
        """Say once what happened, without the reply's text."""


class Confused(AskAgain):
    """What came can be read in more than one way, so that a plain reply has to tell."""

    def report(self, logger: logging.Logger) -> None:
        logger.warning(
            "A stream that can be read in two ways (%s): asking for the plain reply.", self
        )


class UnknownShape(AskAgain):
    """A frame on which its assembler failed, since it has an unexpected shape."""

    def __init__(self, error: Exception) -> None:
        super().__init__(f"{type(error).__name__} while reading a stream")
        self.__cause__ = error

    def report(self, logger: logging.Logger) -> None:
        logger.warning(
            "A stream of a shape unknown to streamll (%s): asking again without streaming. "
            "This model's text will come in one piece from now on.",
            self,
        )


class ErrorFrame(WireFault):
    """The provider reports an error in the middle of the stream.

    ``status`` and ``body`` are the HTTP error that it would have been without streaming.
    """

    def __init__(self, error: dict[str, Any], body: bytes) -> None:
        super().__init__(str(error.get("message") or error))
        self.status = _status_of(error)
        self.body = body


class Assembler(Protocol):
    """One reply of one wire."""

    complete: bool
    """The provider has announced the end of the reply."""

    def frame(self, data: bytes) -> Deltas:
        """The deltas of one frame. Raises a ``WireFault``."""

    def body(self) -> dict[str, Any]:
        """The reply as one JSON object. Raises ``CutShort`` when there is none yet."""


_decode = msgspec.json.Decoder().decode


def decode_object(data: bytes) -> dict[str, Any]:
    """One frame's JSON object.

    msgspec rejects some of what ``json`` accepts (lone surrogates, NaN). A body that is not
    streamed is read by ``json``, so what msgspec rejects is tried again with that.
    """
    try:
        value = _decode(data)
    except msgspec.DecodeError:
        try:
            value = json.loads(data)
        except ValueError as error:
            raise MalformedFrame(data) from error
    if type(value) is not dict:
        raise MalformedFrame(data)
    return value


def string(value: Any) -> str:
    """A field that should hold text; anything else counts as no text."""
    return value if type(value) is str else ""


def index_in(payload: dict[str, Any], key: str = "index") -> int:
    """A position among choices, blocks or calls; 0 where there is none."""
    index = payload.get(key)
    return index if type(index) is int else 0


def citation_in(payload: Any) -> Deltas:
    """A provider's citation, under whichever names it uses; nothing where none of them is there."""
    if type(payload) is not dict:
        return ()

    def first(*names: str) -> str | None:
        return next((str(value) for name in names if (value := payload.get(name))), None)

    citation = CitationDelta(
        text=first("cited_text", "text", "quote", "supported_text"),
        title=first("title", "document_title", "source_title", "filename"),
        url=first("url", "uri"),
    )
    return (citation,) if any(citation) else ()


HTTP_ERROR = 400  # the lowest HTTP status that is an error
_STATUSES = {  # the first word found in an error's code, type or status decides
    429: ("rate_limit", "too_many_requests", "no_capacity", "resource_exhausted", "quota"),
    529: ("overloaded",),
    503: ("unavailable",),
    504: ("timeout", "deadline"),
    401: ("authentication", "unauthenticated", "invalid_api_key"),
    403: ("permission",),
    402: ("billing",),
    404: ("not_found",),
    400: ("invalid", "context_length", "bad_request"),
}


def _status_of(error: dict[str, Any]) -> int:
    """The HTTP status of an error; 500 (the provider's fault) for an unknown kind."""
    names = [str(error[key]) for key in ("code", "status", "type") if error.get(key)]
    for name in names:
        if name.isdigit() and HTTP_ERROR <= int(name) < 600:  # noqa: PLR2004
            return int(name)
    words = " ".join(names).lower()
    return next((s for s, known in _STATUSES.items() if any(word in words for word in known)), 500)
