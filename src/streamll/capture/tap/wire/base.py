"""What the assemblers share: their contract, what can go wrong with a stream, JSON.

An assembler reads one reply's frames in order: each frame gives its deltas, and at the end
``body`` is the JSON object that the same request would have got without streaming, as far as the
wire carries it.
"""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from streamll.capture.deltas import CitationDelta, Deltas


class WireFault(Exception):
    """A stream that cannot become a response."""


class CutShort(WireFault):
    """The stream ended before the reply did."""


class MalformedFrame(WireFault):
    """A frame that is not a JSON object. What that means depends on where it is: see ``reply``."""

    def __init__(self) -> None:
        super().__init__("a frame that is not a JSON object")


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


def error_in(payload: dict[str, Any], data: bytes) -> ErrorFrame | None:
    """The error that the frame ``data`` reports, in whichever shape its server has for one.

    ``{"error": {…}}``, ``{"error": "words"}``, or the fields of an error by themselves. These are
    given the first shape, in which readers of a plain reply look for words.
    """
    if error := payload.get("error"):
        if type(error) is dict:
            known = {name: payload[name] for name in _STATUS_NAMES if payload.get(name)}
            is_body = payload.keys() <= _OF_AN_ERROR
            return ErrorFrame({**known, **error}, data if is_body else _encoded({"error": error}))
        return ErrorFrame({**payload, "message": _words(error)}, data)  # as Ollama and TGI have it
    told = payload.get("base_resp")
    if type(told) is dict and told.get("status_code"):
        return _of_minimax(told)
    if payload.get("type") in _ERROR_TYPES or payload.get("object") == "error":
        return _flat(payload)
    if not _is_flat(payload):
        return None
    codes = [payload[name] for name in ("code", *_STATUS_NAMES) if payload.get(name) is not None]
    if codes and not any(map(_is_of_an_error, codes)):
        raise Confused("words that may be no error")
    return _flat(payload)


def error_under_its_name(data: bytes) -> ErrorFrame:
    """The error whose frame was an error by the name of its event."""
    try:
        payload = decode_object(data)
    except MalformedFrame:
        words = data.decode("utf-8", "replace") or "the provider reported an error"
        return ErrorFrame({"message": words}, data or words.encode())
    return error_in(payload, data) or _flat(payload)


def _flat(payload: dict[str, Any]) -> ErrorFrame:
    words = next((payload[name] for name in _WORDS if payload.get(name)), payload)
    code = next((payload[name] for name in ("code", *_STATUS_NAMES) if payload.get(name)), None)
    kind = payload.get("type")
    error = {
        "message": _words(words),
        "type": code if kind in _ERROR_TYPES else kind,
        "param": payload.get("param"),
        "code": code,
    }
    return ErrorFrame(error, _encoded({"error": error}))


def _of_minimax(told: dict[str, Any]) -> ErrorFrame:
    """What MiniMax says beside a reply, in plain ones under HTTP 200."""
    code = told["status_code"]
    status = next((status for status, codes in _MINIMAX.items() if code in codes), 500)
    error = {"message": _words(told.get("status_msg") or told), "code": code, "status": status}
    return ErrorFrame(error, _encoded({"error": error}))


def _encoded(value: Any) -> bytes:
    return json.dumps(value).encode()


_MINIMAX = {
    400: (1026, 1027, 1042, 2013),
    401: (1004, 2049),
    402: (1008,),
    429: (1002, 1039, 1041, 2045, 2056),
    504: (1001,),
}
"""MiniMax's codes by the HTTP status that they mean."""
_ERROR_TYPES = ("error", "response.error")
_OF_AN_ERROR = frozenset({"error", "type", "request_id"})
"""The keys of OpenAI's and Anthropic's plain errors; an event of a stream has more."""
_WORDS = ("message", "detail", "errors", "msg")
_STATUS_NAMES = ("status", "status_code", "statusCode", "error_type")


def _is_flat(payload: dict[str, Any]) -> bool:
    """Whether a frame has an error's words, and nothing that a reply has."""
    told = payload.get("detail") or payload.get("errors")
    if not told and type(payload.get("message")) is str:
        told = payload["message"] and not {"id", "object", "type"}.intersection(payload)
        told = told or any(payload.get(name) for name in ("code", *_STATUS_NAMES))
    return bool(told) and not _OF_A_REPLY.intersection(payload)


def _is_of_an_error(code: Any) -> bool:
    """Whether a code or status is one of errors, not ``0``, ``200`` or ``"queued"``."""
    if (number := str(code).lstrip("-")).isdigit():
        return int(number) != 0 and not 200 <= int(number) < 300  # noqa: PLR2004
    words = "".join(filter(str.isalpha, str(code).lower()))
    known = itertools.chain(("error", "fail", "exception", "denied"), *_STATUSES.values())
    return any(word in words for word in known)


_OF_A_REPLY = frozenset({"choices", "candidates", "response", "delta", "content", "usage"})


def _words(error: Any) -> str:
    return error if type(error) is str else json.dumps(error)


class Assembler(Protocol):
    """One reply of one wire."""

    complete: bool
    """The provider has announced the end of the stream: whatever follows is no part of it."""

    finished: bool
    """Nothing of the reply is missing but, perhaps, its usage: the reason of its end came last."""

    has_reason: bool
    """A reason of its end has come, whenever: where the body ends, the reply does.

    Some models give one with every chunk, or with the first: that is no sign of the end.
    """

    doubtful: bool
    """A reason came last, but such a one: the reply may be whole."""

    @property
    def usage(self) -> Any:
        """The provider's report of tokens so far; ``None`` if there is none.

        Without what it only has as a placeholder until it counts.
        """

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
    except (msgspec.DecodeError, UnicodeDecodeError):
        try:
            value = json.loads(data)
        except UnicodeDecodeError as error:  # one character in two frames, for example
            raise Confused("a text that is not UTF-8") from error
        except ValueError as error:
            raise MalformedFrame from error
    if type(value) is not dict:
        raise MalformedFrame
    return value


def string(value: Any) -> str:
    """A field that should hold text; anything else counts as no text."""
    return value if type(value) is str else ""


def mapping(value: Any) -> dict[str, Any]:
    """A field that should hold an object; anything else counts as an empty one."""
    return value if type(value) is dict else {}


def listed(value: Any) -> list[Any]:
    """A field that should hold a list; anything else counts as none."""
    return value if type(value) is list else []


def index_in(payload: dict[str, Any], key: str = "index") -> int:
    """A position among choices, blocks or calls; 0 where there is none."""
    index = payload.get(key)
    return index if type(index) is int else 0


def counted(known: Any, more: Any, total: str = "", parts: Sequence[str] = ()) -> Any:
    """Usage after another report, which may have only some of the counts: nothing is lost.

    A ``total`` that came without all of its ``parts`` is that of fewer.
    """
    merged = later(known, more)
    if type(known) is type(more) is dict and type(merged.get(total)) is int:
        counts = {part: n for part in parts if type(n := merged.get(part)) is int}
        if any(n and not more.get(part) for part, n in counts.items()):
            merged[total] = max(merged[total], sum(counts.values()))
    return merged


def later(known: Any, more: Any) -> Any:
    """The later of two values; of two objects each value. Nothing (``null``, 0) says nothing."""
    if type(known) is dict and type(more) is dict:
        return {**known, **{name: later(known.get(name), value) for name, value in more.items()}}
    return known if known and not more else more


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
    429: ("ratelimit", "toomanyrequests", "nocapacity", "resourceexhausted", "quota"),
    529: ("overloaded",),
    503: ("unavailable",),
    504: ("timeout", "deadline"),
    401: ("authentication", "unauthenticated", "unauthorized", "invalidapikey"),
    403: ("permission", "forbidden"),
    402: ("billing", "paymentrequired"),
    404: ("notfound",),
    422: ("unprocessable", "validation"),
    400: ("invalid", "contextlength", "badrequest"),
}


def _status_of(error: dict[str, Any]) -> int:
    """The HTTP status of an error; 500 (the provider's fault) for an unknown kind."""
    keys = ("code", *_STATUS_NAMES, "type")
    names = [str(error[key]) for key in keys if error.get(key)]
    for name in names:
        if name.isdigit() and HTTP_ERROR <= int(name) < 600:  # noqa: PLR2004
            return int(name)
    words = "".join(sign for sign in " ".join(names).lower() if sign.isalpha() or sign == " ")
    return next((s for s, known in _STATUSES.items() if any(word in words for word in known)), 500)
