r"""A recording: a file of JSON lines with the events of runs and the provider's replies.

Lines with an ``event_type`` are events, as ``JSONLSink`` writes them. Each of the others is about
one HTTP exchange with a provider, numbered by ``id``; ``after`` is seconds since the request::

    {"v": 1, "record": "request", "id": 0, "timestamp": …, "path": "/v1/chat/completions",
     "model": "gpt-4o-mini", "digest": "…"}
    {"v": 1, "record": "reply", "id": 0, "after": 0.31, "status": 200, "headers": {…}}
    {"v": 1, "record": "chunk", "id": 0, "after": 0.33, "text": "data: {…}\n\n"}
    {"v": 1, "record": "end", "id": 0, "after": 1.25}          or "cut", with the "error"'s type

Of a call under guards there is the ``request``, with ``"guarded": true``, and nothing of the reply.

A chunk that is not UTF-8 has its bytes in ``base64``. Of a request only a digest is kept, and of
the headers a few harmless ones: prompts and credentials are not in the file.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import logging
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

logger = logging.getLogger("streamll")

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
    """The file that exchanges are written to, each line whole and at once.

    A file that cannot be written (a full disk) is given up with a warning: the program goes on.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("ab", buffering=0)
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._has_guarded = False

    def tap(self, request: Any) -> tuple[Any, ExchangeWriter | None]:
        """The request as it is, and who writes its reply down: nobody if it is not a model's."""
        try:
            content = msgspec.json.decode(request.body, type=dict)
        except msgspec.DecodeError:
            return request, None
        path, number = urlsplit(request.url).path, next(self._numbers)
        line = {"path": path, "model": content.get("model"), "digest": digest(path, content)}
        guarded = {"guarded": True} if is_guarded() else {}
        self.write({"record": "request", "id": number, "timestamp": time.time(), **line, **guarded})
        if guarded:
            self._warn_of_guards()
            return request, None
        return request, ExchangeWriter(self, number)

    def _warn_of_guards(self) -> None:
        if not self._has_guarded:
            self._has_guarded = True
            logger.warning(
                "the recording %s has no replies to calls under guards: it can be watched, and not "
                "replayed (logged once)",
                self._path,
            )

    def write(self, line: dict[str, Any]) -> None:
        text = memoryview(msgspec.json.encode({"v": FORMAT_VERSION, **line}) + b"\n")
        with self._lock:
            try:
                while text and not self._file.closed:
                    text = text[self._file.write(text) :]
            except OSError as error:
                self._file.close()
                logger.warning("the recording %s ends here: %s", self._path, error.strerror)

    def close(self) -> None:
        with self._lock:
            self._file.close()


def is_guarded() -> bool:
    """Whether guards are at work where this is called: in a captured call, or for all of them."""
    from streamll.capture.run.scope import current_scope
    from streamll.configuration import configuration

    scope = current_scope()
    return bool(configuration.guards if scope is None else scope.guards)


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
    guarded: bool = False
    """What came back is not in the recording."""


def recorded_events(
    path: str | os.PathLike[str], damaged: list[WireError] | None = None
) -> Iterator[Event]:
    """The events of a recording, or of a file that ``JSONLSink`` wrote.

    Args:
        damaged: gets an error for each line that is neither, instead of raising it.

    Raises:
        WireError: a line that is neither; names file and line.
    """
    for place, line in _lines(path, damaged):
        if "record" not in line:
            try:
                yield from_dict(line)
            except WireError as error:
                _refuse(damaged, f"{place}: {error}")


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
        exchange = RecordedExchange(line["path"], line["model"], line["digest"])
        exchange.guarded = bool(line.get("guarded"))
        exchanges[number] = exchange
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


def _lines(
    path: str | os.PathLike[str], damaged: list[WireError] | None = None
) -> Iterator[tuple[str, dict[str, Any]]]:
    with Path(path).open("rb") as file:
        for number, text in enumerate(file, 1):
            if not text.strip():
                continue
            place = f"{path}, line {number}"
            try:
                line = msgspec.json.decode(text)
            except (msgspec.MsgspecError, RecursionError) as error:
                if text.endswith(b"\n"):
                    _refuse(damaged, f"{place}: not JSON: {error}")
                elif damaged is not None:
                    damaged.append(WireError(f"{place}: cut off"))
                else:  # its writer was killed, or the disk is full
                    logger.warning("%s is cut off, and left out", place)
                continue
            if isinstance(line, dict):
                yield place, line
            else:
                _refuse(damaged, f"{place}: not an object")


def _refuse(damaged: list[WireError] | None, message: str) -> None:
    if damaged is None:
        raise WireError(message)
    damaged.append(WireError(message))
