"""Which handler wants which event, and calling it until it succeeds or retries are used up.

``async`` handlers run on the consumer's event loop, others on threads. The calls for one entry are
made one after the other; what may run beside them is up to the caller (``per_key_queue``).
"""

from __future__ import annotations

import asyncio
import contextvars
import fnmatch
import inspect
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Executor
from typing import Any

import msgspec

from streamll.consumer.state import ConsumerStatistics
from streamll.core.events import Event
from streamll.flow.retry import Backoff

Handler = Callable[[Event], Any]
_MISSING = object()


class EventFilter:
    """Event types (globs such as ``tool.*``) and values that an event must have."""

    def __init__(
        self, types: str | Sequence[str] = "*", where: Mapping[str, Any] | None = None
    ) -> None:
        patterns = [types] if isinstance(types, str) else list(types)
        self._pattern = re.compile("|".join(fnmatch.translate(pattern) for pattern in patterns))
        self._where = dict(where or {})
        self._types: dict[str, bool] = {}  # event types seen, and whether they match

    def __call__(self, event: Event) -> bool:
        kind = event.event_type
        matches = self._types.get(kind)
        if matches is None:
            matches = self._types[kind] = self._pattern.match(kind) is not None
        return matches and (not self._where or self._has_values(event))

    def _has_values(self, event: Event) -> bool:
        data = event.data
        return all(
            (event.run_id if key == "run_id" else data.get(key, _MISSING)) == value
            for key, value in self._where.items()
        )


class Subscription:
    """A handler and which events it wants."""

    def __init__(self, handler: Handler, wants: EventFilter) -> None:
        if not callable(handler):
            raise TypeError(f"a handler is a function of one event, not {type(handler).__name__}")
        self.handler = handler
        self.wants = wants
        calls = handler if inspect.isroutine(handler) else getattr(handler, "__call__", handler)  # noqa: B004
        self.is_async = inspect.iscoroutinefunction(calls)


class HandlerFailure(msgspec.Struct):
    """A handler that still raised after all its retries."""

    event: Event
    handler: Handler
    error: Exception


class HandlerRunner:
    """Calls handlers; a failing one again after a pause, until the backoff gives up."""

    def __init__(self, executor: Executor, backoff: Backoff, counts: ConsumerStatistics) -> None:
        self._executor = executor
        self._backoff = backoff
        self._counts = counts

    async def call(
        self,
        events: Sequence[Event],
        subscriptions: Sequence[Subscription],
        on_failure: Callable[[HandlerFailure], Awaitable[bool]],
    ) -> bool:
        """Give every event to every handler that wants it, in order.

        ``on_failure`` gets those that fail for good. False if it could not settle one of them.
        """
        calls = [(event, each) for event in events for each in subscriptions if each.wants(event)]
        done = failures = 0
        settled = True
        while done < len(calls):
            before = done
            done, error = await self._advance(calls, done)
            failures = 0 if done > before else failures
            if error is None:
                continue
            failures += 1
            pause = self._backoff.delay(failures)
            if pause is not None:
                self._counts.retried += 1
                await asyncio.sleep(pause)
                continue
            event, each = calls[done]
            settled = await on_failure(HandlerFailure(event, each.handler, error)) and settled
            done, failures = done + 1, 0
        return settled

    async def _advance(
        self, calls: list[tuple[Event, Subscription]], start: int
    ) -> tuple[int, Exception | None]:
        """Make calls from ``start`` on until one fails; return how many are done, and the error."""
        event, each = calls[start]
        awaitable = None
        if not each.is_async:
            context = contextvars.copy_context()
            loop = asyncio.get_running_loop()
            start, error, awaitable = await loop.run_in_executor(
                self._executor, context.run, _call_plain, calls, start
            )
            if awaitable is None:
                return start, error
        try:
            await (each.handler(event) if awaitable is None else awaitable)
        except Exception as raised:  # noqa: BLE001 - a handler may fail in any way
            return start, raised
        return start + 1, None


def _call_plain(
    calls: list[tuple[Event, Subscription]], done: int
) -> tuple[int, Exception | None, Any]:
    """On a thread: make the plain calls up to the next async one, or one that returns an awaitable."""
    while done < len(calls):
        event, each = calls[done]
        if each.is_async:
            break
        try:
            outcome = each.handler(event)
        except Exception as error:  # noqa: BLE001 - a handler may fail in any way
            return done, error, None
        if inspect.isawaitable(outcome):
            return done, None, outcome
        done += 1
    return done, None, None
