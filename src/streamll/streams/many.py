"""Many streams at once: a cap per key, a rate, results in the order of the questions.

Runs on one event loop: the caller's, or one of its own in synchronous code.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Iterable
from typing import Any, TypeVar

from streamll.flow.limits import Rate, slots_for
from streamll.flow.waiting import on_event_loop
from streamll.streams.collect import Collected, acollect, collect
from streamll.streams.sources import checked

T = TypeVar("T")

MAX_CONCURRENT = 8
KeyOf = Callable[[Any], Hashable]


def collect_stream(stream: Any) -> Any:
    """Read a stream to its end: a ``Collected`` with text per field, usage and times.

    ``collect_stream(stream)`` in synchronous code, ``await collect_stream(stream)`` on an event
    loop. A failed stream gives its text until then and its ``error``; ``.result()`` raises that.
    """
    checked(stream)
    return acollect(stream) if on_event_loop() else collect(stream)


def gather(
    streams: Iterable[Any],
    *,
    max_concurrent: int = MAX_CONCURRENT,
    rate: float | None = None,
    key_of: KeyOf = lambda _: None,
    on_event: Callable[[int, Any], None] | None = None,
) -> Any:
    """See ``streamll.gather_streams``."""
    sources = [checked(stream) for stream in streams]
    pace = Rate(rate) if rate is not None else None

    async def one(place: int, source: Any) -> Collected:
        slots = slots_for(key_of(source))
        await slots.take_async(max_concurrent)
        try:
            if pace is not None:
                await pace.wait_async()
            hear = None if on_event is None else lambda item: on_event(place, item)
            return await acollect(source, hear)
        finally:
            slots.give()

    return here_or_there(_all([one(place, source) for place, source in enumerate(sources)]))


async def _all(work: list[Coroutine[Any, Any, Collected]]) -> list[Collected]:
    tasks = [asyncio.create_task(each) for each in work]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        if pending := [task for task in tasks if not task.done()]:
            await asyncio.wait(pending, timeout=2.0)


def here_or_there(work: Coroutine[Any, Any, T]) -> Awaitable[T] | T:
    """On an event loop the coroutine, to be awaited; in synchronous code its result."""
    return work if on_event_loop() else asyncio.run(work)
