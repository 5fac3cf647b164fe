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
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Executor
from typing import Any

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
        if not matches or not self._where:
            return matches
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


Calls = deque[tuple[Event, Subscription]]


async def call_handlers(
    events: Sequence[Event],
    subscriptions: Sequence[Subscription],
    *,
    executor: Executor,
    backoff: Backoff,
    counts: ConsumerStatistics,
    on_failure: Callable[[Event, Handler, Exception], Awaitable[bool]],
) -> bool:
    """Give every event to every handler that wants it, in order.

    A handler that fails is called again after a pause, until ``backoff`` gives up; then
    ``on_failure`` gets its event and error. False if that could not settle one of them.
    """
    calls = deque((event, each) for event in events for each in subscriptions if each.wants(event))
    settled, failures = True, 0
    while calls:
        left = len(calls)
        error = await _advance(calls, executor)
        if len(calls) < left:
            failures = 0
        if error is None:
            continue
        failures += 1
        pause = backoff.delay(failures)
        if pause is None:
            event, each = calls.popleft()
            settled = await on_failure(event, each.handler, error) and settled
            failures = 0
        else:
            counts.retried += 1
            await asyncio.sleep(pause)
    return settled


async def _advance(calls: Calls, executor: Executor) -> Exception | None:
    """Make calls, at least one, until one fails; return its error. What is done leaves ``calls``."""
    event, each = calls[0]
    try:
        if each.is_async:
            await each.handler(event)
        else:
            context, loop = contextvars.copy_context(), asyncio.get_running_loop()
            error, awaitable = await loop.run_in_executor(executor, context.run, _call_plain, calls)
            if awaitable is None:
                return error
            await awaitable
    except Exception as error:  # noqa: BLE001 - a handler may fail in any way
        return error
    calls.popleft()
    return None


def _call_plain(calls: Calls) -> tuple[Exception | None, Any]:
    """On a thread: make the plain calls up to the next async one, or one that returns an awaitable."""
    while calls and not calls[0][1].is_async:
        event, each = calls[0]
        try:
            outcome = each.handler(event)
        except Exception as error:  # noqa: BLE001 - a handler may fail in any way
            return error, None
        if inspect.isawaitable(outcome):
            return None, outcome
        calls.popleft()
    return None, None
