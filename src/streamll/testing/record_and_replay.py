"""``record`` keeps what a provider sends while a program runs; ``replay`` answers from it."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import urlsplit

from streamll.core.events import Event
from streamll.sinks.jsonl import JSONLSink
from streamll.sinks.memory import MemorySink
from streamll.testing import record_file
from streamll.testing.plan import HangUp, Head, Pause, Step, Write
from streamll.testing.record_file import RecordedExchange
from streamll.testing.record_sites import tapped_requests
from streamll.testing.recorded import RecordedRequest
from streamll.testing.routing import refused
from streamll.testing.server import PracticeServer
from streamll.testing.wires import PracticeWire

KEYS = (
    "OPENAI", "ANTHROPIC", "GEMINI", "GROQ", "OPENROUTER", "DEEPSEEK", "XAI", "AZURE", "CEREBRAS",
    "COHERE", "FIREWORKS_AI", "HUGGINGFACE", "MISTRAL", "NVIDIA_NIM", "PERPLEXITYAI", "TOGETHERAI",
    "VOYAGE",
)  # fmt: skip
"""Providers whose clients require a key; while replaying, a placeholder is set and never sent."""


@contextmanager
def record(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Record every program that runs inside: its events, and the provider's replies with timing.

    An existing file at ``path`` is replaced. Programs are streamed as under ``watch()``; DSPy's cache is
    replaced by an empty one, so that every request is made. The file has the provider's replies and
    what events show; of prompts only a digest, and no credentials. ``streamll.configure(redact=…)``
    applies to the events, not to the replies. Replies to calls under guards are not recorded: their
    events are, as the guards have left them, and such a file can be watched again but not replayed.

    Covers language models and embedders that DSPy calls with its own provider client or through
    LiteLLM.

    Examples:
        >>> with record("paris.jsonl"):  # doctest: +SKIP
        ...     qa(question="What is the capital of France?")
    """
    file = Path(path)
    sink = JSONLSink(file, append=False)
    writer = record_file.RecordingWriter(file)
    try:
        with own_cache(), tapped_requests(writer.tap), everything_watched(sink):
            yield file
    finally:
        sink.stop()
        writer.close()


@contextmanager
def own_cache() -> Iterator[None]:
    """Inside, DSPy has an empty cache in memory, so that every request is made again."""
    import dspy
    from dspy.clients.cache import Cache

    before = vars(dspy).get("cache")
    fresh = Cache(enable_disk_cache=False, enable_memory_cache=True, disk_cache_dir="")
    dspy.cache = fresh
    try:
        yield
    finally:
        if before is not None:
            dspy.cache = before
        else:
            vars(dspy).pop("cache", None)


@contextmanager
def everything_watched(sink: Any) -> Iterator[None]:
    """Inside, every program is captured, all fields are streamed, and ``sink`` gets the events."""
    import streamll
    from streamll.capture.run import options
    from streamll.configuration import configuration, configure

    with (
        configure(sinks=[*configuration.sinks, sink]),
        streamll.watch(sinks=[sink]) if options.watching is None else nullcontext(),
    ):
        yield


@dataclass(eq=False, repr=False)
class Replay:
    """The recording that is replayed, and what the program has requested of it so far."""

    recorded: list[Event]
    _server: RecordedServer
    _sink: MemorySink

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
        return list(chain(*map(list, self._server.queues.values())))


@contextmanager
def replay(path: str | os.PathLike[str], *, speed: float = 1.0) -> Iterator[Replay]:
    """Inside, requests are answered from a recording, chunk by chunk and without a network.

    A request gets the reply that the same request got; equal requests get theirs in order. A
    request that is not in the recording fails with a message: the program has changed since.

    Args:
        path: the file that ``record`` wrote.
        speed: 2.0 replays twice as fast as recorded, ``math.inf`` without pauses.

    Raises:
        ValueError: ``speed`` is not positive.
        WireError: the file is not a recording.

    Examples:
        >>> @pytest.fixture  # doctest: +SKIP
        ... def recorded():
        ...     with replay("paris.jsonl", speed=math.inf) as played:
        ...         yield played
    """
    if not speed > 0:
        raise ValueError(f"speed is a positive number, not {speed!r}")
    recorded = list(record_file.recorded_events(path))
    sink = MemorySink()
    server = RecordedServer(record_file.recorded_exchanges(path), speed=speed)
    keys = {f"{name}_API_KEY": "replay" for name in KEYS if f"{name}_API_KEY" not in os.environ}
    keys["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # it would ask for prices when it is imported
    with (
        server,
        mock.patch.dict(os.environ, keys),
        own_cache(),
        tapped_requests(partial(_redirected, server.url)),
        everything_watched(sink),
    ):
        yield Replay(recorded, server, sink)


def _redirected(url: str, request: Any) -> tuple[Any, None]:
    """The tap that sends every request to the server at ``url``, with its path."""
    there = f"{url}{urlsplit(request.url).path}"
    headers = [(name, value) for name, value in request.headers if name.lower() != "host"]
    return replace(request, url=there, headers=headers), None


class RecordedServer(PracticeServer):
    """The practice server, answering from a recording."""

    def __init__(self, exchanges: list[RecordedExchange], *, speed: float = 1.0) -> None:
        super().__init__()
        self.speed = speed
        self.queues: dict[str, deque[RecordedExchange]] = {}  # by the request's digest
        for exchange in exchanges:
            self.queues.setdefault(exchange.digest, deque()).append(exchange)

    def _steps(self, record: RecordedRequest, wire: PracticeWire | None) -> list[Step]:
        queue = self.queues.get(record_file.digest(record.path, record.body))
        exchange = queue.popleft() if queue else None
        if exchange is not None and not exchange.guarded:
            return list(steps_of(exchange, self.speed))
        problem = "the recording has no further reply to this request"
        if exchange is not None:
            problem = (
                "the reply to this request was not recorded: guards were at work. Record it again "
                "without them"
            )
        elif queue is None:
            problem = (
                "the recording has no such request: the program has changed, or requests a "
                "stream where it did not. Record it again"
            )
        return refused(400, problem)


def steps_of(exchange: RecordedExchange, speed: float = 1.0) -> Iterator[Step]:
    """The server's steps for a recorded exchange."""
    now = 0.0

    def pause(until: float) -> Step:
        nonlocal now
        before, now = now, max(now, until)
        return Pause((now - before) / speed)

    if exchange.status is None:
        yield pause(exchange.over_after or 0.0)
        yield HangUp()
        return
    yield pause(exchange.opened_after)
    headers = [(name, value) for name, value in exchange.headers.items() if name != "content-type"]
    kind = exchange.headers.get("content-type", "application/json")
    yield Head(exchange.status, kind, headers)
    for after, data in exchange.chunks:
        yield pause(after)
        yield Write(data, 1, 1)
    yield pause(exchange.over_after or now)
    if not exchange.complete:
        yield HangUp()
