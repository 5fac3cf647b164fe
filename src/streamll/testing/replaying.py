"""``replay``: answers a program's requests from a recording, as the provider did."""

from __future__ import annotations

import dataclasses
import math
import os
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from unittest import mock
from urllib.parse import urlsplit

from streamll.core.events import Event
from streamll.sinks.memory import MemorySink
from streamll.testing.plan import HangUp, Head, Pause, Step, Write, json_body
from streamll.testing.record_file import (
    RecordedExchange,
    digest,
    recorded_events,
    recorded_exchanges,
)
from streamll.testing.record_sites import tapped_requests
from streamll.testing.recorded import RecordedRequest
from streamll.testing.recording import everything_watched, own_cache
from streamll.testing.server import PracticeServer
from streamll.testing.wires import PracticeWire
from streamll.testing.wires.base import encode

KEYS = (
    "OPENAI", "ANTHROPIC", "GEMINI", "GROQ", "OPENROUTER", "DEEPSEEK", "XAI", "AZURE", "CEREBRAS",
    "COHERE", "FIREWORKS_AI", "HUGGINGFACE", "MISTRAL", "NVIDIA_NIM", "PERPLEXITYAI", "TOGETHERAI",
    "VOYAGE",
)  # fmt: skip
"""Providers whose clients require a key; while replaying, a placeholder is set and never sent."""


class Replay:
    """The recording that is replayed, and what the program has requested of it so far."""

    def __init__(self, server: RecordedServer, sink: MemorySink, recorded: list[Event]) -> None:
        self.recorded = recorded
        self._server = server
        self._sink = sink

    @property
    def events(self) -> list[Event]:
        """The events of the programs that ran inside; ``recorded`` are those of the recording."""
        self._sink.catch_up(5.0)
        return list(self._sink.events)

    @property
    def requests(self) -> list[RecordedRequest]:
        """The requests that were made inside."""
        return self._server.requests[:]

    @property
    def unused(self) -> list[RecordedExchange]:
        """Recorded exchanges that no request has used yet."""
        return self._server.unused()


@contextmanager
def replay(path: str | os.PathLike[str], *, speed: float = 1.0) -> Iterator[Replay]:
    """Inside, requests are answered from a recording, chunk by chunk and without a network.

    >>> @pytest.fixture  # doctest: +SKIP
    ... def recorded():
    ...     with replay("paris.jsonl", speed=math.inf) as played:
    ...         yield played

    A request gets the reply that the same request got; equal requests get theirs in order. A
    request that is not in the recording fails with a message: the program has changed since.

    Args:
        speed: 2.0 replays twice as fast as recorded, ``math.inf`` without pauses.

    Raises:
        ValueError: ``speed`` is not positive.
        WireError: the file is not a recording.
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
        tapped_requests(partial(_redirected, server.url)),
        everything_watched(sink),
    ):
        yield Replay(server, sink, recorded)


def _redirected(url: str, request: Any) -> tuple[Any, None]:
    """The tap that sends every request to the server at ``url``, with its path."""
    there = f"{url}{urlsplit(request.url).path}"
    headers = [(name, value) for name, value in request.headers if name.lower() != "host"]
    return dataclasses.replace(request, url=there, headers=headers), None


class RecordedServer(PracticeServer):
    """The practice server, answering from a recording."""

    def __init__(self, exchanges: list[RecordedExchange], *, speed: float = 1.0) -> None:
        super().__init__()
        self.speed = speed
        self._lock = threading.Lock()
        self._unused: dict[str, deque[RecordedExchange]] = {}
        for exchange in exchanges:
            self._unused.setdefault(exchange.digest, deque()).append(exchange)

    def unused(self) -> list[RecordedExchange]:
        with self._lock:
            return [exchange for queue in self._unused.values() for exchange in queue]

    def _steps(self, record: RecordedRequest, wire: PracticeWire | None) -> list[Step]:
        with self._lock:
            queue = self._unused.get(digest(record.path, record.body))
            exchange = queue.popleft() if queue else None
        if exchange is None:
            message = "the recording has no further reply to this request"
            if queue is None:
                message = (
                    "the recording has no such request: the program has changed, or requests a "
                    "stream where it did not. Record it again"
                )
            error = {"message": message, "type": "invalid_request_error"}
            return json_body(400, encode({"error": {**error, "param": None, "code": None}}), [])
        return list(steps_of(exchange, self.speed))


def steps_of(exchange: RecordedExchange, speed: float = 1.0) -> Iterator[Step]:
    """The server's steps for a recorded exchange."""
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
