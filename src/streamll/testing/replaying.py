"""``replay``: a recording, played through the user's own program as if the provider sent it."""

from __future__ import annotations

import dataclasses
import math
import os
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock
from urllib.parse import urlsplit

from streamll.core.events import Event
from streamll.sinks.memory import MemorySink
from streamll.testing.plan import HangUp, Head, Pause, Step, Write, json_body
from streamll.testing.record_file import (
    ExchangeWriter,
    RecordedExchange,
    digest,
    recorded_events,
    recorded_exchanges,
)
from streamll.testing.record_sites import tapped_requests
from streamll.testing.recorded import RecordedRequest
from streamll.testing.recording import everything_watched, own_cache
from streamll.testing.server import PracticeServer
from streamll.testing.wires import Wire
from streamll.testing.wires.base import encode

KEYS = (
    "OPENAI", "ANTHROPIC", "GEMINI", "GROQ", "OPENROUTER", "DEEPSEEK", "XAI", "AZURE", "CEREBRAS",
    "COHERE", "FIREWORKS_AI", "HUGGINGFACE", "MISTRAL", "NVIDIA_NIM", "PERPLEXITYAI", "TOGETHERAI",
    "VOYAGE",
)  # fmt: skip
"""Providers whose clients want a key before they ask; none is sent anywhere."""


class Replay:
    """What ``replay`` gives: the recording, and how the program has done so far."""

    def __init__(self, server: RecordedServer, sink: MemorySink, recorded: list[Event]) -> None:
        self.recorded = recorded
        self._server = server
        self._sink = sink

    @property
    def events(self) -> list[Event]:
        """What the programs have said inside, as ``recorded`` is what they said then."""
        self._sink.catch_up(5.0)
        return list(self._sink.events)

    @property
    def requests(self) -> list[RecordedRequest]:
        """The requests that were made inside."""
        return self._server.requests[:]

    @property
    def unused(self) -> list[RecordedExchange]:
        """Recorded exchanges that no request has asked for yet."""
        return self._server.unused()


@contextmanager
def replay(path: str | os.PathLike[str], *, speed: float = 1.0) -> Iterator[Replay]:
    """Inside, models answer what ``record`` kept, chunk by chunk, and need no network.

    >>> @pytest.fixture  # doctest: +SKIP
    ... def recorded():
    ...     with replay("paris.jsonl", speed=math.inf) as played:
    ...         yield played

    A request gets the reply that the same request got; equal requests get theirs in order. One
    that is not in the recording fails, and says so: the program asks something else by now.

    Args:
        speed: 2.0 plays twice as fast as it was, ``math.inf`` at once.

    Raises:
        ValueError: a speed that is none.
        WireError: the file is no recording.
    """
    if not speed > 0:
        raise ValueError(f"speed is a positive number, not {speed!r}")
    recorded = list(recorded_events(path))
    sink = MemorySink()
    server = RecordedServer(recorded_exchanges(path), speed=speed)
    keys = {f"{name}_API_KEY": "replay" for name in KEYS if f"{name}_API_KEY" not in os.environ}
    keys["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # it would ask for prices when it is imported
    with (
        server,
        mock.patch.dict(os.environ, keys),
        own_cache(),
        tapped_requests(_Redirect(server.url)),
        everything_watched(sink),
    ):
        yield Replay(server, sink, recorded)


class _Redirect:
    """Sends every request to another server, path and all; the key stays here."""

    def __init__(self, url: str) -> None:
        self._url = url

    def request(self, request: Any) -> tuple[Any, ExchangeWriter | None]:
        there = f"{self._url}{urlsplit(request.url).path}"
        headers = [(name, value) for name, value in request.headers if name.lower() != "host"]
        return dataclasses.replace(request, url=there, headers=headers), None


class RecordedServer(PracticeServer):
    """The practice server, answering from a recording."""

    def __init__(self, exchanges: list[RecordedExchange], *, speed: float = 1.0) -> None:
        super().__init__()
        self.speed = speed
        self._lock = threading.Lock()
        self._waiting: dict[str, deque[RecordedExchange]] = {}
        for exchange in exchanges:
            self._waiting.setdefault(exchange.digest, deque()).append(exchange)

    def unused(self) -> list[RecordedExchange]:
        with self._lock:
            return [exchange for queue in self._waiting.values() for exchange in queue]

    def _steps(self, record: RecordedRequest, wire: Wire | None) -> list[Step]:
        with self._lock:
            queue = self._waiting.get(digest(record.path, record.body))
            exchange = queue.popleft() if queue else None
        if exchange is None:
            again = "the recording has fewer of this request" if queue is not None else ""
            message = again or (
                "the recording has no such request: the program asks something else than it did, "
                "or asks for a stream where it did not. Record it again"
            )
            error = {"message": message, "type": "invalid_request_error"}
            return json_body(400, encode({"error": {**error, "param": None, "code": None}}), [])
        return list(steps_of(exchange, self.speed))


def steps_of(exchange: RecordedExchange, speed: float = 1.0) -> Iterator[Step]:
    """A recorded exchange as what a server does."""
    now = 0.0

    def pause(until: float) -> Iterator[Step]:
        nonlocal now
        if until > now and not math.isinf(speed):
            yield Pause((until - now) / speed)
        now = max(now, until)

    if exchange.status is None:
        yield from pause(exchange.over_after or 0.0)
        yield HangUp()
        return
    yield from pause(exchange.opened_after)
    headers = [(name, value) for name, value in exchange.headers.items() if name != "content-type"]
    kind = exchange.headers.get("content-type", "application/json")
    yield Head(exchange.status, kind, headers)
    for after, data in exchange.chunks:
        yield from pause(after)
        yield Write(data, 1, 1)
    yield from pause(exchange.over_after or now)
    if not exchange.complete:
        yield HangUp()
