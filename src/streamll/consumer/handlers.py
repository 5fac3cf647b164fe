"""Which handler wants which event, and calling it until it succeeds or there is no hope.

``async`` handlers run on the consumer's event loop, others on threads. The calls of one entry
come one after the other; what may run beside it is the caller's business (``queue``).
"""

from __future__ import annotations

import asyncio
import contextvars
import fnmatch
import inspect
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Executor
from typing import Any, Protocol

import msgspec

from streamll.core.events import Event
from streamll.flow.retry import Backoff

Handler = Callable[[Event], Any]
_MISSING = object()


class EventFilter:
    """Types (globs such as ``tool.*``) and values that an event must have."""

    def __init__(
        self, types: str | Sequence[str] = "*", where: Mapping[str, Any] | None = None
    ) -> None:
        patterns = [types] if isinstance(types, str) else list(types)
        self._matches = re.compile("|".join(fnmatch.translate(pattern) for pattern in patterns))
        self._where = dict(where or {})
        self._types: dict[str, bool] = {}

    def __call__(self, event: Event) -> bool:
        kind = event.event_type
        matches = self._types.get(kind)
        if matches is None:
            matches = self._types[kind] = self._matches.match(kind) is not None
        return matches and (not self._where or self._has_values(event))

    def _has_values(self, event: Event) -> bool:
        data = event.data
        return all(
            (event.run_id if key == "run_id" else data.get(key, _MISSING)) == value
            for key, value in self._where.items()
        )


class Subscription(msgspec.Struct):
    """A handler and what it wants."""

    wanted: EventFilter
    handler: Handler
    asynchronous: bool


def subscription(handler: Handler, wanted: EventFilter) -> Subscription:
    if not callable(handler):
        raise TypeError(f"a handler is a function of one event, not {type(handler).__name__}")
    calls = handler if inspect.isroutine(handler) else getattr(handler, "__call__", handler)  # noqa: B004
    return Subscription(wanted, handler, inspect.iscoroutinefunction(calls))


class HandlerFailure(msgspec.Struct):
    """A handler that failed for good."""

    event: Event
    handler: Handler
    error: Exception


class Counts(Protocol):
    """Where retries are counted."""

    retried: int


class HandlerRunner:
    """Calls handlers, each again after a pause until the backoff gives up."""

    def __init__(self, executor: Executor, backoff: Backoff, counts: Counts) -> None:
        self._executor = executor
        self._backoff = backoff
        self._counts = counts

    async def call(
        self,
        events: Sequence[Event],
        subscriptions: Sequence[Subscription],
        failed: Callable[[HandlerFailure], Awaitable[bool]],
    ) -> bool:
        """Give every event to every handler that wants it, in order.

        ``failed`` is told of those that fail for good; False if it could not do anything about
        one of them.
        """
        calls = [(event, each) for event in events for each in subscriptions if each.wanted(event)]
        place = failures = 0
        settled = True
        while place < len(calls):
            before = place
            place, error = await self._advance(calls, place)
            failures = 0 if place > before else failures
            if error is None:
                continue
            failures += 1
            pause = self._backoff.delay(failures)
            if pause is not None:
                self._counts.retried += 1
                await asyncio.sleep(pause)
                continue
            event, each = calls[place]
            settled = await failed(HandlerFailure(event, each.handler, error)) and settled
            place, failures = place + 1, 0
        return settled

    async def _advance(
        self, calls: list[tuple[Event, Subscription]], place: int
    ) -> tuple[int, Exception | None]:
        """Make calls until one fails: how far it came, and why no further."""
        event, each = calls[place]
        if not each.asynchronous:
            context = contextvars.copy_context()
            loop = asyncio.get_running_loop()
            place, error, pending = await loop.run_in_executor(
                self._executor, context.run, _call_plain, calls, place
            )
            if pending is None:
                return place, error
        else:
            pending = each.handler
        try:
            if pending is each.handler:
                pending = each.handler(event)
            await pending
        except Exception as raised:  # noqa: BLE001 - a handler may fail in any way
            return place, raised
        return place + 1, None


def _call_plain(
    calls: list[tuple[Event, Subscription]], place: int
) -> tuple[int, Exception | None, Any]:
    """On a thread: make the plain calls up to the next async one, or one that returns a coroutine."""
    while place < len(calls):
        event, each = calls[place]
        if each.asynchronous:
            break
        try:
            outcome = each.handler(event)
        except Exception as error:  # noqa: BLE001 - a handler may fail in any way
            return place, error, None
        if inspect.isawaitable(outcome):
            return place, None, outcome
        place += 1
    return place, None, None
