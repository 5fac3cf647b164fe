"""The taps alone, without runs and events: a listener that writes everything down."""

from __future__ import annotations

import contextlib
from typing import Any

from dspy.clients import execution

from streamll.capture.deltas import (
    CitationDelta,
    Delta,
    ProviderChunk,
    RefusalDelta,
    ThinkingDelta,
    ToolCallFragment,
)
from streamll.capture.hooks.places import HTTP_CLIENTS, TRANSPORTS
from streamll.capture.tap import engine
from streamll.core.errors import Unwind

KINDS = {
    ThinkingDelta: "thinking",
    RefusalDelta: "refusal",
    ToolCallFragment: "tool_call",
    CitationDelta: "citation",
    ProviderChunk: "chunk",
}


class Notes:
    """A listener of one LM call: what it heard, attempt by attempt."""

    full = False

    def __init__(self, *, streaming: bool = True) -> None:
        self.streaming = streaming
        self.heard: list[tuple[Any, ...]] = []
        self.attempts = 0
        self.texts: list[str] = []
        self.results: list[Any] = []
        self.failures: list[BaseException] = []
        self.cancelled = False
        self.shutdown = None
        self.pauses = 0

    @property
    def text_so_far(self) -> str:
        return "".join(self.texts)

    def of(self, kind: str) -> list[Any]:
        return [note[1:] if len(note) > 2 else note[1] for note in self.heard if note[0] == kind]

    def begin(self) -> None:
        self.check()
        self.attempts += 1
        self.texts.clear()
        self.heard.append(("begin", self.attempts))

    def sent(self) -> None:
        pass

    def hear(self, delta: Delta) -> None:
        if isinstance(delta, str):
            self.texts.append(delta)
            self.heard.append(("text", delta))
        else:
            self.heard.append((KINDS[type(delta)], *delta))

    def must_pause(self) -> bool:
        self.check()
        return self.full

    def check(self) -> None:
        if self.cancelled:
            raise Unwind

    def pause(self) -> None:
        self.pauses += 1

    async def pause_async(self) -> None:
        self.pauses += 1

    def connected(self, shutdown: Any) -> None:
        self.shutdown = shutdown
        self.heard.append(("connected", True))

    def disconnected(self) -> None:
        self.shutdown = None
        self.heard.append(("connected", False))

    def waiting(self, reason: str) -> None:
        self.heard.append(("waiting", reason))

    def done(self, response: object | None) -> None:
        self.results.append(response)

    def failed(self, error: BaseException) -> None:
        self.failures.append(error)

    def cancel(self) -> None:
        self.cancelled = True
        if self.shutdown is not None:
            self.shutdown()


@contextlib.contextmanager
def tapped(make: Any = Notes) -> Any:
    """Every engine DSPy selects inside is tapped; yields the list of listeners, one per call."""
    listeners: list[Any] = []
    original = execution._select_engine

    def select(lm: Any, call: Any, asynchronous: bool) -> Any:
        backend, request, provider = original(lm, call, asynchronous)
        listeners.append(make())
        tap = engine.tap(backend, request, listeners[-1], asynchronous)
        return tap, request, provider

    execution._select_engine = select
    for table in (TRANSPORTS, HTTP_CLIENTS):
        table.install()
    try:
        yield listeners
    finally:
        execution._select_engine = original
        for table in (TRANSPORTS, HTTP_CLIENTS):
            table.uninstall()
