"""Listen to what providers send while models are asked: frames kept, secrets removed.

The file is a recording as ``record`` writes it, without events: ``replay`` answers the same question
from it. Of a request it has a digest; what a reply repeats of credentials, and of the request's
texts where that is wanted, is masked by as many asterisks.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec

from streamll.testing.oddities import oddities
from streamll.testing.record_file import RecordingWriter, recorded_exchanges
from streamll.testing.record_sites import tapped_requests

MIN_SECRET = 6
MIN_TEXT = 12
"""Shorter ones would mask half of what everybody says."""
CREDENTIALS = re.compile(r"auth|key|token|secret|cookie", re.IGNORECASE)
KEYS = re.compile(
    r"\b(?:sk|pk|gsk|xai|AIza|ghp|hf)[-_][A-Za-z0-9_\-]{8,}|\bAIza[A-Za-z0-9_\-]{20,}"
)
"""What looks like a provider's key."""

_asked: ContextVar[list[int] | None] = ContextVar("streamll_probe_asked", default=None)


class Listening:
    """The exchanges so far, in a file of their own until ``keep``."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = RecordingWriter(path)
        self._secrets: set[str] = set()
        self._texts: set[str] = set()

    def tap(self, request: Any) -> tuple[Any, Any]:
        request, exchange = self._file.tap(request)
        numbers = _asked.get()
        if exchange is not None and numbers is not None:
            numbers.append(exchange.number)
        self._secrets |= set(secrets_of(request))
        self._texts |= set(texts_in(json.loads(request.body))) if exchange is not None else set()
        return request, exchange

    @contextmanager
    def asking(self) -> Iterator[list[int]]:
        """The numbers of the exchanges that are made inside, in this task or thread."""
        numbers: list[int] = []
        token = _asked.set(numbers)
        try:
            yield numbers
        finally:
            _asked.reset(token)

    def oddities(self, numbers: list[int]) -> list[str]:
        """What was unusual about these exchanges, each thing once."""
        exchanges = recorded_exchanges(self._path)
        return list(dict.fromkeys(told for n in numbers for told in oddities(exchanges[n])))

    def keep(self, path: Path, *, without_texts: bool = False) -> None:
        """Write the recording to ``path``."""
        hidden = self._secrets | (self._texts if without_texts else set())
        lines = self._path.read_bytes().splitlines()
        path.write_bytes(b"".join(masked(lines, hidden)))

    def close(self) -> None:
        self._file.close()


@contextmanager
def listening() -> Iterator[Listening]:
    """Inside, every request that DSPy's own client makes is listened to."""
    with tempfile.TemporaryDirectory(prefix="streamll-probe-") as folder:
        heard = Listening(Path(folder, "exchanges.jsonl"))
        try:
            with tapped_requests(heard.tap):
                yield heard
        finally:
            heard.close()


# --- secrets ------------------------------------------------------------------------------------


def secrets_of(request: Any) -> Iterator[str]:
    """The credentials of a request: in its headers, in its address."""
    for name, value in request.headers:
        if CREDENTIALS.search(name):
            yield from (word for word in value.split() if len(word) >= MIN_SECRET)
    for name, values in parse_qs(urlsplit(request.url).query).items():
        if CREDENTIALS.search(name):
            yield from (value for value in values if len(value) >= MIN_SECRET)


def texts_in(value: Any) -> Iterator[str]:
    """What a request says: its longer strings, as JSON writes them, line by line."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from texts_in(each)
    elif isinstance(value, str):
        yield from (line for line in value.splitlines() if len(line) >= MIN_TEXT)


def masked(lines: list[bytes], hidden: set[str]) -> Iterator[bytes]:
    """A recording's lines; what is hidden has asterisks, also where it is cut between two chunks."""
    read = [msgspec.json.decode(line) for line in lines]
    for number in {line["id"] for line in read}:
        chunks = [line for line in read if line["id"] == number and "text" in line]
        whole = mask("".join(line["text"] for line in chunks), hidden)
        for line in chunks:
            line["text"], whole = whole[: len(line["text"])], whole[len(line["text"]) :]
    return (msgspec.json.encode(line) + b"\n" for line in read)


def mask(text: str, hidden: set[str]) -> str:
    """Of the same length, so that chunks stay where they are cut."""
    for secret in sorted(hidden, key=len, reverse=True):
        for written in {secret, json.dumps(secret)[1:-1]}:
            text = text.replace(written, "*" * len(written))
    text = KEYS.sub(lambda found: "*" * len(found[0]), text)
    return mask_in_pieces(text, hidden)


VALUE = re.compile(r'"(\w+)"\s*:\s*"((?:[^"\\]|\\.)*)"')
"""A key of a frame, and its string as JSON writes it."""
CHARACTER = re.compile(r"\\u[0-9a-fA-F]{4}|\\.|[^\\]", re.DOTALL)


def mask_in_pieces(text: str, hidden: set[str]) -> str:
    """Mask what a stream says piece by piece: the strings under one key belong together."""
    places: dict[str, list[re.Match[str]]] = {}
    for value in VALUE.finditer(text):
        found = places.setdefault(value[1], [])
        found += CHARACTER.finditer(text, value.start(2), value.end(2))
    masked = list(text)
    for characters in places.values():
        said = "".join(one[0] if len(one[0]) == 1 else " " for one in characters)
        spans = [found.span() for found in KEYS.finditer(said)]
        spans += [found.span() for each in hidden for found in re.finditer(re.escape(each), said)]
        for begin, end in spans:
            for one in characters[begin:end]:
                masked[one.start() : one.end()] = "*" * len(one[0])
    return "".join(masked)
