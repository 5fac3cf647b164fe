"""Which handler wants which event, and calling it until it succeeds or retries are used up.

``async`` handlers run on the consumer's event loop, others on threads. The calls for one entry are
made one after the other; ``PerKeyQueue`` says what may run beside them.
"""

from __future__ import annotations

import asyncio
import contextvars
import fnmatch
import functools
import inspect
import re
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from concurrent.futures import Executor
from typing import Any, Generic, TypeVar

from streamll.consumer.session import ConsumerStatistics
from streamll.core.errors import ConfigurationError, logger
from streamll.core.events import Event
from streamll.core.wire import as_read
from streamll.flow.retry import Backoff

T = TypeVar("T")
Handler = Callable[[Event], Any]
_MISSING = object()


class EventFilter:
    """Event types (globs such as ``tool.*``) and values that an event must have.

    Raises:
        ConfigurationError: no types.
    """

    def __init__(
        self, types: str | Sequence[str] = "*", where: Mapping[str, Any] | None = None
    ) -> None:
        patterns = [types] if isinstance(types, str) else list(types)
        if not patterns:  # which would match every type
            raise ConfigurationError("on([]) would never be called: name a type, or '*' for all")
        pattern = re.compile("|".join(map(fnmatch.translate, patterns)))
        self._matches = functools.cache(pattern.match)
        self._where = {  # as the program may have set it, and as the log then has it
            key: (value, as_read(value)) for key, value in dict(where or {}).items()
        }

    def __call__(self, event: Event) -> bool:
        matches = self._matches(event.event_type) is not None
        if not matches or not self._where:
            return matches
        data = event.data
        return all(
            (event.run_id if key == "run_id" else data.get(key, _MISSING)) in values
            for key, values in self._where.items()
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
    on_failure: Callable[[Event, Handler, BaseException], Awaitable[bool]],
    cancelled: Callable[[], bool],
) -> bool:
    """Give every event to every handler that wants it, in order.

    A handler that fails is called again after a pause, until ``backoff`` gives up; then
    ``on_failure`` gets its event and error. False if that could not settle one of them.
    ``cancelled`` says whether it is this task that is cancelled, and not what a handler waits for.
    """
    calls = deque((event, each) for event in events for each in subscriptions if each.wants(event))
    settled, failures = True, 0
    while calls:
        left = len(calls)
        error = await _advance(calls, executor, cancelled)
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


async def _advance(
    calls: Calls, executor: Executor, cancelled: Callable[[], bool]
) -> BaseException | None:
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
    except asyncio.CancelledError as error:
        if cancelled():
            raise
        return error  # somebody has cancelled what the handler waited for: it has failed
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


class PerKeyQueue(Generic[T]):
    """A bounded queue whose items are worked on in order per key, and concurrently across keys.

    Works on up to ``concurrency`` keys at a time. ``work`` must not raise: what it raises is logged, and
    the item counts as done. ``capacity`` bounds the weight of the items that wait or are worked on.
    """

    def __init__(
        self, work: Callable[[T], Awaitable[None]], *, concurrency: int, capacity: int
    ) -> None:
        self._work = work
        self._slots = asyncio.Semaphore(concurrency)
        self._capacity = capacity
        self._load = 0
        self._queues: dict[Hashable, deque[tuple[T, int]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._freed = asyncio.Event()
        self._cancelled = False

    @property
    def cancelled(self) -> bool:
        """Whether the task that asks, one of this queue's, is being cancelled."""
        cancelling = getattr(asyncio.current_task(), "cancelling", None)  # not in Python 3.10
        return self._cancelled or (cancelling is not None and cancelling() > 0)

    async def add(self, key: Hashable, item: T, weight: int) -> None:
        """Queue an item; waits while the capacity is used up, unless the queue is empty."""
        while self._load and self._load + weight > self._capacity:
            self._freed.clear()
            await self._freed.wait()
        self._load += weight
        queue = self._queues.setdefault(key, deque())
        queue.append((item, weight))
        if len(queue) == 1:
            task = asyncio.create_task(self._drain(key))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def join(self) -> None:
        """Wait until all items are done."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def cancel(self) -> None:
        self._cancelled = True
        for task in self._tasks:
            task.cancel()

    async def _drain(self, key: Hashable) -> None:
        queue = self._queues[key]
        while queue:
            item, weight = queue[0]
            async with self._slots:
                try:
                    await self._work(item)
                except Exception:  # the key's next items and the capacity must not be lost with it
                    logger.exception("consumer: an entry was left unhandled")
            queue.popleft()
            self._load -= weight
            self._freed.set()
        del self._queues[key]
