r"""A recording: a file of JSON lines with the events of runs and the provider's replies.

Lines with an ``event_type`` are events, as ``JSONLSink`` writes them. Each of the others is about
one HTTP exchange with a provider, numbered by ``id``; ``after`` is seconds since the request::

    {"v": 1, "record": "request", "id": 0, "timestamp": …, "path": "/v1/chat/completions",
     "model": "gpt-4o-mini", "digest": "…"}
    {"v": 1, "record": "reply", "id": 0, "after": 0.31, "status": 200, "headers": {…}}
    {"v": 1, "record": "chunk", "id": 0, "after": 0.33, "text": "data: {…}\n\n"}
    {"v": 1, "record": "end", "id": 0, "after": 1.25}          or "cut", with the "error"'s type

A chunk that is not UTF-8 has its bytes in ``base64``. Of a request only a digest is kept, and of
the headers a few harmless ones: prompts and credentials are not in the file.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from streamll.core.errors import WireError
from streamll.core.events import Event
from streamll.core.wire import FORMAT_VERSION, from_dict

HEADERS_KEPT = frozenset({"content-type", "content-encoding", "retry-after", "retry-after-ms"})

_canonical = msgspec.json.Encoder(order="deterministic")


def digest(path: str, body: Mapping[str, Any]) -> str:
    """Identifies a request: a hash of its path and its JSON body, whatever the order of keys."""
    return hashlib.sha256(path.encode() + b"\n" + _canonical.encode(body)).hexdigest()


@dataclass(eq=False)
class ExchangeWriter:
    """Writes down one exchange while it happens; from any thread."""

    _file: RecordingWriter
    number: int
    _began: float = field(default_factory=time.monotonic)
    _over: bool = False

    def opened(self, status: int, headers: list[tuple[str, str]]) -> None:
        kept = {name.lower(): value for name, value in headers if name.lower() in HEADERS_KEPT}
        self._write("reply", status=status, headers=kept)

    def chunk(self, data: bytes) -> None:
        try:
            self._write("chunk", text=data.decode())
        except UnicodeDecodeError:  # cut inside a character, or compressed
            self._write("chunk", base64=base64.b64encode(data).decode())

    def end(self, error: BaseException | None = None) -> None:
        """With an error it ended early: a connection broke, or the program stopped reading."""
        if self._over:
            return
        self._over = True
        if error is None:
            self._write("end")
        else:
            self._write("cut", error=type(error).__name__)

    @contextmanager
    def cut_on_error(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            self.end(error)
            raise

    def _write(self, kind: str, **values: Any) -> None:
        after = round(time.monotonic() - self._began, 6)
        self._file.write({"record": kind, "id": self.number, "after": after, **values})


class RecordingWriter:
    """The file that exchanges are written to, each line whole and at once."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)
        self._lock = threading.Lock()
        self._numbers = itertools.count()

    def tap(self, request: Any) -> tuple[Any, ExchangeWriter | None]:
        """The request as it is, and who writes its reply down: nobody if it is not a model's."""
        try:
            content = msgspec.json.decode(request.body, type=dict)
        except msgspec.DecodeError:
            return request, None
        path, number = urlsplit(request.url).path, next(self._numbers)
        writer = ExchangeWriter(self, number)
        line = {"path": path, "model": content.get("model"), "digest": digest(path, content)}
        self.write({"record": "request", "id": number, "timestamp": time.time(), **line})
        return request, writer

    def write(self, line: dict[str, Any]) -> None:
        with self._lock:
            if not self._file.closed:
                self._file.write(msgspec.json.encode({"v": FORMAT_VERSION, **line}) + b"\n")

    def close(self) -> None:
        with self._lock:
            self._file.close()


@dataclass
class RecordedExchange:
    """One request and what came back: ``chunks`` are ``(seconds after the request, bytes)``."""

    path: str
    model: str | None
    digest: str
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    opened_after: float = 0.0
    chunks: list[tuple[float, bytes]] = field(default_factory=list)
    over_after: float | None = None
    complete: bool = False


def recorded_events(path: str | os.PathLike[str]) -> Iterator[Event]:
    """The events of a recording, or of a file that ``JSONLSink`` wrote.

    Raises:
        WireError: a line that is neither; names file and line.
    """
    for place, line in _lines(path):
        if "record" not in line:
            try:
                yield from_dict(line)
            except WireError as error:
                raise WireError(f"{place}: {error}") from error


def recorded_exchanges(path: str | os.PathLike[str]) -> list[RecordedExchange]:
    """What the provider sent, one object per request, in the order they were made.

    Raises:
        WireError: a line that cannot be read; names file and line.
    """
    exchanges: dict[int, RecordedExchange] = {}
    for place, line in _lines(path):
        if "record" in line:
            try:
                _add(exchanges, line)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise WireError(f"{place}: not a line of a recording ({error!r})") from None
    return list(exchanges.values())


def _add(exchanges: dict[int, RecordedExchange], line: dict[str, Any]) -> None:
    kind, number = line["record"], line["id"]
    if kind == "request":
        exchanges[number] = RecordedExchange(line["path"], line["model"], line["digest"])
        return
    exchange, after = exchanges[number], float(line["after"])
    if kind == "reply":
        exchange.status, exchange.headers = int(line["status"]), dict(line["headers"])
        exchange.opened_after = after
    elif kind == "chunk":
        data = line["text"].encode() if "text" in line else base64.b64decode(line["base64"])
        exchange.chunks.append((after, data))
    elif kind in {"end", "cut"}:
        exchange.over_after, exchange.complete = after, kind == "end"


def _lines(path: str | os.PathLike[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    with Path(path).open("rb") as file:
        for number, text in enumerate(file, 1):
            if not text.strip():
                continue
            place = f"{path}, line {number}"
            try:
                line = msgspec.json.decode(text)
            except (msgspec.MsgspecError, RecursionError) as error:
                raise WireError(f"{place}: not JSON: {error}") from None
            if not isinstance(line, dict):
                raise WireError(f"{place}: not an object")
            yield place, line
